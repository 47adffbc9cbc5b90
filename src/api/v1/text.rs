//! The forms of text in requests, for the published description only: what a client can check before it asks. The
//! parsers of the model decide; a form is what they accept, or contains it where a pattern cannot say it all.

#![allow(dead_code, reason = "the types describe texts, nothing has their values")]

mod modes;

pub use self::modes::{EgressStance, PublishMode};
use utoipa::ToSchema;

/// A network's name.
#[derive(ToSchema)]
#[schema(pattern = r"^[a-zA-Z0-9](\.?[a-zA-Z0-9_-])*$", max_length = 63, examples("net1"))]
pub struct NetworkName(String);

/// A network: its name, its id or a unique beginning of the id.
#[derive(ToSchema)]
#[schema(pattern = r"^[a-zA-Z0-9](\.?[a-zA-Z0-9_-])*$", max_length = 64, examples("net1"))]
pub struct AnyNetwork(String);

/// A network's id.
#[derive(ToSchema)]
#[schema(pattern = "^[0-9a-f]{64}$")]
pub struct NetworkId(String);

/// A container's name. One that is not a domain name, because a part of it is longer than 63 bytes, must be the id too.
#[derive(ToSchema)]
#[schema(pattern = r"^[a-zA-Z0-9](\.?[a-zA-Z0-9_-])*$", max_length = 128, examples("web"))]
pub struct ContainerName(String);

/// A container's id, from its runtime.
#[derive(ToSchema)]
#[schema(pattern = "^[a-zA-Z0-9][a-zA-Z0-9_.-]*$", max_length = 128, examples("4f5e"))]
pub struct ContainerId(String);

/// A container: its name, its id or a unique beginning of the id.
#[derive(ToSchema)]
#[schema(pattern = "^[a-zA-Z0-9][a-zA-Z0-9_.-]*$", max_length = 128, examples("web"))]
pub struct AnyContainer(String);

/// A reservation's id, chosen by who reserves.
#[derive(ToSchema)]
#[schema(pattern = r"^[a-zA-Z0-9](\.?[a-zA-Z0-9_-])*$", max_length = 128, examples("web"))]
pub struct ReservationId(String);

/// A service's name.
#[derive(ToSchema)]
#[schema(pattern = r"^[a-zA-Z0-9](\.?[a-zA-Z0-9_-])*$", max_length = 63, examples("web"))]
pub struct ServiceName(String);

/// A service's id.
#[derive(ToSchema)]
#[schema(pattern = "^[0-9a-z]{25}$")]
pub struct ServiceId(String);

/// A service: its name, its id or a unique beginning of the id.
#[derive(ToSchema)]
#[schema(pattern = r"^[a-zA-Z0-9](\.?[a-zA-Z0-9_-])*$", max_length = 63, examples("web"))]
pub struct AnyService(String);

/// The name of a network interface; not `all` or `default`, which mean all of them.
#[derive(ToSchema)]
#[schema(pattern = r"^(\.{0,2}[!-$&-,\-0-9;-~]|\.{3})[!-$&-.0-9;-~]*$", max_length = 15, examples("eth0"))]
pub struct InterfaceName(String);

/// A domain name, without final dot.
#[derive(ToSchema)]
#[schema(pattern = r"^[a-zA-Z0-9_-]{1,63}(\.[a-zA-Z0-9_-]{1,63})*$", max_length = 253, examples("www"))]
pub struct DomainName(String);

/// A domain name, with or without final dot, or an IP address.
#[derive(ToSchema)]
#[schema(
    pattern = r"^([a-zA-Z0-9_-]{1,63}(\.[a-zA-Z0-9_-]{1,63})*\.?|[0-9a-fA-F:.]*:[0-9a-fA-F:.]*)$",
    examples("web")
)]
pub struct QuestionName(String);

/// A type of DNS records: A, AAAA, ANY, CAA, CNAME, HTTPS, MX, NAPTR, NS, PTR, SOA, SRV, SVCB or TXT, in upper or lower
/// case.
#[derive(ToSchema)]
#[schema(
    pattern = "^([aA]|[aA][aA][aA][aA]|[aA][nN][yY]|[cC][aA][aA]|[cC][nN][aA][mM][eE]|[hH][tT][tT][pP][sS]|[mM][xX]|[nN][aA][pP][tT][rR]|[nN][sS]|[pP][tT][rR]|[sS][oO][aA]|[sS][rR][vV]|[sS][vV][cC][bB]|[tT][xX][tT])$",
    examples("AAAA")
)]
pub struct RecordTypeName(String);

