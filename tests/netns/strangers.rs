//! Hosts with a route to a gateway that are neither a container nor the host: the name service does not answer them.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use libtest_mimic::Trial;

use crate::lab::{Dig, HOST4, HOST6, Lab, Proto, Server, ask, run, space, trial};

pub(crate) fn trials() -> Vec<Trial> {
    vec![trial("strangers: the name service does not answer the outside", from_outside)]
}

/// Where the name service listens at gateways by default.
const PORT: u16 = 61053;
/// Longer than any refusal of the host takes.
const PATIENCE: Duration = Duration::from_millis(500);

fn gateways(lab: &Lab) -> Vec<IpAddr> {
    let network = lab.network("net1");
    let subnets = network["subnets"].as_array().unwrap().iter();
    subnets.map(|subnet| subnet["gateway"].as_str().unwrap().parse().unwrap()).collect()
}

/// Whether anything comes back from there: an answer, a refusal or a connection.
fn reacts(ns: &str, to: SocketAddr) -> bool {
    let options = format!("+time=1 -p {} @{}", to.port(), to.ip());
    let asked = Dig::ask(ns, &format!("+notcp {options} web"));
    let refused = std::io::ErrorKind::ConnectionRefused;
    let connected = match space::inside(ns, || std::net::TcpStream::connect_timeout(&to, PATIENCE)) {
        Ok(_) => true,
        Err(error) => error.kind() == refused,
    };
    !asked.status.is_empty() || connected
}

fn from_outside(lab: &Lab) {
    lab.start_daemon();
    lab.netd("network create net1 --ipv6").ok();
    lab.connected("net1", "web", "");
    lab.connected("net1", "client", "");
    let web = lab.address("net1", "web")[0].to_string();
    for (gateway, host) in gateways(lab).into_iter().zip([HOST4, HOST6]) {
        run(&format!("ip -n outside route add {gateway} via {host}")).ok();
        // Other servers at the gateway are reachable, so the route works.
        let _other = Server::at("host", "other", SocketAddr::new(gateway, 9000));
        assert_eq!(ask("outside", Proto::Tcp, (&gateway.to_string(), 9000)).who, "other");
        assert_eq!(ask("outside", Proto::Udp, (&gateway.to_string(), 9000)).who, "other");
    }
    let closed = || {
        for gateway in gateways(lab) {
            for port in [53, PORT] {
                let to = SocketAddr::new(gateway, port);
                assert!(!reacts("outside", to), "{to} answers the outside");
            }
            for ns in ["client", "host"] {
                for how in ["+notcp", "+tcp"] {
                    Dig::expect(ns, &format!("{how} @{gateway} web"), &[&web]);
                }
            }
        }
    };
    closed();
    lab.kill_daemon();
    lab.start_daemon();
    closed();
}
