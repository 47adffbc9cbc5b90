//! Parses the output of `iptables-save` and `ip6tables-save`, of both nft and legacy.

use super::mark_of;
use crate::model::address::Subnet;
use crate::model::host::foreign_firewall::{
    Base, Chain, Condition, Hook, Rule, Table, TableFamily, TableId, Tool, Verdict, What, state,
};

/// Matches without a meaning beyond their options, which are evaluated themselves.
const PLAIN: &[&str] = &["comment", "conntrack", "state", "tcp", "udp", "icmp", "icmp6", "multiport", "addrtype"];
/// Targets after which the next rule follows.
const PASSING: &[&str] = &[
    "LOG",
    "NFLOG",
    "ULOG",
    "MARK",
    "CONNMARK",
    "SECMARK",
    "CONNSECMARK",
    "CT",
    "TRACE",
    "TCPMSS",
    "CLASSIFY",
    "SET",
    "TOS",
    "DSCP",
    "TTL",
    "HL",
    "AUDIT",
    "RATEEST",
    "IDLETIMER",
    "LED",
    "CHECKSUM",
    "NOTRACK",
    "TEE",
];

/// What iptables-save prints after `iptables-restore --noflush` has carried out the script, as far as netd's scripts go;
/// the error is a line that it refuses. For the fake kernel and tests.
///
/// # Errors
/// The rule that the script deletes and that is not there.
pub fn restored(text: &str, script: &str) -> Result<String, String> {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for line in script.lines() {
        let end = lines.iter().position(|line| line == "COMMIT").ok_or("no table")?;
        if let Some(rule) = line.strip_prefix("-I ") {
            let mut words = rule.splitn(3, ' ');
            let (Some(chain), Some(number), Some(rest)) = (words.next(), words.next(), words.next()) else {
                return Err(line.to_owned());
            };
            let of: Vec<usize> = (0..end).filter(|i| lines[*i].starts_with(&format!("-A {chain} "))).collect();
            let number: usize = number.parse().map_err(|_| line.to_owned())?;
            let at = of.get(number.saturating_sub(1)).copied().unwrap_or(end);
            lines.insert(at, format!("-A {chain} {rest}"));
        } else if let Some(rule) = line.strip_prefix("-D ") {
            let there = lines.iter().position(|line| *line == format!("-A {rule}")).ok_or(line)?;
            lines.remove(there);
        } else if let Some(chain) = line.strip_prefix(':') {
            let name = chain.split(' ').next().unwrap_or_default();
            lines.retain(|line| !line.starts_with(&format!("-A {name} ")) && *line != format!(":{chain}"));
            lines.insert(1, format!(":{chain}"));
        } else if let Some(name) = line.strip_prefix("-X ") {
            lines.retain(|line| !line.starts_with(&format!(":{name} ")));
        } else if line.starts_with("-A ") {
            lines.insert(end, line.to_owned());
        }
    }
    Ok(lines.iter().map(|line| format!("{line}\n")).collect())
}

/// The tables in the text that filter at one of the hooks.
pub fn tables(tool: Tool, family: TableFamily, text: &str) -> Vec<Table> {
    let mut tables: Vec<Table> = Vec::new();
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('*') {
            let id = TableId { tool, family, name: name.to_owned() };
            tables.push(Table { id, chains: Vec::new(), owned: false });
        }
        let Some(table) = tables.last_mut() else { continue };
        if let Some(chain) = line.strip_prefix(':') {
            let mut words = chain.split_whitespace();
            let (name, policy) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
            let hook = match name {
                "FORWARD" => Some(Hook::Forward),
                "INPUT" => Some(Hook::Input),
                _ => None,
            };
            let base = hook.filter(|_| policy != "-").map(|hook| Base { hook, drops: policy == "DROP" });
            table.chains.push(Chain { name: name.to_owned(), base, rules: Vec::new() });
        } else if line.starts_with("-A ") {
            let words = words(line);
            let name = words.get(1).cloned().unwrap_or_default();
            if let Some(chain) = table.chains.iter_mut().find(|chain| chain.name == name) {
                chain.rules.push(rule(&words[2..], line));
            }
        }
    }
    // Destination NAT and the like drop nothing.
    tables.retain(|table| ["filter", "mangle", "security"].contains(&table.id.name.as_str()));
    tables
}

/// Splits the line like a shell: double quotes, and backslashes within them.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted, mut begun) = (Vec::new(), String::new(), false, false);
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => (quoted, begun) = (!quoted, true),
            '\\' if quoted => word.extend(chars.next()),
            c if c.is_whitespace() && !quoted => {
                if begun {
                    words.push(std::mem::take(&mut word));
                }
                begun = false;
            }
            c => {
                word.push(c);
                begun = true;
            }
        }
    }
    if begun {
        words.push(word);
    }
    words
}

fn rule(words: &[String], text: &str) -> Rule {
    let mut rule = Rule { text: text.to_owned(), ..Rule::default() };
    let mut negated = false;
    let mut at = 0;
    while at < words.len() {
        let word = words[at].as_str();
        at += 1;
        if word == "!" {
            negated = true;
            continue;
        }
        // The values up to the next option, which may be preceded by `!`.
        let values: Vec<&str> = words[at..].iter().map(String::as_str).take_while(|word| !is_option(word)).collect();
        at += values.len();
        let value = values.first().copied().unwrap_or_default();
        match word {
            "-j" | "-g" => {
                rule.verdict = verdict(value, word == "-g");
                break;
            }
            "--comment" => rule.mark = mark_of(value),
            "-m" if PLAIN.contains(&value) => {}
            option => rule.conditions.push(Condition { negated, what: what(option, value) }),
        }
        negated = false;
    }
    rule
}