/// A domain name, or `*.` and one.
#[derive(ToSchema)]
#[schema(pattern = r"^(\*\.)?[a-zA-Z0-9_-]{1,63}(\.[a-zA-Z0-9_-]{1,63})*$", max_length = 253, examples("www"))]
pub struct Alias(String);

/// A MAC address: not a multicast address, not all zero.
#[derive(ToSchema)]
#[schema(pattern = "^[0-9a-fA-F][02468aceACE]([:-][0-9a-fA-F]{2}){5}$", examples("02:42:ac:11:00:02"))]
pub struct MacAddress(String);

/// An IPv4 address.
#[derive(ToSchema)]
#[schema(format = Ipv4, examples("10.77.0.5"))]
pub struct Ipv4Address(String);

/// An IPv6 address.
#[derive(ToSchema)]
#[schema(format = Ipv6, examples("fd00:1::5"))]
pub struct Ipv6Address(String);

/// An IP address.
#[derive(ToSchema, serde::Serialize)]
#[serde(untagged)]
pub enum IpAddress {
    /// IPv4.
    #[schema(format = Ipv4)]
    V4(String),
    /// IPv6.
    #[schema(format = Ipv6)]
    V6(String),
}

/// An address of an interface, with or without prefix length.
#[derive(ToSchema)]
#[schema(
    pattern = r"^([0-9]{1,3}(\.[0-9]{1,3}){3}|[0-9a-fA-F]*:[0-9a-fA-F:.]*)(/\+?[0-9]+)?$",
    examples("10.77.0.5/24")
)]
pub struct InterfaceAddress(String);

/// A prefix: an address and its length; outside of routes without host bits.
#[derive(ToSchema)]
#[schema(pattern = r"^([0-9]{1,3}(\.[0-9]{1,3}){3}|[0-9a-fA-F]*:[0-9a-fA-F:.]*)/[0-9.+]+$", examples("10.77.0.0/24"))]
pub struct Prefix(String);

/// A name server: `IP`, `IP:PORT`, `tls://IP[:PORT][#NAME]` or `https://IP[:PORT][/PATH][#NAME]`.
#[derive(ToSchema)]
#[schema(
    pattern = r"^(tls://|https://)?(\[([0-9]{1,3}(\.[0-9]{1,3}){3}|[0-9a-fA-F]*:[0-9a-fA-F:.]*(%[0-9]+)?)\](:[0-9]+)?|[0-9]{1,3}(\.[0-9]{1,3}){3}(:[0-9]+)?|[0-9a-fA-F]*:[0-9a-fA-F:.]*)(/[!-~]*)?(#[a-zA-Z0-9_.-]+)?$",
    examples("1.1.1.1")
)]
pub struct NameServer(String);

/// A port to publish, as on the command line.
#[derive(ToSchema)]
#[schema(
    pattern = r"^((((\[[0-9a-fA-F]*:[0-9a-fA-F:.]*\]|[0-9]{1,3}(\.[0-9]{1,3}){3})?:)?[0-9-]*:)?0*[1-9][0-9]{0,4}(-0*[1-9][0-9]{0,4})?(/[a-zA-Z]{3,4})?|[^=]+=.*)$",
    examples("4000:80")
)]
pub struct PortText(String);

/// A port that is served without being published: `PORT[/tcp|udp|sctp][=SERVICE]`.
#[derive(ToSchema)]
#[schema(pattern = "^0*[1-9][0-9]{0,4}(/[a-zA-Z]{3,4})?(=[a-zA-Z0-9-]{1,15})?$", examples("8080=http"))]
pub struct ExposedPort(String);

/// A port that members of a service serve: `PORT[/tcp|udp|sctp]`.
#[derive(ToSchema)]
#[schema(pattern = "^0*[1-9][0-9]{0,4}(/[a-zA-Z]{3,4})?$", examples("80/tcp"))]
pub struct Target(String);

