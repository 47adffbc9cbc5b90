//! User-defined names: networks, containers, aliases, and valid interface names.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Invalid;

/// Longest network and container name: one DNS label (RFC 1035, 2.3.4), because both occur in DNS names.
const LABEL_MAX: usize = 63;
/// Longest domain name in text form without the final dot (RFC 1035, 2.3.4: 255 octets on the wire).
const DOMAIN_MAX: usize = 253;
/// Longest service name (RFC 6335, 5.1).
const SERVICE_MAX: usize = 15;
/// `IFNAMSIZ` - 1 (linux/if.h).
const IFNAME_MAX: usize = 15;

/// A validated string: one private field, parsed by `check`, displayed and stored as text.
macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $what:literal, $check:path) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(String);

        impl $type {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = Invalid;
            fn from_str(text: &str) -> Result<Self, Invalid> {
                match $check(text) {
                    Ok(()) => Ok(Self(text.to_owned())),
                    Err(why) => Err(Invalid::new($what, text, why)),
                }
            }
        }

        impl TryFrom<String> for $type {
            type Error = Invalid;
            fn try_from(text: String) -> Result<Self, Invalid> {
                text.parse()
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> String {
                name.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl AsRef<str> for $type {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    };
}

name!(
    /// A network's name: `[a-zA-Z0-9][a-zA-Z0-9_.-]*`, at most 63 bytes (CNI spec 1.1.0, section 1; Podman's rule).
    NetworkName, "network name", identifier
);
name!(
    /// A container's name: the same form as a network's, but as long as an id may be, because a runtime's container
    /// without a name is named by its id. A name that is too long for a DNS label is not a DNS name
    /// ([`ContainerName::resolves`]).
    ContainerName, "container name", container
);
name!(
    /// The id of a reservation, chosen by who reserves: the form of a container's name, so that a container's name or id
    /// can be one. Unique on the host, compared as it is.
    ReservationId, "reservation id", container
);
name!(
    /// The name of a network interface: 1 to 15 bytes, no `/`, `:` or white space, not `.` or `..`
    /// (`dev_valid_name`, net/core/dev.c).
    IfName, "interface name", interface
);
name!(
    /// A DNS name of a container: labels of letters, digits, `-` and `_`, joined by dots, at most 63 bytes each and 253
    /// in all; stored as given, compared without case (RFC 4343).
    DnsName, "DNS name", domain
);
name!(
    /// A further name of a container: a DNS name, or `*.` and one. The latter covers every name below that one, at any
    /// depth, except names that a container has exactly.
    Alias, "DNS name", alias
);
name!(
    /// The name of a service, which stands for several containers: one DNS label, with `_` allowed as Docker's stacks do.
    ServiceName, "service name", identifier
);
name!(
    /// A service, as SRV records name it: 1 to 15 letters, digits and hyphens, at least one letter (RFC 6335, 5.1).
    SrvName, "name of a port", service
);

impl ContainerName {
    /// Whether it can be resolved in DNS.
    pub fn resolves(&self) -> bool {
        domain(&self.0).is_ok()
    }
}

impl IfName {
    /// Refuses names that the kernel gives to no interface because they denote the settings of all interfaces
    /// (`sysctl_dev_name_is_allowed`, net/core/sysctl_net_core.c).
    pub fn for_new(self) -> Result<Self, Invalid> {
        if matches!(self.as_str(), "all" | "default") {
            let why = "the kernel reserves this name for the settings of all interfaces: choose another";
            return Err(Invalid::new("interface name", self.0, why));
        }
        Ok(self)
    }

    /// Sorts before every valid name, and is not a valid name itself.
    pub(super) fn lowest() -> Self {
        Self(String::new())
    }
}

impl DnsName {
    /// The form for comparison and lookup: ASCII lower case.
    pub fn key(&self) -> String {
        self.0.to_ascii_lowercase()
    }
}

impl Alias {
    /// The form for comparison and lookup: ASCII lower case, including the `*.` if it has one.
    pub fn key(&self) -> String {
        self.0.to_ascii_lowercase()
    }
}

fn identifier(text: &str) -> Result<(), String> {
    name_of_at_most(LABEL_MAX, text)
}

fn container(text: &str) -> Result<(), String> {
    name_of_at_most(super::ids::CONTAINER_ID_MAX, text)
}

fn name_of_at_most(max: usize, text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Err("it is empty".into());
    }
    if text.len() > max {
        return Err(format!("it has {} bytes, at most {max} are allowed", text.len()));
    }
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    if !text.starts_with(|c: char| c.is_ascii_alphanumeric()) || !text.chars().all(good) {
        return Err("use letters, digits, '_', '.' and '-', beginning with a letter or digit".into());
    }
    if text.ends_with('.') || text.contains("..") {
        return Err("a dot must stand between two other characters".into());
    }
    Ok(())
}

fn interface(text: &str) -> Result<(), String> {
    if text.is_empty() || text.len() > IFNAME_MAX {
        return Err(format!("it has {} bytes, 1 to {IFNAME_MAX} are allowed", text.len()));
    }
    if text == "." || text == ".." || text.contains(|c: char| matches!(c, '/' | ':' | '%') || !c.is_ascii_graphic()) {
        return Err("'/', ':', '%', white space and non-ASCII characters are not allowed".into());
    }
    Ok(())
}

fn domain(text: &str) -> Result<(), String> {
    if text.is_empty() || text.len() > DOMAIN_MAX {
        return Err(format!("it has {} bytes, 1 to {DOMAIN_MAX} are allowed", text.len()));
    }
    for label in text.split('.') {
        if label.is_empty() || label.len() > LABEL_MAX {
            return Err(format!("each part between dots must have 1 to {LABEL_MAX} bytes"));
        }
        if !label.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_')) {
            return Err("use letters, digits, '-' and '_' between dots".into());
        }
    }
    Ok(())
}