fn is_option(word: &str) -> bool {
    word == "!" || (word.starts_with('-') && word.parse::<i64>().is_err())
}

fn verdict(target: &str, goto: bool) -> Verdict {
    match target {
        "ACCEPT" => Verdict::Accept,
        "DROP" | "REJECT" => Verdict::Drop,
        "RETURN" => Verdict::Return,
        "QUEUE" | "NFQUEUE" | "SYNPROXY" | "TPROXY" => Verdict::Unknown,
        "" => Verdict::Next,
        target if PASSING.contains(&target) => Verdict::Next,
        chain if goto => Verdict::Goto(chain.to_owned()),
        // An unknown target is not a chain of the table, so the jump has no effect.
        chain => Verdict::Jump(chain.to_owned()),
    }
}

fn what(option: &str, value: &str) -> What {
    let list = || value.split(',').map(str::trim);
    let interface = || vec![value.strip_suffix('+').map_or_else(|| value.to_owned(), |head| format!("{head}*"))];
    let subnets = || list().map(subnet).collect::<Option<Vec<Subnet>>>();
    match option {
        "-i" => What::In(interface()),
        "-o" => What::Out(interface()),
        "-s" => subnets().map_or(What::Other, What::From),
        "-d" => subnets().map_or(What::Other, What::To),
        "-p" => What::Protocol(vec![value.to_owned()]),
        "--ctstate" | "--state" => list().map(state_bit).collect::<Option<Vec<u8>>>().map_or(What::Other, bits),
        "--dst-type" if value == "LOCAL" => What::ToHost,
        "--ctstatus" => match value {
            "DNAT" => What::State(state::DNAT),
            "SNAT" => What::State(state::SNAT),
            _ => What::Other,
        },
        "--dport" | "--dports" => list().map(range).collect::<Option<Vec<_>>>().map_or(What::Other, What::Port),
        _ => What::Other,
    }
}

fn bits(states: Vec<u8>) -> What {
    What::State(states.into_iter().fold(0, |all, bit| all | bit))
}

/// One state by its name, in any case.
pub(super) fn state_bit(name: &str) -> Option<u8> {
    Some(match name.to_ascii_lowercase().as_str() {
        "new" => state::NEW,
        "established" => state::ESTABLISHED,
        "related" => state::RELATED,
        "invalid" => state::INVALID,
        "untracked" => state::UNTRACKED,
        "dnat" => state::DNAT,
        "snat" => state::SNAT,
        _ => return None,
    })
}

/// "53", "1000:2000".
fn range(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once(':').unwrap_or((text, text));
    Some((first.parse().ok()?, last.parse().ok()?))
}

/// "10.0.0.0/8", "10.0.0.1"; a mask that is not a prefix is not supported.
pub(super) fn subnet(text: &str) -> Option<Subnet> {
    let network: ipnetwork::IpNetwork = text.parse().ok()?;
    Subnet::containing(network.ip(), network.prefix())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_iptables_save_writes_is_read() {
        let text = "# Generated\n*filter\n:INPUT ACCEPT [0:0]\n:FORWARD DROP [7:9]\n:DOCKER-USER - [0:0]\n\
            -A FORWARD -j DOCKER-USER\n\
            -A FORWARD -i docker0 ! -o docker0 -m comment --comment \"two \\\"words\\\" -j DROP\" -j ACCEPT\n\
            -A FORWARD ! -s 10.0.0.0/8 -p tcp -m tcp --dport 80:90 -m conntrack ! --ctstate RELATED,ESTABLISHED -g X\n\
            -A FORWARD -m set --match-set bad src -j LOG --log-prefix \"x \"\n\
            -A DOCKER-USER -j RETURN\nCOMMIT\n*nat\n:PREROUTING ACCEPT [0:0]\nCOMMIT\n";
        let tables = tables(Tool::IptablesNft, TableFamily::Ip, text);
        assert_eq!(tables.len(), 1);
        let forward = tables[0].chain("FORWARD").unwrap();
        assert_eq!(forward.base, Some(Base { hook: Hook::Forward, drops: true }));
        assert_eq!(tables[0].chain("DOCKER-USER").unwrap().base, None);
        let condition = |negated, what| Condition { negated, what };
        let shown: Vec<_> = forward.rules.iter().map(|rule| (rule.conditions.clone(), rule.verdict.clone())).collect();
        assert_eq!(shown[0], (vec![], Verdict::Jump("DOCKER-USER".into())));
        let two = vec![
            condition(false, What::In(vec!["docker0".into()])),
            condition(true, What::Out(vec!["docker0".into()])),
        ];
        assert_eq!(shown[1], (two, Verdict::Accept));
        let four = vec![
            condition(true, What::From(vec!["10.0.0.0/8".parse().unwrap()])),
            condition(false, What::Protocol(vec!["tcp".into()])),
            condition(false, What::Port(vec![(80, 90)])),
            condition(true, What::State(state::ESTABLISHED | state::RELATED)),
        ];
        assert_eq!(shown[2], (four, Verdict::Goto("X".into())));
        assert_eq!(shown[3].1, Verdict::Next);
        assert!(shown[3].0.iter().all(|condition| condition.what == What::Other));
    }
}