/// What is asked for a member's health: `none`, `engine`, `tcp[:PORT]` or `http[:PORT]/PATH`.
#[derive(ToSchema)]
#[schema(
    pattern = "^(none|engine|tcp(:0*[1-9][0-9]{0,4})?|http(:0*[1-9][0-9]{0,4})?(/[!-~]*)?)$",
    examples("http:8080/healthz")
)]
pub struct HealthKind(String);

/// The absolute path of a network namespace.
#[derive(ToSchema)]
#[schema(pattern = r"^/[^\u0000-\u001f\u007f-\u009f]*$", examples("/run/netns/web"))]
pub struct NamespacePath(String);

/// Attachments, each as `OWNER/IFNAME`, joined by commas.
#[derive(ToSchema)]
#[schema(
    pattern = r"^[a-zA-Z0-9](\.?[a-zA-Z0-9_-])*/[!-$&-+\-.0-9;-~]{1,15}(,[a-zA-Z0-9](\.?[a-zA-Z0-9_-])*/[!-$&-+\-.0-9;-~]{1,15})*$",
    examples("podman/eth0")
)]
pub struct AttachmentList(String);

/// The key of a label.
#[derive(ToSchema)]
#[schema(min_length = 1, examples("tier"))]
pub struct LabelKey(String);

/// The key of an endpoint's label.
#[derive(ToSchema)]
#[schema(pattern = "^[^=]+$", examples("tier"))]
pub struct EndpointLabelKey(String);

/// The drivers that can be asked for.
#[derive(ToSchema, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum NetworkDriver {
    /// A bridge of the kernel.
    Bridge,
    /// Interfaces on top of one of the host's, each with its own MAC address.
    Macvlan,
    /// The same with the MAC address of the host's interface.
    Ipvlan,
    /// No interface but `lo`.
    None,
}

/// What a network's containers may reach on the host, besides the name service.
#[derive(ToSchema, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum HostAccess {
    /// Nothing.
    None,
    /// Ports that are published.
    Ports,
    /// Everything.
    All,
}

/// What passes: `NAME`, `*.NAME` or an address or a prefix, each with `:PORT[-END][/PROTOCOL]` if wanted.
#[derive(ToSchema)]
#[schema(pattern = r"^[^\u0000-\u0020]+$", examples("*.example.test:443"))]
pub struct Allowance(String);

/// What the name of a service resolves to.
#[derive(ToSchema, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ServiceMode {
    /// The addresses of its ready members.
    Dns,
    /// A virtual address.
    Vip,
}

/// Which member of a service gets a connection.
#[derive(ToSchema, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ServiceAffinity {
    /// Any.
    None,
    /// The same for all connections of a client's address.
    Client,
}

/// What the name of a service without ready members resolves to.
#[derive(ToSchema, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum WhenNoneReady {
    /// Nothing.
    Empty,
    /// All members.
    All,
}

/// What is said of a member of services.
#[derive(ToSchema, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum MemberAction {
    /// It is about to be stopped.
    Drain,
    /// It is not.
    Undrain,
    /// It is ready.
    Ready,
    /// It is not ready.
    Unready,
    /// Its health checks decide.
    Checked,
}

/// A transport protocol; upper and lower case mean the same.
#[derive(ToSchema, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

/// What a policy does: `allow`, `deny` or `default-deny`.
#[derive(ToSchema)]
#[schema(pattern = "^(allow|deny|default-deny)$", examples("allow"))]
pub struct PolicyAction(String);

/// Whom a policy is about: a name, `service:NAME`, `network:NAME`, `label:KEY=VALUE`, `host`, `outside` or `any`.
#[derive(ToSchema)]
#[schema(
    pattern = "^((service:|name:)?[a-zA-Z0-9_.-]+|label:[a-zA-Z0-9_.-]+(=[a-zA-Z0-9_.-]*)?)$",
    max_length = 253,
    examples("web")
)]
pub struct PolicySubject(String);

/// Whom a policy is about, with or without ports.
#[derive(ToSchema)]
#[schema(pattern = "^[a-zA-Z0-9_.-]+(:[1-9][0-9]{0,3}(/(tcp|udp|sctp))?)?$", max_length = 253, examples("db:5432"))]
pub struct PolicyTarget(String);

/// Ports of a policy.
#[derive(ToSchema)]
#[schema(pattern = "^[1-9][0-9]{0,3}(/(tcp|udp|sctp))?$", max_length = 16, examples("5432"))]
pub struct PolicyPorts(String);

