//! Other programs' firewall tables: read and changed through the tools that wrote them, each with a time limit.
//!
//! `nft` lists every table of the kernel's nftables, including those of `iptables-nft`. The content of the latter is
//! then read with `iptables-nft-save`, because nft shows their matches by name only. Tables of `iptables-legacy` are
//! stored elsewhere in the kernel and are read only if the kernel reports that they exist: reading would create them.

use std::fs;
use std::io;

use serde_json::Value as Json;

use super::interfaces::Interfaces;
use crate::kernel::KernelError;
use crate::kernel::netlink::socket::Netlink;
use crate::kernel::sysctl::Sysctl;
use crate::logic::firewall::foreign::{ruleset, save};
use crate::model::address::Families;
use crate::model::host::foreign_firewall::{Foreign, ForeignChange, Table, TableFamily, Tool};
use crate::os::limited;
use crate::os::limited::Output;

const LOOK: &str = "see `nft list ruleset` and `iptables -S`";

/// The tables of other programs, and the host properties that they depend on.
pub fn read(netlink: &mut Netlink, sysctl: &Sysctl) -> Result<Foreign, KernelError> {
    let failed =
        |source| KernelError::Io { attempted: "read", on: "other programs' firewall rules".into(), source, look: LOOK };
    let mut tables = nft_tables().map_err(failed)?;
    for (family, names) in [(TableFamily::Ip, "ip_tables_names"), (TableFamily::Ip6, "ip6_tables_names")] {
        if has_legacy(names) {
            let program = if family == TableFamily::Ip { "iptables-legacy-save" } else { "ip6tables-legacy-save" };
            let text = output(&[program], "").map_err(failed)?;
            tables.extend(save::tables(Tool::IptablesLegacy, family, &text));
        }
    }
    let shown = |key: &str| Ok(sysctl.get(&["bridge", key])?.is_some_and(|value| value == "1"));
    let bridged = Families { v4: shown("bridge-nf-call-iptables")?, v6: shown("bridge-nf-call-ip6tables")? };
    Ok(Foreign { tables, ways: Interfaces::read(netlink)?.ways(), bridged })
}

/// Makes the change.
pub fn change(change: &ForeignChange) -> Result<(), KernelError> {
    let words: Vec<&str> = change.program.iter().map(String::as_str).collect();
    output(&words, &change.script).map(drop).map_err(|source| KernelError::Io {
        attempted: "change",
        on: change.on.clone(),
        source,
        look: LOOK,
    })
}

/// Whether the kernel has legacy tables, in the namespace of this thread.
fn has_legacy(names: &str) -> bool {
    fs::read_to_string(format!("/proc/thread-self/net/{names}")).is_ok_and(|text| !text.trim().is_empty())
}

/// Whether there are legacy tables; the kernel sends no notifications of their changes.
pub fn is_legacy_there() -> bool {
    has_legacy("ip_tables_names") || has_legacy("ip6_tables_names")
}

fn nft_tables() -> io::Result<Vec<Table>> {
    // Without the elements of sets, of which there may be hundreds of thousands.
    let text = output(&["nft", "-j", "-t", "list", "ruleset"], "")?;
    let json: Json = serde_json::from_str(&text).map_err(io::Error::other)?;
    let mut tables = ruleset::tables(&json);
    for (family, program) in [(TableFamily::Ip, "iptables-nft-save"), (TableFamily::Ip6, "ip6tables-nft-save")] {
        if !tables.iter().any(|table| table.id.family == family && looks_like_iptables(table)) {
            continue;
        }
        // If the program is not installed or does not understand the table, the table is changed with nft.
        let Ok(text) = output(&[program], "") else { continue };
        let saved = save::tables(Tool::IptablesNft, family, &text);
        let known = |table: &Table| saved.iter().any(|saved| saved.id.name == table.id.name);
        tables.retain(|table| table.id.family != family || !known(table));
        tables.extend(saved);
    }
    Ok(tables)
}

fn looks_like_iptables(table: &Table) -> bool {
    let named = ["filter", "mangle", "security"].contains(&table.id.name.as_str());
    named
        && table.chains.iter().any(|chain| chain.base.is_some() && ["FORWARD", "INPUT"].contains(&chain.name.as_str()))
}

/// The output of the program; its error message if it failed.
fn output(words: &[&str], input: &str) -> io::Result<String> {
    let mut output = limited::run(words, input);
    if let Err(error) = &output
        && error.kind() == io::ErrorKind::NotFound
        && let Some(plain) = plain(words[0])
    {
        // Some distributions have only one variant, under the plain name.
        output = limited::run(&[&[plain.as_str()], &words[1..]].concat(), input);
    }
    let Output { success, stdout, stderr } = output?;
    if success {
        return Ok(String::from_utf8_lossy(&stdout).into_owned());
    }
    let lines = String::from_utf8_lossy(&stderr);
    let lines: Vec<&str> = lines.lines().map(str::trim).filter(|line| !line.is_empty()).take(3).collect();
    Err(io::Error::other(format!("{} said: {}", words[0], lines.join(" / "))))
}

/// The name without the variant, if the program is of this variant.
fn plain(program: &str) -> Option<String> {
    let (kind, shown) =
        [("-nft", "(nf_tables)"), ("-legacy", "(legacy)")].into_iter().find(|(kind, _)| program.contains(kind))?;
    let plain = program.replacen(kind, "", 1);
    let version = limited::run(&[&plain, "-V"], "").ok()?;
    String::from_utf8_lossy(&version.stdout).contains(shown).then_some(plain)
}
