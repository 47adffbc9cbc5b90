//! Policies: the requests, how they are shown, and whether one reaches another.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::text;
use super::time::rfc3339;
use crate::model::policy::{Action, Ports, Rule, Subject, target};
use crate::model::request::PolicyChange;
use crate::model::{Invalid, policy};

/// What a policy says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PolicyRule {
    /// `allow`, `deny`, or `default-deny`: nothing enters the network `to` unless a policy allows it.
    #[schema(value_type = text::PolicyAction)]
    pub action: Action,
    /// Who begins the flows; of `default-deny`: anybody.
    #[serde(default = "anybody")]
    #[schema(value_type = text::PolicySubject)]
    pub from: String,
    /// To whom; of `default-deny`: the name of a network.
    #[schema(value_type = text::PolicySubject)]
    pub to: String,
    /// `PORT[-END][/PROTOCOL]`, TCP by default; absent: every port and protocol.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<text::PolicyPorts>)]
    pub ports: Option<String>,
}

/// A policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Policy {
    /// Assigned once.
    pub id: u64,
    /// `allow`, `deny`, or `default-deny`.
    #[schema(value_type = text::PolicyAction)]
    pub action: Action,
    /// Who begins the flows.
    pub from: String,
    /// To whom; of `default-deny`: the name of a network.
    pub to: String,
    /// `PORT[-END]/PROTOCOL`; absent: every port and protocol.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ports: Option<String>,
    /// The containers for which `from` stands now.
    pub from_containers: Vec<String>,
    /// The containers for which `to` stands now.
    pub to_containers: Vec<String>,
    /// How many packets it has denied since the daemon started, as far as they have been counted (every 10 s).
    pub denied_packets: u64,
    /// RFC 3339, UTC, to the second.
    #[schema(format = DateTime)]
    pub created: String,
}

/// Which policies are to be there.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangePolicies {
    /// Those to be there; one that is there already is no error.
    #[serde(default)]
    pub policies: Vec<PolicyRule>,
    /// The ids of those to be gone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<text::PolicyId>)]
    pub remove: Vec<String>,
    /// Whether nothing else is to be there.
    #[serde(default)]
    pub only: bool,
}

/// What became of policies.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct PoliciesChanged {
    /// Those that are new.
    pub added: Vec<Policy>,
    /// Those that are gone.
    pub removed: Vec<Policy>,
    /// Those that were asked for and were there.
    pub unchanged: Vec<Policy>,
}

/// Whether one reaches another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Judgement {
    /// Who would begin the flow.
    pub from: String,
    /// To whom.
    pub to: String,
    /// Whether it passes.
    pub allowed: bool,
    /// What decides.
    pub why: String,
    /// The policy that decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<u64>,
}

fn anybody() -> String {
    Subject::Any.to_string()
}

impl PolicyRule {
    /// `FROM TO[:PORTS]`, as on the command line.
    pub fn parse(action: Action, from: &str, to: &str) -> Result<Self, Invalid> {
        let (subject, ports) = target(to)?;
        let from: Subject = from.parse()?;
        let ports = ports.map(|ports| ports.to_string());
        Ok(Self { action, from: from.to_string(), to: subject.to_string(), ports })
    }

    /// Checks it.
    pub fn rule(&self) -> Result<Rule, Invalid> {
        let to = match (self.action, self.to.contains(':')) {
            (Action::DefaultDeny, false) => Subject::Network(self.to.parse()?),
            _ => self.to.parse()?,
        };
        let ports: Option<Ports> = self.ports.as_deref().map(str::parse).transpose()?;
        let rule = Rule { action: self.action, from: self.from.parse()?, to, ports };
        rule.check()?;
        Ok(rule)
    }
}

impl From<&Rule> for PolicyRule {
    fn from(rule: &Rule) -> Self {
        let to = match (rule.action, &rule.to) {
            (Action::DefaultDeny, Subject::Network(network)) => network.to_string(),
            (_, to) => to.to_string(),
        };
        Self { action: rule.action, from: rule.from.to_string(), to, ports: rule.ports.map(|ports| ports.to_string()) }
    }
}

impl Policy {
    /// What it says.
    pub fn rule(&self) -> PolicyRule {
        let (from, to, ports) = (self.from.clone(), self.to.clone(), self.ports.clone());
        PolicyRule { action: self.action, from, to, ports }
    }
}

impl ChangePolicies {
    /// Checks it.
    pub fn into_change(self) -> Result<PolicyChange, Invalid> {
        let add = self.policies.iter().map(PolicyRule::rule).collect::<Result<_, _>>()?;
        let remove = self.remove.iter().map(|id| policy_id(id)).collect::<Result<_, _>>()?;
        Ok(PolicyChange { add, remove, only: self.only })
    }
}

/// A policy's id.
pub fn policy_id(text: &str) -> Result<u64, Invalid> {
    text.parse().map_err(|_| Invalid::new("policy id", text, "use a number, as in `netd policy ls`"))
}

impl From<&policy::Policy> for Policy {
    /// Without what is found out about it.
    fn from(policy: &policy::Policy) -> Self {
        let PolicyRule { action, from, to, ports } = (&policy.rule).into();
        Self {
            id: policy.id,
            action,
            from,
            to,
            ports,
            from_containers: Vec::new(),
            to_containers: Vec::new(),
            denied_packets: 0,
            created: rfc3339(policy.created),
        }
    }
}
