//! The change that adds netd's accept to a table or removes it, in the input format of the table's own tool. It is one
//! transaction: there is no intermediate state.

use serde_json::{Value as Json, json};

use super::content::{Content, Line};
use crate::model::host::foreign_firewall::{Chain, ForeignChange, Hook, Rule, Table, TableFamily, Tool};

/// How long iptables may wait for its lock, in seconds.
const LOCK: &str = "5";

/// The change of one table at one hook.
pub(super) struct Change<'a> {
    pub table: &'a Table,
    /// The hook, for messages.
    pub hook: Hook,
    /// netd's existing jumps, each with its chain.
    pub jumps: Vec<(&'a Chain, &'a Rule)>,
    /// netd's existing chains.
    pub there: Vec<&'static str>,
    /// The target content, and the place of the jump: the chain, and the rule before which it is inserted (not counting
    /// netd's own).
    pub target: Option<(&'a Content, &'a Chain, usize)>,
}

impl Change<'_> {
    /// The program and its input.
    pub(super) fn render(&self) -> ForeignChange {
        let id = &self.table.id;
        let (program, script): (&[&str], String) = match (id.tool, id.family) {
            (Tool::Nft, _) => (&["nft", "-j", "-f", "-"], self.nft().to_string()),
            (Tool::IptablesNft, TableFamily::Ip6) => {
                (&["ip6tables-nft-restore", "-w", LOCK, "--noflush"], self.iptables())
            }
            (Tool::IptablesNft, _) => (&["iptables-nft-restore", "-w", LOCK, "--noflush"], self.iptables()),
            (Tool::IptablesLegacy, TableFamily::Ip6) => {
                (&["ip6tables-legacy-restore", "-w", LOCK, "--noflush"], self.iptables())
            }
            (Tool::IptablesLegacy, _) => (&["iptables-legacy-restore", "-w", LOCK, "--noflush"], self.iptables()),
        };
        let program = program.iter().map(|word| (*word).to_owned()).collect();
        ForeignChange { program, script, on: ForeignChange::place(id, self.hook) }
    }

    fn iptables(&self) -> String {
        let mut lines = vec![format!("*{}", self.table.id.name)];
        let target = self.target.map(|(content, ..)| content.chains).unwrap_or_default();
        // Creates the chain, or empties it.
        let all = self.there.iter().filter(|chain| !target.contains(chain)).chain(target);
        lines.extend(all.map(|chain| format!(":{chain} - [0:0]")));
        lines.extend(self.jumps.iter().map(|(_, rule)| rule.text.replacen("-A ", "-D ", 1)));
        if let Some((content, chain, place)) = self.target {
            lines.extend(content.rules.iter().filter_map(|line| match line {
                Line::Iptables(rule) => Some(rule.clone()),
                Line::Nft(..) => None,
            }));
            let (name, mark) = (&chain.name, &content.mark);
            lines.push(format!("-I {name} {} -m comment --comment \"{mark}\" -j {}", place + 1, content.chains[0]));
        }
        lines.extend(self.there.iter().filter(|chain| !target.contains(chain)).map(|chain| format!("-X {chain}")));
        lines.push("COMMIT\n".to_owned());
        lines.join("\n")
    }

    fn nft(&self) -> Json {
        let (family, table) = (self.table.id.family.as_str(), self.table.id.name.as_str());
        let chain = |name: &str| json!({"chain": {"family": family, "table": table, "name": name}});
        let rule = |chain: &str, expr: Json| json!({"family": family, "table": table, "chain": chain, "expr": expr});
        let mut commands = Vec::new();
        for (chain, jump) in &self.jumps {
            let name = &chain.name;
            let named = json!({"family": family, "table": table, "chain": name, "handle": jump.handle});
            commands.push(json!({"delete": {"rule": named}}));
        }
        let target = self.target.map(|(content, ..)| content.chains).unwrap_or_default();
        commands.extend(target.iter().map(|name| json!({"add": chain(name)})));
        commands.extend(
            self.there
                .iter()
                .filter(|name| !target.contains(name))
                .chain(target)
                .map(|name| json!({"flush": chain(name)})),
        );
        if let Some((content, into, place)) = self.target {
            for line in &content.rules {
                if let Line::Nft(name, expr) = line {
                    commands.push(json!({"add": {"rule": rule(name, expr.clone())}}));
                }
            }
            let mut jump = rule(&into.name, json!([{"jump": {"target": content.chains[0]}}]));
            jump["comment"] = json!(content.mark);
            let before = into.rules.iter().filter(|rule| rule.mark.is_none()).nth(place).and_then(|rule| rule.handle);
            commands.push(match before {
                Some(handle) => {
                    jump["handle"] = json!(handle);
                    json!({"insert": {"rule": jump}})
                }
                None => json!({"add": {"rule": jump}}),
            });
        }
        commands
            .extend(self.there.iter().filter(|name| !target.contains(name)).map(|name| json!({"delete": chain(name)})));
        json!({"nftables": commands})
    }
}
