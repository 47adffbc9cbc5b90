//! `netd policy`.

use std::fs;
use std::io::Read as _;
use std::path::Path;

use serde::Deserialize;

use super::Session;
use super::args::{DryRun, Format, PolicyArgs, PolicyVerb};
use super::output::{Failure, json};
use super::plan;
use super::table::table;
use crate::api::v1::{ChangePolicies, Judgement, PlanRequest, PoliciesChanged, Policy, PolicyRule};
use crate::faces::shared::client::segment;
use crate::model::Invalid;
use crate::model::policy::Action;

/// A file has at most this many bytes.
const FILE_MAX: u64 = 1 << 20;

pub(super) fn run(session: &mut Session<'_>, verb: PolicyVerb) -> Result<(), Failure> {
    match verb {
        PolicyVerb::Allow(args) => add(session, Action::Allow, args),
        PolicyVerb::Deny(args) => add(session, Action::Deny, args),
        PolicyVerb::DefaultDeny { network, dry_run, format } => {
            let attempt = format!("deny by default on network {network}");
            let to = PolicyVerb::network(&network).map_err(|invalid| Failure::usage(&attempt, invalid))?;
            let rule = PolicyRule { action: Action::DefaultDeny, from: "any".into(), to, ports: None };
            put(session, &attempt, rule, (dry_run, format))
        }
        PolicyVerb::Ls { format } => list(session, format),
        PolicyVerb::Rm { ids, dry_run } => remove(session, &ids, dry_run),
        PolicyVerb::Test { from, to, format } => test(session, &from, &to, format),
        PolicyVerb::Apply { file, dry_run, format } => apply(session, &file, dry_run, format),
    }
}

fn add(session: &mut Session<'_>, action: Action, args: PolicyArgs) -> Result<(), Failure> {
    let PolicyArgs { from, to, dry_run, format } = args;
    let attempt = format!("{} {from} {to}", action.as_str());
    let rule = PolicyRule::parse(action, &from, &to).map_err(|invalid| Failure::usage(&attempt, invalid))?;
    put(session, &attempt, rule, (dry_run, format))
}

fn put(
    session: &mut Session<'_>,
    attempt: &str,
    rule: PolicyRule,
    (dry_run, format): (DryRun, Format),
) -> Result<(), Failure> {
    rule.rule().map_err(|invalid| Failure::usage(attempt, invalid))?;
    change(session, attempt, ChangePolicies { policies: vec![rule], ..Default::default() }, dry_run, format)
}

fn change(
    session: &mut Session<'_>,
    attempt: &str,
    request: ChangePolicies,
    DryRun { dry_run }: DryRun,
    format: Format,
) -> Result<(), Failure> {
    if dry_run {
        return plan::show(session, attempt, &PlanRequest::ChangePolicies(Box::new(request)), format);
    }
    let changed: PoliciesChanged =
        session.client.post("/v1/policies", &request).map_err(|error| Failure::of(attempt, error))?;
    if format.json {
        return json(session.out, &changed);
    }
    for (policies, what) in
        [(&changed.removed, "removed"), (&changed.added, "added"), (&changed.unchanged, "there already")]
    {
        for policy in policies {
            writeln!(session.out, "policy {} {what}: {}", policy.id, sentence(&policy.rule()))?;
        }
    }
    Ok(())
}

/// As on the command line.
fn sentence(PolicyRule { action, from, to, ports }: &PolicyRule) -> String {
    match action {
        Action::DefaultDeny => format!("default-deny {to}"),
        action => {
            let ports = ports.as_ref().map(|ports| format!(":{ports}")).unwrap_or_default();
            format!("{} {from} {to}{ports}", action.as_str())
        }
    }
}

fn list(session: &mut Session<'_>, format: Format) -> Result<(), Failure> {
    let policies: Vec<Policy> =
        session.client.get("/v1/policies").map_err(|error| Failure::of("list policies", error))?;
    if format.json {
        return json(session.out, &policies);
    }
    let row = |policy: Policy| {
        let Policy { id, action, from, to, ports, from_containers, to_containers, denied_packets, .. } = policy;
        let ports = ports.unwrap_or_default();
        let denied = if denied_packets == 0 { String::new() } else { denied_packets.to_string() };
        let matches = match action {
            Action::DefaultDeny => to_containers.join(", "),
            _ => format!("{} > {}", some(&from, &from_containers), some(&to, &to_containers)),
        };
        [id.to_string(), action.as_str().to_owned(), from, to, ports, matches, denied]
    };
    let header = ["ID", "ACTION", "FROM", "TO", "PORTS", "NOW", "DENIED"];
    table(session, header, policies.into_iter().map(row))
}

