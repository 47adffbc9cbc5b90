//! Detects network namespaces that other container engines made, by their path or by the control group of their
//! process.

use std::fs;
use std::path::Path;

/// Hex digits of a container's id, in all engines.
const ID: usize = 64;
/// The folders in which engines keep namespaces, and the prefixes of the files there.
const PLACES: [(&str, &str); 3] = [("docker/netns", ""), ("run/netns", "netns-"), ("run/netns", "cni-")];

/// Whether an engine made the namespace at that path for one of its containers.
pub(in crate::kernel) fn made(path: &Path) -> bool {
    if let Ok(process) = path.strip_prefix("/proc") {
        let Some(pid) = process.iter().next() else { return false };
        let groups = fs::read_to_string(Path::new("/proc").join(pid).join("cgroup"));
        return groups.is_ok_and(|groups| is_of_container(&groups));
    }
    let Some((folder, name)) = path.parent().zip(path.file_name().and_then(|name| name.to_str())) else {
        return false;
    };
    PLACES.iter().any(|(place, beginning)| folder.ends_with(place) && name.starts_with(beginning))
}

/// Whether a line of `/proc/PID/cgroup` ends in a container's group: `/docker/ID`, `docker-ID.scope`, `libpod-ID`,
/// `cri-containerd-ID.scope`, `crio-ID`.
fn is_of_container(groups: &str) -> bool {
    let is_id = |word: &str| word.len() == ID && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    let mut words = groups
        .lines()
        .filter_map(|line| line.splitn(3, ':').nth(2))
        .flat_map(|path| path.split(|separator: char| !separator.is_ascii_alphanumeric()));
    words.any(is_id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_of_engines_are_known_by_their_place_or_group() {
        for (path, made_by_engine) in [
            ("/var/run/docker/netns/2b1f6c0e9d4a", true),
            ("/run/docker/netns/2b1f6c0e9d4a", true),
            ("/run/netns/netns-0f9c2c1e-6a0e-4d3b-8a0e-1f2e3d4c5b6a", true),
            ("/var/run/netns/cni-0f9c2c1e-6a0e-4d3b-8a0e-1f2e3d4c5b6a", true),
            ("/run/netns/web", false),
            ("/proc/self/ns/net", false),
            ("/", false),
        ] {
            assert_eq!(made(Path::new(path)), made_by_engine, "{path}");
        }
        let id = "0123456789abcdef".repeat(4);
        for (group, made_by_engine) in [
            (format!("4:memory:/docker/{id}\n0::/\n"), true),
            (format!("0::/system.slice/docker-{id}.scope\n"), true),
            (format!("0::/machine.slice/libpod-{id}.scope/container\n"), true),
            (format!("0::/kubepods.slice/kubepods-pod1.slice/cri-containerd-{id}.scope\n"), true),
            (format!("0::/user.slice/{}\n", &id[1..]), false),
            ("0::/system.slice/ssh.service\n".to_owned(), false),
        ] {
            assert_eq!(is_of_container(&group), made_by_engine, "{group}");
        }
    }
}
