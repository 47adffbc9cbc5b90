//! A service of a compose file as a request: with an image, for the engine's tasks; without, for containers of others.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::container::{self, without_nothing};
use super::part::Part;
use super::{Kind, Service, Source, deploy, networks, ports};
use crate::api::v1::{CreateService, PortRequest, ServiceNetworkObject, ServiceNetworkRequest};
use crate::model::service::Mode;

/// The label that selects the members of a service without an image.
const SELECT: &str = "netd.select";
/// The label by which Docker's client knows the image again.
pub(in crate::faces::cli::stack) const IMAGE: &str = "com.docker.stack.image";
/// What a service without an image may have.
const NETWORKING: [&str; 5] = ["networks", "ports", "labels", "deploy", "depends_on"];
const NETWORKING_DEPLOY: [&str; 3] = ["labels", "endpoint_mode", "mode"];

/// The keys of a service's networks, with its further names there.
pub(super) fn networks(service: &Part<'_>) -> Result<Vec<(String, Vec<String>)>, String> {
    let given = service.at("networks");
    let mut found = Vec::new();
    if given.value().is_array() {
        found.extend(given.texts()?.into_iter().map(|key| (key, Vec::new())));
    } else {
        for (key, part) in given.entries()? {
            // As in Docker's stacks, an address is of no effect: there are several tasks.
            part.only(&["aliases", "ipv4_address", "ipv6_address", "driver_opts", "priority"])?;
            if part.at("driver_opts").is_given() {
                return Err(part.at("driver_opts").wrong("cannot be used: netd has no such options"));
            }
            found.push((key, part.at("aliases").texts()?));
        }
    }
    if found.is_empty() {
        found.push((networks::DEFAULT.to_owned(), Vec::new()));
    }
    Ok(found)
}

/// The service. `root` is the whole file.
pub(super) fn read(key: &str, root: &Part<'_>, source: &Source<'_>) -> Result<Service, String> {
    let service = root.at("services").at(key);
    let mut on = Vec::new();
    for (network, mut aliases) in networks(&service)? {
        aliases.push(key.to_owned());
        on.push((networks::name(&network, &root.at("networks"), source)?, aliases));
    }
    on.sort();
    let name = source.scoped(key);
    let has_image = service.at("image").text()?.is_some_and(|image| !image.is_empty());
    let kind = if has_image {
        Kind::Tasks(with_tasks(&name, &service, &root.at("volumes"), on, source)?)
    } else {
        Kind::Select(Box::new(networking(&name, &service, on, source)?))
    };
    Ok(Service { name, kind })
}

fn with_tasks(
    name: &str,
    service: &Part<'_>,
    volumes: &Part<'_>,
    on: Vec<(String, Vec<String>)>,
    source: &Source<'_>,
) -> Result<Value, String> {
    let deploy = service.at("deploy");
    let mode = deploy::mode(&deploy)?;
    let mut labels = source.labels(deploy.at("labels").labels()?);
    labels[IMAGE] = service.at("image").text_or_empty()?.into();
    let on: Vec<Value> = on.into_iter().map(|(name, aliases)| json!({"Target": name, "Aliases": aliases})).collect();
    let template = json!({
        "ContainerSpec": container::read(service, volumes, source)?,
        "Resources": deploy::resources(&deploy.at("resources"))?,
        "RestartPolicy": deploy::restart(&deploy.at("restart_policy"))?,
        "Placement": deploy::placement(&deploy.at("placement"))?,
        "Networks": on,
        "LogDriver": deploy::logging(&service.at("logging"))?,
    });
    let mut endpoint = Map::new();
    if let Some(mode) = deploy.at("endpoint_mode").text()? {
        endpoint.insert("Mode".into(), mode.to_ascii_lowercase().into());
    }
    endpoint.insert("Ports".into(), json!(ports::read(&service.at("ports"))?));
    Ok(without_nothing(json!({
        "Name": name,
        "Labels": labels,
        "TaskTemplate": without_nothing(template),
        "Mode": mode,
        "UpdateConfig": deploy::update(&deploy.at("update_config"))?,
        "RollbackConfig": deploy::update(&deploy.at("rollback_config"))?,
        "EndpointSpec": without_nothing(Value::Object(endpoint)),
    })))
}

fn networking(
    name: &str,
    service: &Part<'_>,
    on: Vec<(String, Vec<String>)>,
    source: &Source<'_>,
) -> Result<CreateService, String> {
    let deploy = service.at("deploy");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let given = service.at("labels").labels()?.into_iter().chain(deploy.at("labels").labels()?).collect();
    let labels: BTreeMap<String, String> =
        source.labels(given).as_object().into_iter().flatten().map(|(key, value)| (key.clone(), text(value))).collect();
    let Some(select) = labels.get(SELECT) else {
        return Err(
            service.wrong(format!("has neither an image nor a label {SELECT}: \"KEY=VALUE\" that selects its members"))
        );
    };
    for (key, part) in service.entries()? {
        if part.is_given() && !NETWORKING.contains(&key.as_str()) && !key.starts_with("x-") && key != "image" {
            return Err(part.wrong("means nothing without an image"));
        }
    }
    for (key, part) in deploy.entries()? {
        if part.is_given() && !NETWORKING_DEPLOY.contains(&key.as_str()) {
            return Err(part.wrong("means nothing without an image"));
        }
    }
    let pairs = select.split(',').map(|pair| pair.trim().split_once('=').filter(|(key, _)| !key.is_empty()));
    let pairs: Option<BTreeMap<String, String>> =
        pairs.map(|pair| pair.map(|(key, value)| (key.to_owned(), value.to_owned()))).collect();
    let select =
        pairs.ok_or_else(|| service.wrong(format!("has a label {SELECT} that is not KEY=VALUE: {select:?}")))?;
    let mode = match deploy.at("endpoint_mode").text()?.as_deref() {
        None | Some("vip" | "") => Mode::Vip,
        Some("dnsrr") => Mode::Dns,
        Some(other) => return Err(deploy.at("endpoint_mode").wrong(format!("is {other:?}: use vip or dnsrr"))),
    };
    let mut networks = Vec::new();
    for (network, aliases) in on {
        let aliases =
            aliases.iter().map(|alias| alias.parse().map_err(|bad| service.wrong(format!("has a bad name: {bad}"))));
        let aliases = aliases.collect::<Result<_, String>>()?;
        networks.push(ServiceNetworkRequest::Object(ServiceNetworkObject { network, aliases }));
    }
    let mut published = Vec::new();
    for port in ports::read(&service.at("ports"))? {
        let spec = ports::spec(&port).map_err(|why| service.wrong(why))?;
        published.push(PortRequest::Spec(spec.parse().map_err(|bad| service.wrong(format!("has a bad port: {bad}")))?));
    }
    Ok(CreateService {
        name: name.to_owned(),
        networks,
        select,
        mode: Some(mode),
        ports: published,
        labels,
        ..CreateService::default()
    })
}