fn alias(text: &str) -> Result<(), String> {
    let below = text.strip_prefix("*.").unwrap_or(text);
    if text.len() > DOMAIN_MAX {
        return Err(format!("it has {} bytes, 1 to {DOMAIN_MAX} are allowed", text.len()));
    }
    domain(below).map_err(|why| if below.contains('*') { format!("{why}; '*.' only first, as in *.app") } else { why })
}

fn service(text: &str) -> Result<(), String> {
    let good = |c: char| c.is_ascii_alphanumeric() || c == '-';
    let edges = text.starts_with('-') || text.ends_with('-') || text.contains("--");
    if text.is_empty() || text.len() > SERVICE_MAX || !text.chars().all(good) || edges {
        return Err(format!("use 1 to {SERVICE_MAX} letters, digits and single hyphens between them, as in http"));
    }
    if !text.contains(|c: char| c.is_ascii_alphabetic()) {
        return Err("it has no letter: use a name such as http".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_name_is_what_cni_and_podman_accept() {
        for good in ["net1", "a", "A.b-c_d", "0net"] {
            assert!(good.parse::<NetworkName>().is_ok(), "{good}");
        }
        for bad in ["", "-a", ".a", "a b", "a/b", "ä", "a..b", "a.", &"a".repeat(64)] {
            assert!(bad.parse::<NetworkName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn an_interface_name_fits_the_kernel() {
        for good in ["nd-net1", "All", "default0"] {
            assert!(good.parse::<IfName>().and_then(IfName::for_new).is_ok(), "{good}");
        }
        for bad in ["all", "default"] {
            assert!(bad.parse::<IfName>().and_then(IfName::for_new).is_err(), "{bad}");
        }
        for bad in ["", ".", "..", "a/b", "a:b", "a b", "0123456789abcdef", "eth%d"] {
            assert!(bad.parse::<IfName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_wildcard_stands_first_and_alone() {
        for good in ["*.app", "*.a.b.c", "www", "a.b.c", "_x.y"] {
            assert!(good.parse::<Alias>().is_ok(), "{good}");
        }
        for bad in
            ["*", "*.", "*.*.app", "a.*.app", "app.*", "*app", "*..app", "", ".", &format!("*.{}", "a.".repeat(126))]
        {
            assert!(bad.parse::<Alias>().is_err(), "{bad}");
        }
        assert!("a.*".parse::<Alias>().unwrap_err().to_string().contains("as in *.app"));
        assert!("*.app".parse::<DnsName>().is_err(), "nobody asks for it");
    }

    #[test]
    fn a_service_has_a_name_of_rfc_6335() {
        for good in ["http", "X11", "ms-sql-s", "a"] {
            assert!(good.parse::<SrvName>().is_ok(), "{good}");
        }
        for bad in ["", "80", "-a", "a-", "a--b", "a_b", "a.b", &"a".repeat(16)] {
            assert!(bad.parse::<SrvName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_error_names_the_value_and_the_rule() {
        let error = "a b".parse::<NetworkName>().unwrap_err().to_string();
        assert!(error.starts_with("invalid network name \"a b\": use letters"), "{error}");
    }
}
