//! Networks that other programs define in files: Podman's own (netavark), and CNI configurations.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use ipnetwork::IpNetwork;
use serde_json::Value;

use crate::model::address::Subnet;
use crate::model::host::observed::ForeignNetwork;

/// netd's own plugin, whose networks are netd's.
pub(crate) const OWN_PLUGIN: &str = "netd-cni";
/// netd's driver of Docker, whose networks are netd's.
const OWN_DRIVER: &str = "netd";
/// The folder of Podman's networks (containers-common, netavark).
const PODMAN: &str = "/etc/containers/networks";
/// The folder of CNI configurations.
const CNI: &str = "/etc/cni/net.d";
/// Maximum number of files that are read from a folder.
const FILES_MAX: usize = 1024;
/// Maximum size of a definition in bytes; longer files are ignored.
const SIZE_MAX: u64 = 1 << 20;

/// Whether a runtime's network with this driver is netd's.
pub(crate) fn is_own(driver: &str) -> bool {
    [OWN_PLUGIN, OWN_DRIVER].contains(&driver)
}

/// The locations of definitions.
#[derive(Debug, Clone)]
pub(crate) struct Files {
    podman: PathBuf,
    cni: PathBuf,
}

impl Default for Files {
    fn default() -> Self {
        Self { podman: PODMAN.into(), cni: CNI.into() }
    }
}

/// The networks that files define.
#[derive(Debug, Default)]
pub(crate) struct Defined {
    networks: Vec<ForeignNetwork>,
    /// Names of networks that use netd's plugin.
    ours: BTreeSet<String>,
}

impl Files {
    /// Reads all definitions; other files are skipped.
    pub(crate) fn read(&self) -> Defined {
        let mut defined = Defined::default();
        for (_, json) in documents(&self.podman, &["json"]) {
            let name = json["name"].as_str().unwrap_or_default().to_owned();
            let subnets: Vec<Subnet> = each(&json["subnets"]).filter_map(|entry| of(&entry["subnet"])).collect();
            defined.add(format!("Podman's network {name}"), name, subnets);
        }
        for (path, json) in documents(&self.cni, &["conflist", "conf", "json"]) {
            let name = json["name"].as_str().unwrap_or_default().to_owned();
            // The first plugin determines the owner of a configuration.
            let main = json["plugins"].get(0).unwrap_or(&json);
            if main["type"] == OWN_PLUGIN {
                defined.ours.insert(name);
                continue;
            }
            let ipam = &main["ipam"];
            let ranges = each(&ipam["ranges"]).flat_map(each).filter_map(|range| of(&range["subnet"]));
            let subnets = of(&ipam["subnet"]).into_iter().chain(ranges).collect();
            defined.add(format!("the CNI network {name} of {}", path.display()), name, subnets);
        }
        defined
    }
}

impl Defined {
    fn add(&mut self, whose: String, name: String, subnets: Vec<Subnet>) {
        if !name.is_empty() && !subnets.is_empty() {
            self.networks.push(ForeignNetwork { whose, name, subnets });
        }
    }
}

/// The networks that runtimes reported and files define, without those whose names netd's plugin uses: there netd's
/// network replaces them.
pub(crate) fn together(reported: Vec<ForeignNetwork>, defined: Defined) -> Vec<ForeignNetwork> {
    let Defined { networks, ours } = defined;
    let mut all = reported;
    all.extend(networks);
    all.retain(|network| !ours.contains(&network.name));
    all
}

/// A subnet as other programs write it; host bits are ignored.
pub(crate) fn subnet(text: &str) -> Option<Subnet> {
    let network: IpNetwork = text.parse().ok()?;
    Subnet::containing(network.ip(), network.prefix())
}

fn of(text: &Value) -> Option<Subnet> {
    subnet(text.as_str()?)
}

