//! Decides what becomes of policies.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::engine::report::PoliciesChanged;
use crate::engine::state::State;
use crate::logic::refusal::Refusal;
use crate::model::Invalid;
use crate::model::policy::{Action, Policy, Rule, Subject};
use crate::model::request::PolicyChange;

/// Most decisions that follow from all policies: each is an element of a map.
const MOST: usize = 100_000;

/// What the change becomes, or why it is refused.
pub(crate) fn change(state: &State, change: &PolicyChange, now: u64) -> Result<PoliciesChanged, Refusal> {
    let mut changed = PoliciesChanged::default();
    let mut wanted: BTreeSet<Rule> = BTreeSet::new();
    for rule in &change.add {
        wanted.insert(checked(state, rule)?);
    }
    for id in &change.remove {
        let policy = state.desired.policy(*id).ok_or(Refusal::NoSuchPolicy(*id))?;
        if !changed.removed.iter().any(|other: &Arc<Policy>| other.id == *id) {
            changed.removed.push(policy.clone());
        }
    }
    for policy in state.desired.policies() {
        if wanted.remove(&policy.rule) {
            changed.unchanged.push(policy.clone());
            changed.removed.retain(|other| other.id != policy.id);
        } else if change.only && !change.remove.contains(&policy.id) {
            changed.removed.push(policy.clone());
        }
    }
    // In the order in which they were asked for.
    let mut id = state.desired.policies().last().map_or(0, |policy| policy.id).max(state.last_policy);
    for rule in &change.add {
        let rule = checked(state, rule)?;
        if wanted.remove(&rule) {
            id += 1;
            changed.added.push(Arc::new(Policy { id, rule, created: now }));
        }
    }
    fits(state, &changed)?;
    Ok(changed)
}

/// The rule with a bare name of a network as that network, if nothing else has the name.
fn checked(state: &State, rule: &Rule) -> Result<Rule, Refusal> {
    let known = |subject: &Subject| match subject {
        Subject::Network(name) if state.desired.network(name).is_none() => {
            Err(Refusal::NoSuchNetwork(name.as_str().to_owned()))
        }
        Subject::Name(name) => Ok(meant(state, name).unwrap_or_else(|| subject.clone())),
        subject => Ok(subject.clone()),
    };
    let rule = Rule { from: known(&rule.from)?, to: known(&rule.to)?, ..rule.clone() };
    rule.check()?;
    if let (Action::DefaultDeny, Subject::Network(name)) = (rule.action, &rule.to)
        && state.desired.network(name).is_some_and(|network| network.guest_bridge().is_none())
    {
        let why = "its containers are on no bridge, where netd could see what they send to each other";
        return Err(Invalid::new("network of a policy", name.as_str(), why).into());
    }
    Ok(rule)
}

fn meant(state: &State, name: &str) -> Option<Subject> {
    let networks = state.desired.networks_called(name);
    let [network] = networks else { return None };
    let is_other = !state.desired.endpoints_meant(&Subject::Name(name.to_owned())).is_empty()
        || state.desired.service_called(name).is_some();
    (!is_other).then(|| Subject::Network(network.name.clone()))
}

fn fits(state: &State, changed: &PoliciesChanged) -> Result<(), Refusal> {
    let mut after = state.desired.clone();
    changed.removed.iter().for_each(|policy| after.remove_policy(policy.id));
    changed.added.iter().for_each(|policy| after.insert_policy(policy.as_ref().clone()));
    match (changed.added.first(), after.ruling().size()) {
        (Some(policy), size) if size > MOST => {
            let why = format!("{size} decisions between containers would follow, more than {MOST}: be more specific");
            Err(Invalid::new("policy", policy.rule.to_string(), why).into())
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logic::samples;
    use crate::model::policy::target;

    fn rule(text: &str) -> Rule {
        let words: Vec<&str> = text.split(' ').collect();
        match words.as_slice() {
            ["default-deny", network] => Rule::default_deny(network.parse().unwrap()),
            [action, from, to] => {
                let (to, ports) = target(to).unwrap();
                let action = if *action == "allow" { Action::Allow } else { Action::Deny };
                Rule { action, from: from.parse().unwrap(), to, ports }
            }
            _ => panic!("{text}"),
        }
    }

    fn outcome(state: &mut State, add: &[&str], remove: &[u64], only: bool) -> String {
        let request = PolicyChange { add: add.iter().map(|text| rule(text)).collect(), remove: remove.into(), only };
        match change(state, &request, 0) {
            Err(refusal) => refusal.to_string(),
            Ok(changed) => {
                changed.removed.iter().for_each(|policy| state.desired.remove_policy(policy.id));
                for policy in &changed.added {
                    state.desired.insert_policy(policy.as_ref().clone());
                    state.last_policy = policy.id;
                }
                let shown = |sign: &str, policies: &[Arc<Policy>]| {
                    let one = |policy: &Arc<Policy>| format!("{sign}{} {}", policy.id, policy.rule);
                    policies.iter().map(one).collect::<Vec<_>>()
                };
                [shown("-", &changed.removed), shown("+", &changed.added), shown("=", &changed.unchanged)]
                    .concat()
                    .join(", ")
            }
        }
    }

    #[test]
    fn what_is_there_already_stays() {
        let mut state = State::default();
        let network = samples::network("net1", &["10.0.1.0/24"]);
        state.desired.insert_network(network.clone());
        state.desired.insert_endpoint(samples::endpoint(&network, "web", 1, &["10.0.1.2"], &[]));
        for (add, remove, only, expected) in [
            (&["allow web db:5432"][..], &[][..], false, "+1 allow web db:5432/tcp"),
            (&["default-deny net1", "allow web db:5432"], &[], false, "+2 default-deny net1, =1 allow web db:5432/tcp"),
            (&["deny net1 outside"], &[1], false, "-1 allow web db:5432/tcp, +3 deny network:net1 outside"),
            (&["deny any net2"], &[], false, "+4 deny any net2"),
            (&["default-deny net1"], &[], true, "-3 deny network:net1 outside, -4 deny any net2, =2 default-deny net1"),
            (&[], &[2], false, "-2 default-deny net1"),
            (&["allow any web"], &[], false, "+5 allow any web"),
            (&[], &[7], false, "no policy 7: see `netd policy ls`"),
            (&["deny any network:net9"], &[], false, "no network \"net9\": see `netd network ls`"),
        ] {
            assert_eq!(outcome(&mut state, add, remove, only), expected);
        }
    }
}