/// The containers, or how many there are.
fn some(subject: &str, containers: &[String]) -> String {
    match containers {
        [] if matches!(subject, "host" | "outside") => subject.to_owned(),
        [] => "nobody".to_owned(),
        few if few.len() <= 5 => few.join(", "),
        many => format!("{} containers", many.len()),
    }
}

fn remove(session: &mut Session<'_>, ids: &[u64], dry_run: DryRun) -> Result<(), Failure> {
    let text: Vec<String> = ids.iter().map(u64::to_string).collect();
    let attempt = format!("remove policy {}", text.join(", "));
    change(session, &attempt, ChangePolicies { remove: text, ..Default::default() }, dry_run, Format::default())
}

fn test(session: &mut Session<'_>, from: &str, to: &str, format: Format) -> Result<(), Failure> {
    let attempt = format!("test whether {from} reaches {to}");
    let asked = PolicyRule::parse(Action::Allow, from, to).and_then(|asked| asked.rule());
    let asked = asked.map_err(|invalid| Failure::usage(&attempt, invalid))?;
    if let Some(ports) = asked.ports.filter(|ports| ports.range.first() != ports.range.last()) {
        let invalid = Invalid::new("port", ports.to_string(), "ask about one port");
        return Err(Failure::usage(&attempt, invalid));
    }
    let path = format!("/v1/policies/test?from={}&to={}", segment(from), segment(to));
    let judged: Vec<Judgement> = session.client.get(&path).map_err(|error| Failure::of(&attempt, error))?;
    let all = !judged.is_empty() && judged.iter().all(|judgement| judgement.allowed);
    if format.json {
        json(session.out, &judged)?;
    } else if judged.is_empty() {
        return Err(Failure::of(&attempt, "one of the two stands for no container now: see `netd ps`"));
    } else {
        let row = |judgement: Judgement| {
            let result = if judgement.allowed { "allowed" } else { "denied" };
            [judgement.from, judgement.to, result.to_owned(), judgement.why]
        };
        table(session, ["FROM", "TO", "RESULT", "WHY"], judged.into_iter().map(row))?;
    }
    if all { Ok(()) } else { Err(Failure::Told) }
}

/// What a file has.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    policies: Vec<String>,
}

fn apply(session: &mut Session<'_>, file: &Path, dry_run: DryRun, format: Format) -> Result<(), Failure> {
    let attempt = format!("apply the policies of {}", file.display());
    let text = read(file).map_err(|error| Failure::of(&attempt, error))?;
    let policies = parse(&text).map_err(|why| Failure::of(&attempt, why))?;
    change(session, &attempt, ChangePolicies { policies, only: true, ..Default::default() }, dry_run, format)
}

fn read(file: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    if file.as_os_str() == "-" {
        std::io::stdin().take(FILE_MAX).read_to_string(&mut text)?;
    } else {
        fs::File::open(file)?.take(FILE_MAX).read_to_string(&mut text)?;
    }
    Ok(text)
}

fn parse(text: &str) -> Result<Vec<PolicyRule>, String> {
    let file: File = serde_saphyr::from_str(text).map_err(|error| {
        let error = error.to_string();
        format!("it is no list of policies: {}", error.lines().next().unwrap_or_default())
    })?;
    file.policies.iter().map(|line| line_of(line).map_err(|error| error.to_string())).collect()
}

fn line_of(line: &str) -> Result<PolicyRule, Invalid> {
    let words: Vec<&str> = line.split_whitespace().collect();
    match words.as_slice() {
        ["allow", from, to] => PolicyRule::parse(Action::Allow, from, to),
        ["deny", from, to] => PolicyRule::parse(Action::Deny, from, to),
        ["default-deny", network] => {
            let to = PolicyVerb::network(network)?;
            Ok(PolicyRule { action: Action::DefaultDeny, from: "any".into(), to, ports: None })
        }
        _ => Err(Invalid::new("policy", line, "use allow FROM TO[:PORT], deny FROM TO[:PORT] or default-deny NETWORK")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_a_list_of_sentences() {
        let shown = |text: &str| match parse(text) {
            Ok(rules) => rules.iter().map(sentence).collect::<Vec<_>>().join("; "),
            Err(why) => why,
        };
        let good = "policies:\n  - default-deny net1\n  - allow web db:5432\n  - deny tier=test network:prod\n";
        assert_eq!(shown(good), "default-deny net1; allow web db:5432/tcp; deny label:tier=test network:prod");
        assert_eq!(shown("policies: []"), "");
        for (text, words) in [
            ("policies:\n  - permit a b", "invalid policy \"permit a b\": use allow FROM TO[:PORT]"),
            ("policies:\n  - allow a b:99999", "invalid ports"),
            ("rules: []", "it is no list of policies"),
            ("", "it is no list of policies"),
        ] {
            assert!(shown(text).contains(words), "{text}: {}", shown(text));
        }
    }
}