/// A policy's id.
#[derive(ToSchema)]
#[schema(pattern = "^[1-9][0-9]{0,17}$", examples("3"))]
pub struct PolicyId(String);

#[cfg(test)]
mod tests {
    use std::str::FromStr;

    use proptest::strategy::{Strategy as _, ValueTree as _};
    use proptest::string::string_regex;
    use proptest::test_runner::TestRunner;

    use super::*;
    use crate::api::v1::attachments_of;
    use crate::api::v1::parse::{container_reference, labels, network_reference, record};
    use crate::model::address::{Mac, Subnet};
    use crate::model::publication::PortSpec;
    use crate::model::upstream::Upstream;
    use crate::model::{exposure, ids, names};

    /// Asserts that texts of the described form are accepted.
    fn all<T: ToSchema>(accepts: impl Fn(&str) -> bool) {
        let schema = serde_json::to_value(T::schema()).unwrap();
        let longest = schema["maxLength"].as_u64().map_or(usize::MAX, |longest| usize::try_from(longest).unwrap());
        // What generates texts knows no anchors.
        let pattern = schema["pattern"].as_str().unwrap();
        let whole = pattern.strip_prefix('^').and_then(|pattern| pattern.strip_suffix('$')).expect(pattern);
        let texts = string_regex(whole).unwrap();
        let mut runner = TestRunner::deterministic();
        let texts = (0..500).map(|_| texts.new_tree(&mut runner).unwrap().current());
        let texts: Vec<String> = texts.filter(|text| text.chars().count() <= longest).collect();
        assert!(texts.len() > 50, "{}: too few texts are short enough", T::name());
        for text in texts {
            assert!(accepts(&text), "{}: {text:?}", T::name());
        }
        for example in schema["examples"].as_array().into_iter().flatten() {
            assert!(accepts(example.as_str().unwrap()), "{}: {example}", T::name());
        }
    }

    fn parses<T: FromStr>(text: &str) -> bool {
        text.parse::<T>().is_ok()
    }

    #[test]
    fn what_has_the_described_form_is_accepted() {
        all::<NetworkName>(parses::<names::NetworkName>);
        all::<NetworkId>(parses::<ids::NetworkId>);
        all::<AnyNetwork>(|text| text.len() == 64 || network_reference(text).is_ok());
        all::<ContainerName>(parses::<names::ContainerName>);
        all::<ContainerId>(parses::<ids::ContainerId>);
        all::<AnyContainer>(|text| container_reference(text).is_ok());
        all::<ReservationId>(parses::<names::ReservationId>);
        all::<ServiceId>(parses::<ids::ServiceId>);
        all::<ServiceName>(parses::<names::ServiceName>);
        all::<InterfaceName>(parses::<names::IfName>);
        all::<DomainName>(parses::<names::DnsName>);
        all::<Alias>(parses::<names::Alias>);
        all::<MacAddress>(|text| text.starts_with("00") || parses::<Mac>(text));
        all::<RecordTypeName>(|kind| record("web", Some(kind)).is_ok());
        all::<EndpointLabelKey>(|key| labels([(key.to_owned(), String::new())].into()).is_ok());
        all::<NamespacePath>(|path| path.starts_with('/') && !path.contains(char::is_control));
    }

    /// Forms that contain more than what is accepted.
    #[test]
    fn the_examples_of_wider_forms_are_accepted() {
        fn example<T: ToSchema>() -> String {
            serde_json::to_value(T::schema()).unwrap()["examples"][0].as_str().unwrap().to_owned()
        }
        assert!(attachments_of("web", Some(&example::<AttachmentList>())).is_ok());
        assert!(parses::<exposure::Exposure>(&example::<ExposedPort>()));
        assert!(parses::<PortSpec>(&example::<PortText>()));
        assert!(parses::<crate::model::service::Target>(&example::<Target>()));
        assert!(parses::<crate::model::service::HealthKind>(&example::<HealthKind>()));
        assert!(parses::<Upstream>(&example::<NameServer>()));
        assert!(parses::<Subnet>(&example::<Prefix>()));
        assert!(parses::<crate::model::egress::Allowance>(&example::<Allowance>()));
        assert!(parses::<std::net::Ipv4Addr>(&example::<Ipv4Address>()));
        assert!(parses::<std::net::Ipv6Addr>(&example::<Ipv6Address>()));
    }
}
