//! The keys of a service: those that are known, and those that Docker's stacks ignore or refuse (docker/cli,
//! cli/compose/types).

use std::collections::{BTreeMap, BTreeSet};

use super::part::Part;

/// What the format has for a service besides what follows.
const SERVICE: [&str; 38] = [
    "cap_add",
    "cap_drop",
    "command",
    "configs",
    "credential_spec",
    "depends_on",
    "deploy",
    "dns",
    "dns_search",
    "entrypoint",
    "env_file",
    "environment",
    "extra_hosts",
    "healthcheck",
    "hostname",
    "image",
    "init",
    "isolation",
    "labels",
    "logging",
    "networks",
    "oom_score_adj",
    "ports",
    "read_only",
    "secrets",
    "stdin_open",
    "stop_grace_period",
    "stop_signal",
    "sysctls",
    "tmpfs",
    "tty",
    "ulimits",
    "user",
    "volumes",
    "working_dir",
    "develop",
    "profiles",
    "platform",
];
const UNSUPPORTED: [&str; 16] = [
    "build",
    "cgroupns_mode",
    "cgroup_parent",
    "devices",
    "domainname",
    "external_links",
    "ipc",
    "links",
    "mac_address",
    "network_mode",
    "pid",
    "privileged",
    "restart",
    "security_opt",
    "shm_size",
    "userns_mode",
];
const DEPRECATED: [(&str, &str); 2] = [
    ("container_name", "Setting the container name is not supported."),
    (
        "expose",
        "Exposing ports is unnecessary - services on the same network can access each other's containers on any port.",
    ),
];
const LIMITS: &str = "Set resource limits using deploy.resources";
const FORBIDDEN: [(&str, &str); 8] = [
    ("extends", "Support for `extends` is not implemented yet."),
    (
        "volume_driver",
        "Instead of setting the volume driver on the service, define a volume using the top-level `volumes` option and \
         specify the driver there.",
    ),
    (
        "volumes_from",
        "To share a volume between services, define it using the top-level `volumes` option and reference it from each \
         service that shares it using the service-level `volumes` option.",
    ),
    ("cpu_quota", LIMITS),
    ("cpu_shares", LIMITS),
    ("cpuset", LIMITS),
    ("mem_limit", LIMITS),
    ("memswap_limit", LIMITS),
];
/// What netd has no counterpart for, and what to use.
const REFUSED: [(&str, &str); 3] = [
    ("secrets", "netd keeps no secrets: mount a file with `volumes`"),
    ("configs", "netd keeps no configs: mount a file with `volumes`"),
    ("credential_spec", "it means something on Windows only: leave it out"),
];

/// Checks the keys of all services. Returns what to say about those that are ignored.
pub(super) fn check(root: &Part<'_>, services: &[(String, Part<'_>)]) -> Result<Vec<String>, String> {
    let (mut unsupported, mut deprecated) = (BTreeSet::new(), BTreeMap::new());
    let mut forbidden = BTreeMap::new();
    for (key, part) in services.iter().flat_map(|(_, service)| service.entries().unwrap_or_default()) {
        if !part.is_given() {
            continue;
        }
        let why = |list: &[(&'static str, &'static str)]| list.iter().find(|(known, _)| *known == key).copied();
        unsupported.extend(UNSUPPORTED.iter().find(|known| **known == key));
        deprecated.extend(why(&DEPRECATED));
        forbidden.extend(why(&FORBIDDEN));
        if let Some((key, why)) = why(&REFUSED) {
            return Err(part.wrong(format!("cannot be used ({key}): {why}")));
        }
    }
    for (key, why) in &REFUSED[..2] {
        if root.at(key).entries().is_ok_and(|entries| !entries.is_empty()) {
            return Err(format!("{key} cannot be used: {why}"));
        }
    }
    if !forbidden.is_empty() {
        return Err(format!("Compose file contains unsupported options: {}", sentences(&forbidden, " ")));
    }
    let known: Vec<&str> = SERVICE.into_iter().chain(UNSUPPORTED).chain(DEPRECATED.map(|(key, _)| key)).collect();
    services.iter().try_for_each(|(_, service)| service.only(&known))?;
    let mut notes = Vec::new();
    if !unsupported.is_empty() {
        let keys: Vec<&str> = unsupported.into_iter().collect();
        notes.push(format!("Ignoring unsupported options: {}", keys.join(", ")));
    }
    if !deprecated.is_empty() {
        notes.push(format!("Ignoring deprecated options:\n\n{}", sentences(&deprecated, "\n\n")));
    }
    Ok(notes)
}

fn sentences(found: &BTreeMap<&str, &str>, between: &str) -> String {
    let lines: Vec<String> = found.iter().map(|(key, why)| format!("{key}: {why}")).collect();
    lines.join(between)
}
