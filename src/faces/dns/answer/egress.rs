//! Questions of containers with a stance about egress. A name that is not allowed is not forwarded, whatever the type of the
//! question: a name server outside could learn from it what the container says. Of an allowed one the addresses that the
//! upstream answers are opened before the reply leaves.

use std::net::IpAddr;
use std::time::Duration;

use hickory_proto::op::{Query, ResponseCode};
use hickory_proto::rr::rdata::SVCB;
use hickory_proto::rr::rdata::svcb::{SvcParamKey, SvcParamValue};
use hickory_proto::rr::{Name, RData, Record};

use crate::engine::telemetry::egress::Answered;
use crate::engine::telemetry::egress::log::Verdict;
use crate::engine::{Handle, Snapshot};
use crate::faces::dns::message::reply::Reply;
use crate::model::address::Family;
use crate::model::desired::egress::Restraint;
use crate::model::egress::{Allowance, To};
use crate::model::ids::ContainerId;
use crate::model::policy::Ports;

/// Extended DNS errors (RFC 8914, 4.16 and 4.19): blocked, prohibited.
const BLOCKED: u16 = 15;
const PROHIBITED: u16 = 18;
/// Most addresses of an answer: the others are taken out of it.
const MOST: usize = 64;
const WHY: &str = "not allowed by the container's egress";

/// What is said about a question that would be forwarded.
pub(crate) enum Judged {
    /// Nobody has said anything about the client.
    Free,
    /// It is not forwarded.
    Refused(Reply),
    /// It is forwarded, and what is answered is noted or opened.
    Held(Box<Gate>),
}

/// What happens to an answer before it leaves.
#[derive(Debug)]
pub(crate) struct Gate {
    container: ContainerId,
    name: String,
    kind: String,
    /// Nothing is to be opened if everything is open.
    denies: bool,
    /// The ports that are allowed; `None`: everything.
    ports: Option<Vec<Ports>>,
}

/// Judges a question of the client.
pub(crate) fn judge(snapshot: &Snapshot, client: IpAddr, query: &Query, handle: Option<&Handle>) -> Judged {
    let Some((attached, restraint)) = snapshot.desired.restraint_at(client) else { return Judged::Free };
    let name = plain(query.name());
    let shown = || name.clone().unwrap_or_else(|| query.name().to_ascii());
    let gate = |ports| {
        let (container, kind) = (attached.container.id.clone(), query.query_type().to_string());
        Gate { container, name: shown(), kind, denies: restraint.denies(), ports }
    };
    if !restraint.denies() {
        return Judged::Held(Box::new(gate(None)));
    }
    let covering = |name: &String| -> Vec<&Allowance> {
        restraint.allowances().filter(|allowance| allowance.covers(name)).collect()
    };
    let allowances = name.as_ref().map(covering).unwrap_or_default();
    if !allowances.is_empty() {
        let ports = allowances.iter().map(|allowance| allowance.ports).collect();
        return Judged::Held(Box::new(gate(ports)));
    }
    gate(None).note(handle, Verdict::Refused);
    let is_searched = name.as_ref().is_some_and(|name| follows_allowed(name, &restraint));
    // A resolver with search domains tries the next one after NXDOMAIN only.
    let (code, error) =
        if is_searched { (ResponseCode::NXDomain, BLOCKED) } else { (ResponseCode::Refused, PROHIBITED) };
    Judged::Refused(Reply { extended: Some((error, WHY)), ..Reply::error(code) })
}

/// The name in lower case without the final dot; `None` if it has other characters than names of hosts and services, which
/// need escapes: an escaped dot is none between labels.
fn plain(name: &Name) -> Option<String> {
    let text = name.to_ascii().to_ascii_lowercase();
    let text = text.strip_suffix('.').unwrap_or(&text);
    let is_plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
    (is_plain && !text.is_empty()).then(|| text.to_owned())
}

/// Whether a resolver may ask for it on its way to an allowed name, with search domains or without: it is an allowed name
/// with something behind it, or begins as one.
fn follows_allowed(name: &str, restraint: &Restraint<'_>) -> bool {
    let first = |name: &str| name.split('.').next().map(str::to_owned);
    restraint.allowances().any(|allowance| match &allowance.to {
        To::Name(own) => first(name) == first(own.as_str()),
        To::Below(above) => name.contains(&format!(".{above}.")),
        To::Subnet(_) => false,
    })
}

impl Gate {
    /// Opens what the reply answers. The reply that leaves is another one if that fails.
    pub(crate) async fn pass(self: Box<Self>, query: &Name, mut reply: Reply, handle: Option<&Handle>) -> Reply {
        if !self.denies {
            self.note(handle, Verdict::Open);
            return reply;
        }
        let mut addresses = answered(query, &reply);
        if addresses.len() > MOST {
            addresses.truncate(MOST);
            let is_opened = |address: &IpAddr| addresses.iter().any(|(opened, _)| opened == address);
            for records in [&mut reply.answers, &mut reply.additionals] {
                records.retain(|record| addresses_of(&record.data).iter().all(is_opened));
            }
        }
        if addresses.is_empty() {
            self.note(handle, Verdict::Allowed);
            return reply;
        }
        let (container, name, ports) = (self.container.clone(), self.name.clone(), self.ports.clone());
        let is_open = match handle {
            Some(handle) => {
                handle.telemetry().egress.named(&container, &name, &addresses);
                handle.open(Answered { container, name, addresses, ports }).await
            }
            None => false,
        };
        self.note(handle, if is_open { Verdict::Allowed } else { Verdict::Failed });
        if is_open { reply } else { Reply::error(ResponseCode::ServFail) }
    }

