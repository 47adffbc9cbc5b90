//! The content of a container's resolv.conf, merged from several sources.

use std::net::IpAddr;

use serde_json::{Map, Value, json};

use super::fields::Fields;
use super::fields::push_new;
use crate::api::v1::Dns;
use crate::faces::cni::failure::Failure;

/// The settings of one source, or of all sources.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Resolver {
    pub(crate) nameservers: Vec<String>,
    pub(crate) domain: Option<String>,
    pub(crate) search: Vec<String>,
    pub(crate) options: Vec<String>,
}

impl From<&Dns> for Resolver {
    fn from(dns: &Dns) -> Self {
        Self {
            nameservers: dns.nameservers.iter().map(ToString::to_string).collect(),
            domain: Some(dns.domain.clone()).filter(|domain| !domain.is_empty()),
            search: dns.search.clone(),
            options: dns.options.clone(),
        }
    }
}

impl Resolver {
    /// Reads requested settings. The two conventions have different names for the lists.
    pub(crate) fn asked(fields: &Fields<'_>, servers: &str, search: &str) -> Result<Self, Failure> {
        let nameservers = fields.texts(servers)?;
        if nameservers.iter().any(|server| server.parse::<IpAddr>().is_err()) {
            return Err(fields.wrong(servers, "use IP addresses"));
        }
        Self::from_runtime(fields, servers, search)
    }

    /// Reads the settings of another plugin's result.
    pub(crate) fn from_runtime(fields: &Fields<'_>, servers: &str, search: &str) -> Result<Self, Failure> {
        Ok(Self {
            nameservers: fields.texts(servers)?,
            domain: fields.text("domain")?.map(str::to_owned),
            search: fields.texts(search)?,
            options: fields.texts("options")?,
        })
    }

    /// Appends the settings of a later source. The first domain is the domain; another one is still searched, which is
    /// the purpose of a domain (resolv.conf(5)).
    pub(crate) fn and(mut self, later: &Self) -> Self {
        for (list, more) in [(&mut self.nameservers, &later.nameservers), (&mut self.options, &later.options)] {
            more.iter().for_each(|text| push_new(list, text.clone()));
        }
        later.search.iter().for_each(|domain| push_domain(&mut self.search, domain));
        match (&self.domain, &later.domain) {
            (Some(_), Some(other)) => push_domain(&mut self.search, other),
            (None, _) => self.domain.clone_from(&later.domain),
            (Some(_), None) => {}
        }
        self
    }

    /// Merges all settings. netd's come first, so that its names resolve, but a domain of the administrator takes
    /// precedence.
    pub(crate) fn together(netd: &Dns, administrator: &Self, others: [&Self; 2]) -> Self {
        let mut all = Self::from(netd).and(administrator);
        all.domain = administrator.domain.clone().or(all.domain);
        others.into_iter().fold(all, Self::and)
    }

    /// The settings as in a result. Empty lists are left out.
    pub(crate) fn json(&self) -> Option<Value> {
        let mut dns = Map::new();
        for (key, list) in [("nameservers", &self.nameservers), ("search", &self.search), ("options", &self.options)] {
            if !list.is_empty() {
                dns.insert(key.into(), json!(list));
            }
        }
        if let Some(domain) = &self.domain {
            dns.insert("domain".into(), json!(domain));
        }
        (!dns.is_empty()).then_some(Value::Object(dns))
    }
}

/// Appends a domain unless the list contains it, ignoring case and a final dot.
fn push_domain(list: &mut Vec<String>, domain: &str) {
    let bare = |domain: &str| domain.trim_end_matches('.').to_ascii_lowercase();
    if !list.iter().any(|known| bare(known) == bare(domain)) {
        list.push(domain.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_is_searched_once_however_it_is_written() {
        let of = |search: &[&str]| Resolver {
            search: search.iter().map(|domain| (*domain).to_owned()).collect(),
            ..Resolver::default()
        };
        let all = of(&["internal", "Corp.Example"]).and(&of(&["corp.example.", "lan", "LAN."]));
        assert_eq!(all.search, ["internal", "Corp.Example", "lan"]);
    }

    #[test]
    fn the_administrators_domain_is_the_domain_and_none_is_lost() {
        let of = |domain: &str| Resolver { domain: Some(domain.into()), ..Resolver::default() };
        let netd = Dns { domain: "internal".into(), search: vec!["internal".into()], ..Dns::default() };
        let none = Resolver::default();
        let all = Resolver::together(&netd, &none, [&of("lease.example"), &none]);
        assert_eq!((all.domain.as_deref(), all.search.join(" ")), (Some("internal"), "internal lease.example".into()));
        let all = Resolver::together(&netd, &of("db.example"), [&of("lease.example"), &none]);
        let search = "internal db.example lease.example".to_owned();
        assert_eq!((all.domain.as_deref(), all.search.join(" ")), (Some("db.example"), search));
    }

    #[test]
    fn nothing_is_no_dictionary() {
        assert_eq!(Resolver::default().json(), None);
    }
}
