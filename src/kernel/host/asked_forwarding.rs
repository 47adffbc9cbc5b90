//! Whether the host's own configuration asks for forwarding: the files that `systemd-sysctl` and `sysctl --system` load
//! at boot (sysctl.d(5), sysctl.conf(5)).

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use crate::model::address::Families;

/// The folders; a file replaces those of the same name in the folders before.
const FOLDERS: [&str; 5] =
    ["lib/sysctl.d", "usr/lib/sysctl.d", "usr/local/lib/sysctl.d", "run/sysctl.d", "etc/sysctl.d"];
/// Loaded last.
const LAST: &str = "etc/sysctl.conf";

/// The settings that turn forwarding on, by family.
const V4: [&str; 2] = ["net.ipv4.ip_forward", "net.ipv4.conf.all.forwarding"];
const V6: [&str; 1] = ["net.ipv6.conf.all.forwarding"];

/// The families for which the files below this root (`/`) turn forwarding on. The last file and the last line count. A
/// file that cannot be read asks for nothing.
pub(super) fn read(root: &Path) -> Families {
    let mut files: BTreeMap<OsString, PathBuf> = BTreeMap::new();
    for folder in FOLDERS {
        for entry in fs::read_dir(root.join(folder)).into_iter().flatten().flatten() {
            if entry.path().extension().is_some_and(|extension| extension == "conf") {
                files.insert(entry.file_name(), entry.path());
            }
        }
    }
    let mut asked = Families::default();
    for file in files.into_values().chain([root.join(LAST)]) {
        // Not all of them need be text.
        let text = fs::read(&file).unwrap_or_default();
        String::from_utf8_lossy(&text).lines().for_each(|line| ask(line, &mut asked));
    }
    asked
}

fn ask(line: &str, asked: &mut Families) {
    let line = line.trim();
    if line.starts_with(['#', ';']) {
        return;
    }
    let Some((pattern, value)) = line.trim_start_matches('-').split_once('=') else { return };
    let pattern = pattern.trim().replace('/', ".");
    let on = value.trim() != "0";
    if V4.into_iter().any(|setting| matches(&pattern, setting)) {
        asked.v4 = on;
    }
    if V6.into_iter().any(|setting| matches(&pattern, setting)) {
        asked.v6 = on;
    }
}

/// Whether a pattern, in which `*` stands for one part, is about the setting.
fn matches(pattern: &str, setting: &str) -> bool {
    let (parts, wanted) = (pattern.split('.'), setting.split('.'));
    parts.clone().count() == wanted.clone().count()
        && parts.zip(wanted).all(|(part, wanted)| part == "*" || part == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(files: &[(&str, &str)]) -> (bool, bool) {
        let root = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let file = root.path().join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }
        let Families { v4, v6 } = read(root.path());
        (v4, v6)
    }

    #[test]
    fn each_way_to_ask_is_understood() {
        let one = |text| asked(&[("etc/sysctl.d/50-router.conf", text)]);
        assert_eq!(asked(&[]), (false, false));
        assert_eq!(one("net.ipv4.ip_forward=1\n"), (true, false));
        assert_eq!(one("# net.ipv4.ip_forward=1\n; net.ipv4.ip_forward=1\n"), (false, false));
        assert_eq!(one("  -net/ipv4/conf/all/forwarding = 1 \nnet.ipv6.conf.all.forwarding = 1"), (true, true));
        assert_eq!(one("net.ipv6.conf.*.forwarding = 1"), (false, true));
        assert_eq!(one("net.ipv4.conf.default.forwarding = 1\nnet.ipv4.ip_forward\nkernel.x = 1"), (false, false));
    }

    #[test]
    fn the_last_file_and_the_last_line_count() {
        let (on, off) = ("net.ipv4.ip_forward = 1\n", "net.ipv4.ip_forward = 0\n");
        assert_eq!(asked(&[("usr/lib/sysctl.d/50-a.conf", on), ("etc/sysctl.d/60-b.conf", off)]), (false, false));
        assert_eq!(asked(&[("usr/lib/sysctl.d/60-b.conf", on), ("etc/sysctl.d/50-a.conf", off)]), (true, false));
        assert_eq!(asked(&[("usr/lib/sysctl.d/50-a.conf", on), ("etc/sysctl.d/50-a.conf", "")]), (false, false));
        assert_eq!(asked(&[("etc/sysctl.d/50-a.conf", off), ("etc/sysctl.conf", on)]), (true, false));
        assert_eq!(asked(&[("etc/sysctl.d/50-a.conf", &format!("{off}{on}")), ("run/sysctl.d/a", off)]), (true, false));
    }
}