    fn note(&self, handle: Option<&Handle>, verdict: Verdict) {
        let Some(handle) = handle else { return };
        handle.telemetry().egress.asked(&self.container, &self.name, self.kind.clone(), verdict);
    }
}

/// The addresses of the name in the reply, through aliases (CNAME), with their times to live. Hints of HTTPS and SVCB
/// records count, too: a client may connect to them at once.
fn answered(name: &Name, reply: &Reply) -> Vec<(IpAddr, Duration)> {
    let mut names = vec![name.to_lowercase()];
    // In any order, as long as each step finds another one.
    for _ in 0..=reply.answers.len() {
        let next = reply.answers.iter().filter(|record| names.contains(&record.name.to_lowercase()));
        let next = next.filter_map(|record| match &record.data {
            RData::CNAME(target) => Some(target.0.to_lowercase()),
            _ => None,
        });
        let Some(next) = next.into_iter().find(|target| !names.contains(target)) else { break };
        names.push(next);
    }
    let all = reply.answers.iter().chain(&reply.additionals);
    let own = all.filter(|record| names.contains(&record.name.to_lowercase()));
    let of = |record: &Record| -> Vec<(IpAddr, Duration)> {
        let ttl = Duration::from_secs(record.ttl.into());
        addresses_of(&record.data).into_iter().filter(|address| is_elsewhere(*address)).map(|ip| (ip, ttl)).collect()
    };
    own.flat_map(of).collect()
}

fn addresses_of(data: &RData) -> Vec<IpAddr> {
    match data {
        RData::A(v4) => vec![v4.0.into()],
        RData::AAAA(v6) => vec![v6.0.into()],
        RData::HTTPS(https) => hints(&https.0),
        RData::SVCB(svcb) => hints(svcb),
        _ => Vec::new(),
    }
}

fn hints(svcb: &SVCB) -> Vec<IpAddr> {
    let hint = |(_, value): &(SvcParamKey, SvcParamValue)| -> Vec<IpAddr> {
        match value {
            SvcParamValue::Ipv4Hint(hints) => hints.0.iter().map(|v4| v4.0.into()).collect(),
            SvcParamValue::Ipv6Hint(hints) => hints.0.iter().map(|v6| v6.0.into()).collect(),
            _ => Vec::new(),
        }
    };
    svcb.svc_params.iter().flat_map(hint).collect()
}

/// Whether an address may be one of somebody outside: a name that is allowed must not open what is near.
fn is_elsewhere(address: IpAddr) -> bool {
    let is_near = address.is_loopback() || address.is_unspecified() || address.is_multicast();
    !is_near
        && match address {
            IpAddr::V4(v4) => !v4.is_link_local() && !v4.is_broadcast() && v4.octets()[0] != 0 && v4.octets()[0] < 240,
            // Those that stand for IPv4 are not routed.
            IpAddr::V6(v6) => !v6.is_unicast_link_local() && Family::of(address.to_canonical()) == Family::V6,
        }
}

#[cfg(test)]
mod tests {
    use hickory_proto::rr::rdata::{A, AAAA, CNAME};

    use super::*;

    fn name(text: &str) -> Name {
        Name::from_ascii(text).unwrap()
    }

    fn record(owner: &str, data: RData) -> Record {
        Record::from_rdata(name(owner), 7, data)
    }

    #[test]
    fn the_addresses_of_the_chain_are_opened_and_no_others() {
        let v4 = |text: &str| RData::A(A(text.parse().unwrap()));
        let v6 = |text: &str| RData::AAAA(AAAA(text.parse().unwrap()));
        let alias = |text: &str| RData::CNAME(CNAME(name(text)));
        let answers = vec![
            record("c.test.", v4("192.0.2.3")),
            record("B.test.", alias("c.test.")),
            record("a.test.", alias("b.test.")),
            record("c.test.", v6("2001:db8::3")),
            record("x.test.", v4("192.0.2.9")),
            record("c.test.", alias("a.test.")),
        ];
        let near = ["127.0.0.1", "169.254.169.254", "0.0.0.0", "224.0.0.1", "255.255.255.255", "240.0.0.1", "0.1.2.3"];
        let near6 = ["::1", "::", "fe80::1", "ff02::1", "::ffff:192.0.2.1"];
        let near = near.iter().map(|to| record("c.test.", v4(to))).chain(near6.map(|to| record("c.test.", v6(to))));
        let additionals = vec![record("c.test.", v4("192.0.2.4")), record("y.test.", v4("192.0.2.8"))];
        let answers = answers.into_iter().chain(near).collect();
        let reply = Reply { answers, additionals, ..Reply::error(ResponseCode::NoError) };
        let found: Vec<String> = answered(&name("A.test."), &reply).iter().map(|(to, _)| to.to_string()).collect();
        assert_eq!(found, ["192.0.2.3", "2001:db8::3", "192.0.2.4"]);
        assert_eq!(answered(&name("z.test."), &reply), []);
    }

    #[test]
    fn a_name_with_escapes_is_no_plain_one() {
        assert_eq!(plain(&name("A_b-1.Test.")).as_deref(), Some("a_b-1.test"));
        let odd = Name::from_labels([&b"evil.example"[..], b"test"]).unwrap();
        assert_eq!((plain(&odd), plain(&Name::root())), (None, None));
    }
}
