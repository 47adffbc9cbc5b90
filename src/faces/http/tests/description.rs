//! The description of the API: what it says of failures, and where its links lead.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::faces::http::description;

/// Each operation with its path and method.
fn operations() -> BTreeMap<String, Value> {
    let description = serde_json::to_value(description()).unwrap();
    let mut found = BTreeMap::new();
    for (path, item) in description["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            if operation.get("responses").is_some() {
                found.insert(format!("{method} {path}"), operation.clone());
            }
        }
    }
    assert!(found.len() > 40, "{}", found.len());
    found
}

#[test]
fn an_operation_that_takes_something_says_that_it_can_be_invalid() {
    for (name, operation) in operations() {
        let takes = operation.get("parameters").is_some() || operation.get("requestBody").is_some();
        assert_eq!(operation["responses"].get("400").is_some(), takes, "{name}");
        let body = &operation["responses"]["default"]["content"]["application/json"]["schema"]["$ref"];
        assert_eq!(body, "#/components/schemas/ErrorBody", "{name}");
    }
}

/// A generated client finds the bounds in the description only.
#[test]
fn every_text_in_a_path_has_a_form() {
    for (name, operation) in operations() {
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            let text = parameter["in"] == "path" && parameter["schema"].get("pattern").is_none();
            assert!(!text, "{name}: {parameter}");
            let null = parameter["schema"]["type"].is_array();
            assert!(!null, "{name}: a query cannot say null: {parameter}");
        }
    }
}

#[test]
fn links_lead_to_operations_and_fill_in_their_paths() {
    let operations = operations();
    let by_id: BTreeMap<&str, &Value> =
        operations.values().map(|operation| (operation["operationId"].as_str().unwrap(), operation)).collect();
    let mut count = 0;
    for (name, operation) in &operations {
        let responses = operation["responses"].as_object().unwrap().values();
        let links = responses.filter_map(|response| response["links"].as_object()).flatten();
        for (link, described) in links {
            let target = by_id.get(described["operationId"].as_str().unwrap());
            let target = target.unwrap_or_else(|| panic!("{name}: link {link} leads nowhere"));
            let parameters = target["parameters"].as_array().unwrap().iter();
            let in_path = parameters.filter(|parameter| parameter["in"] == "path");
            for parameter in in_path.map(|parameter| parameter["name"].as_str().unwrap()) {
                assert!(described["parameters"].get(parameter).is_some(), "{name}: link {link} lacks {parameter}");
            }
            count += 1;
        }
    }
    assert!(count > 10, "{count} links");
}
