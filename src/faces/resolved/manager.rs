//! `org.freedesktop.resolve1.Manager` (org.freedesktop.resolve1(5)): the calls that configure a link.

use std::net::IpAddr;

use super::target::Settings;

/// The manager object. `ifindex` is the index of a link in resolved's network namespace.
#[zbus::proxy(interface = "org.freedesktop.resolve1.Manager", default_path = "/org/freedesktop/resolve1")]
pub(super) trait Manager {
    /// Sets the link's servers: address family, and address in network byte order.
    #[zbus(name = "SetLinkDNS")]
    fn set_link_dns(&self, ifindex: i32, addresses: &[(i32, Vec<u8>)]) -> zbus::Result<()>;
    /// Sets the link's domains. `true`: for routing only, not for searching.
    fn set_link_domains(&self, ifindex: i32, domains: &[(&str, bool)]) -> zbus::Result<()>;
    /// Sets whether the link is used for names that no domain covers.
    fn set_link_default_route(&self, ifindex: i32, enable: bool) -> zbus::Result<()>;
    /// "yes", "no" or "resolve".
    #[zbus(name = "SetLinkLLMNR")]
    fn set_link_llmnr(&self, ifindex: i32, mode: &str) -> zbus::Result<()>;
    /// "yes", "no" or "resolve".
    #[zbus(name = "SetLinkMulticastDNS")]
    fn set_link_multicast_dns(&self, ifindex: i32, mode: &str) -> zbus::Result<()>;
    /// "yes", "no" or "opportunistic".
    #[zbus(name = "SetLinkDNSOverTLS")]
    fn set_link_dns_over_tls(&self, ifindex: i32, mode: &str) -> zbus::Result<()>;
    /// "yes", "no" or "allow-downgrade".
    #[zbus(name = "SetLinkDNSSEC")]
    fn set_link_dnssec(&self, ifindex: i32, mode: &str) -> zbus::Result<()>;
    /// Reverts all of these settings.
    fn revert_link(&self, ifindex: i32) -> zbus::Result<()>;
}

impl ManagerProxy<'_> {
    /// Sets everything of a link.
    pub(super) async fn set(&self, ifindex: i32, settings: &Settings) -> zbus::Result<()> {
        // Servers last: no question may go to them before the domains are set.
        self.set_link_default_route(ifindex, false).await?;
        let domains: Vec<(&str, bool)> = settings.domains.iter().map(|domain| (domain.as_str(), true)).collect();
        self.set_link_domains(ifindex, &domains).await?;
        // Containers are not asked for the host's single-label names, because each of them could claim any name.
        self.set_link_llmnr(ifindex, "no").await?;
        self.set_link_multicast_dns(ifindex, "no").await?;
        // netd's answers are neither signed nor encrypted, whatever the host requires of other servers; they never
        // leave the host.
        self.set_link_dns_over_tls(ifindex, "no").await?;
        self.set_link_dnssec(ifindex, "no").await?;
        let servers: Vec<(i32, Vec<u8>)> = settings.servers.iter().map(server).collect();
        self.set_link_dns(ifindex, &servers).await
    }
}

fn server(address: &IpAddr) -> (i32, Vec<u8>) {
    match address {
        IpAddr::V4(address) => (libc::AF_INET, address.octets().to_vec()),
        IpAddr::V6(address) => (libc::AF_INET6, address.octets().to_vec()),
    }
}

/// Whether resolved does not know the link: not yet, or no longer.
pub(super) fn knows_no_link(error: &zbus::Error) -> bool {
    matches!(error, zbus::Error::MethodError(name, ..) if name.as_str() == "org.freedesktop.resolve1.NoSuchLink")
}
