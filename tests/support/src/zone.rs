//! The zone that is asked: a network with 1,000 names, which are those of 500 containers and their aliases, and one more
//! container from which is asked.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};

use crate::lab::{self, Lab};
use crate::request;

/// Names in the zone.
pub const NAMES: usize = 1000;
/// Who asks.
pub const CLIENT: &str = "client";
/// The network.
pub const NETWORK: &str = "net1";

/// What the zone holds.
pub struct Zone {
    /// The address at which netd answers.
    pub gateway: IpAddr,
    /// Each name and its only address.
    pub names: Vec<(String, Ipv4Addr)>,
}

impl Zone {
    /// Makes it in a laboratory whose daemon runs.
    #[expect(clippy::print_stdout, reason = "a benchmark says what takes long")]
    pub fn make(lab: &Lab) -> Self {
        lab.netd(&format!("network create {NETWORK} --subnet 10.100.0.0/16")).ok();
        println!("making {} containers", NAMES / 2);
        lab.connected(NETWORK, CLIENT, "");
        for number in 0..NAMES / 2 {
            lab::run(&format!("ip netns add box{number}")).ok();
            connect(&format!("box{number}"), &format!("alias{number}"));
        }
        let (_, body) = lab.http("GET", &format!("/v1/networks/{NETWORK}/endpoints"), "");
        let endpoints: serde_json::Value = serde_json::from_str(&body).expect("JSON");
        let mut names = Vec::new();
        for endpoint in endpoints.as_array().expect("an array") {
            let address = endpoint["addresses"][0].as_str().and_then(|text| text.split('/').next()?.parse().ok());
            let container = endpoint["container"]["name"].as_str();
            for name in container.into_iter().chain(endpoint["aliases"][0].as_str()).filter(|name| *name != CLIENT) {
                names.push((name.to_owned(), address.expect("an address")));
            }
        }
        assert_eq!(names.len(), NAMES);
        // So that neighbours in the file are not neighbours in anybody's table: 387 has no factor in common with 1,000.
        let names = (0..NAMES).map(|place| names[place * 387 % NAMES].clone()).collect();
        let gateway = lab.network(NETWORK)["subnets"][0]["gateway"].as_str().unwrap().parse().unwrap();
        Self { gateway, names }
    }

    /// One line for each name.
    pub fn lines(&self, line: impl Fn(&str, Ipv4Addr) -> String) -> String {
        self.names.iter().fold(String::new(), |mut text, (name, address)| {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{}", line(name, *address));
            text
        })
    }
}

/// Connects a container over HTTP, on a connection of its own, as the command line does.
pub fn connect(container: &str, alias: &str) {
    let request = request::connect(NETWORK, container).alias(alias);
    lab::daemon::call("POST", &request.path(), &request.body());
}

/// Disconnects it.
pub fn disconnect(container: &str) {
    lab::daemon::call("DELETE", &format!("/v1/networks/{NETWORK}/endpoints/{container}"), "");
}
