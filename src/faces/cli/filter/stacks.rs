//! The filters of `netd stack services` and `netd stack ps`.

use super::{BadFilter, Filter, Key, Value, all, exact, label, parse, part};
use crate::faces::cli::stacked::{StackService, StackTask};

const SERVICES: &[Key] = &[
    ("id", part),
    ("label", label),
    ("mode", |text| MODES.contains(&text).then(|| exact(text)).flatten()),
    ("name", part),
    ("network", exact),
];

/// Those of Docker, and those of services without an image.
const MODES: &[&str] = &["replicated", "global", "vip", "dns"];

const TASKS: &[Key] = &[("desired-state", state), ("id", part), ("name", part), ("node", part)];

const STATES: &[&str] = &["running", "shutdown", "accepted", "remove"];

/// In whichever case, as with Docker.
fn state(text: &str) -> Option<Value> {
    let text = text.to_ascii_lowercase();
    STATES.contains(&text.as_str()).then(|| exact(&text)).flatten()
}

/// Reads one filter of a stack's services.
pub(in crate::faces::cli) fn stack_service(text: &str) -> Result<Filter, BadFilter> {
    parse(text, SERVICES)
}

/// Reads one filter of a stack's tasks.
pub(in crate::faces::cli) fn stack_task(text: &str) -> Result<Filter, BadFilter> {
    parse(text, TASKS)
}

/// Leaves the services for which all filters hold.
pub(in crate::faces::cli) fn stack_services(services: &mut Vec<StackService>, filters: &[Filter]) {
    let holds = |Filter { key, value }: &Filter, one: &StackService| match *key {
        "id" => value.is(&one.service.id),
        "label" => value.is_among(&one.service.labels),
        "mode" => value.is(&one.mode),
        "name" => value.is(&one.service.name),
        "network" => one.service.networks.iter().any(|on| value.is(&on.network)),
        _ => false,
    };
    services.retain(|one| all(filters, |filter| holds(filter, one)));
}

/// Leaves the tasks for which all filters hold.
pub(in crate::faces::cli) fn stack_tasks(tasks: &mut Vec<StackTask>, filters: &[Filter]) {
    let holds = |Filter { key, value }: &Filter, one: &StackTask| match *key {
        "desired-state" => value.is(&one.desired.to_ascii_lowercase()),
        "id" => value.is(&one.id),
        "name" => value.is(&one.name),
        "node" => value.is(&one.node),
        _ => false,
    };
    tasks.retain(|one| all(filters, |filter| holds(filter, one)));
}
