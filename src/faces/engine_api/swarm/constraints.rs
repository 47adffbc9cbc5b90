//! Placement: whether this node, the only one, fulfils a service's constraints (swarmkit, manager/constraint).

use super::invalid;
use crate::faces::engine_api::failure::Failure;
use crate::faces::engine_api::swarm_state::SwarmState;

/// Refuses a constraint that this node does not fulfil: no task would ever run.
pub(super) fn check(constraint: &str, state: &SwarmState, hostname: &str, architecture: &str) -> Result<(), Failure> {
    let (key, is_equal, value) = match (constraint.split_once("=="), constraint.split_once("!=")) {
        (Some((key, value)), _) => (key, true, value),
        (None, Some((key, value))) => (key, false, value),
        (None, None) => {
            return Err(invalid(format!("constraint expected one operator from ==, !=: {constraint:?}")));
        }
    };
    let (key, value) = (key.trim(), value.trim());
    let label = |key: &str| state.node_spec.labels.get(key).map(String::as_str).unwrap_or_default();
    let own = match key.to_ascii_lowercase().as_str() {
        "node.id" => state.node.as_str(),
        "node.hostname" => hostname,
        "node.role" => "manager",
        "node.platform.os" => "linux",
        "node.platform.arch" => architecture,
        "node.ip" => state.address.as_str(),
        lower if lower.starts_with("node.labels.") => label(&key["node.labels.".len()..]),
        lower if lower.starts_with("engine.labels.") => "",
        _ => return Err(invalid(format!("invalid constraint key {key:?}"))),
    };
    if own.eq_ignore_ascii_case(value) == is_equal {
        return Ok(());
    }
    let why =
        format!("the only node of netd's swarm does not fulfil the constraint {constraint:?}: its {key} is {own:?}");
    Err(Failure::bad(why))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_one_node_decides() {
        let mut state = SwarmState::new("10.0.0.1".into(), &json!({}));
        state.node_spec.labels.insert("disk".into(), "ssd".into());
        let fits = |constraint: &str| check(constraint, &state, "host1", "x86_64").is_ok();
        assert!(fits("node.role==manager") && fits("node.role == manager") && fits("node.role!=worker"));
        assert!(fits("node.hostname==host1") && fits(&format!("node.id=={}", state.node)));
        assert!(fits("node.labels.disk==ssd") && fits("node.labels.zone!=b") && fits("node.platform.os==linux"));
        for wrong in
            ["node.role==worker", "node.hostname!=host1", "node.labels.disk==hdd", "nonsense", "x==y", "node.id==z"]
        {
            assert!(!fits(wrong), "{wrong}");
        }
    }
}