fn each(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

/// The JSON files of a folder with these suffixes, by name.
fn documents(folder: &Path, ends: &[&str]) -> Vec<(PathBuf, Value)> {
    let entries = fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok).map(|entry| entry.path());
    let ends_so = |path: &PathBuf| path.extension().is_some_and(|end| ends.iter().any(|known| end == *known));
    let mut paths: Vec<PathBuf> = entries.filter(ends_so).take(FILES_MAX).collect();
    paths.sort();
    let json = |path: PathBuf| {
        let file = fs::metadata(&path).ok().filter(|file| file.is_file() && file.len() <= SIZE_MAX)?;
        let text = fs::read(&path).ok().filter(|text| text.len() as u64 <= SIZE_MAX.max(file.len()))?;
        Some((path, serde_json::from_slice(&text).ok()?))
    };
    paths.into_iter().filter_map(json).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(files: &[(&str, &str)]) -> (tempfile::TempDir, Files) {
        let root = tempfile::tempdir().unwrap();
        let folders = Files { podman: root.path().join("podman"), cni: root.path().join("cni") };
        fs::create_dir(&folders.podman).unwrap();
        fs::create_dir(&folders.cni).unwrap();
        for (path, text) in files {
            fs::write(root.path().join(path), text).unwrap();
        }
        (root, folders)
    }

    fn shown(networks: &[ForeignNetwork]) -> Vec<String> {
        let subnets = |network: &ForeignNetwork| network.subnets.iter().map(ToString::to_string).collect::<Vec<_>>();
        networks.iter().map(|network| format!("{} {}", network.name, subnets(network).join(" "))).collect()
    }

    const BRIDGE: &str = r#"{"cniVersion":"0.4.0","name":"podman","plugins":[{"type":"bridge","bridge":"cni-podman0",
        "ipam":{"type":"host-local","ranges":[[{"subnet":"10.88.0.0/16"}],[{"subnet":"fd00:88::/64"}]]}},
        {"type":"portmap"}]}"#;

    #[test]
    fn definitions_of_podman_and_cni_are_read() {
        let (root, files) = written(&[
            (
                "podman/one.json",
                r#"{"name":"one","driver":"bridge","subnets":[{"subnet":"10.89.0.0/24"},{"subnet":"fd00:89::/64"}]}"#,
            ),
            ("podman/none.json", r#"{"name":"none","driver":"macvlan"}"#),
            ("podman/broken.json", "{"),
            ("podman/one.lock", "x"),
            ("cni/87-podman.conflist", BRIDGE),
            (
                "cni/20-single.conf",
                r#"{"name":"single","type":"bridge","ipam":{"type":"host-local","subnet":"10.22.0.9/16"}}"#,
            ),
            (
                "cni/30-behind.conflist",
                r#"{"name":"behind","plugins":[{"type":"bridge","ipam":{"subnet":"10.23.0.0/16"}},
                {"type":"netd-cni"}]}"#,
            ),
            ("cni/40-odd.conflist", r#"{"name":7,"plugins":"x"}"#),
        ]);
        let all = together(Vec::new(), files.read());
        assert_eq!(
            shown(&all),
            [
                "one 10.89.0.0/24 fd00:89::/64",
                "single 10.22.0.0/16",
                "behind 10.23.0.0/16",
                "podman 10.88.0.0/16 fd00:88::/64",
            ]
        );
        assert_eq!(all[0].whose, "Podman's network one");
        let path = root.path().join("cni/87-podman.conflist");
        assert_eq!(all[3].whose, format!("the CNI network podman of {}", path.display()));
        drop(root);
        assert!(files.read().networks.is_empty(), "no folder is no definition");
    }

    #[test]
    fn our_plugin_stands_in_the_place_of_the_network_of_its_name() {
        let ours = r#"{"name":"podman","plugins":[{"type":"netd-cni","subnets":["10.88.0.0/16"]}]}"#;
        let (_root, files) = written(&[("cni/87-podman.conflist", BRIDGE), ("cni/10-podman.conflist", ours)]);
        let reported = |name: &str| ForeignNetwork {
            whose: format!("Podman's network {name}"),
            name: name.into(),
            subnets: vec!["10.88.0.0/16".parse().unwrap()],
        };
        assert_eq!(shown(&together(vec![reported("podman"), reported("other")], files.read())), ["other 10.88.0.0/16"]);
    }
}
