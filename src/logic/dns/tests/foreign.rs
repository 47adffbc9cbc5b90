//! Names that are not netd's, beside many networks.

use super::*;
use crate::base::monotonic;
use crate::logic::samples;

/// That many networks with a container each; on the first, `net0` (10.0.0.0/24), it is 10.0.0.2.
fn many(count: u32) -> Desired {
    let mut desired = Desired::default();
    for n in 0..count {
        let [_, high, low, _] = (n << 8).to_be_bytes();
        let network = samples::network(&format!("net{n}"), &[&format!("10.{high}.{low}.0/24")]);
        desired.insert_network(network.clone());
        let address = format!("10.{high}.{low}.2");
        desired.insert_endpoint(samples::endpoint(&network, &format!("web{n}"), n.into(), &[&address], &[]));
    }
    desired
}

fn asked(desired: &Desired, client: Client, name: &str) -> Answer {
    answer(desired, "internal", client, name, RecordType::A)
}

#[test]
fn a_name_below_a_network_is_netds_own_as_long_as_there_is_a_network_of_that_name() {
    let mut desired = many(3);
    let client = Client::Address("10.0.0.2".parse().unwrap());
    let names = ["x.example", "x.y.Example", "x.EXAMPLE"];
    let all = |desired: &Desired, expected: Answer| {
        names.iter().for_each(|name| assert_eq!(asked(desired, client, name), expected, "{name}"));
    };
    all(&desired, Answer::Forward);
    let network = samples::network("Example", &["10.9.0.0/24"]);
    desired.insert_network(network.clone());
    all(&desired, Answer::NxDomain);
    desired.insert_network(network.clone());
    // An earlier release may have made it.
    desired.insert_network(samples::network("example", &["10.10.0.0/24"]));
    let names: Vec<&str> = desired.networks_called("example").iter().map(|network| network.name.as_str()).collect();
    assert_eq!(names, ["Example", "example"]);
    desired.remove_network(&network.name);
    all(&desired, Answer::NxDomain);
    desired.remove_network(&"example".parse().unwrap());
    all(&desired, Answer::Forward);
}

#[test]
fn the_host_sees_all_networks_and_the_one_through_which_it_asks_first() {
    let desired = many(3);
    let through = Client::Address("10.0.1.1".parse().unwrap());
    let networks = |client| {
        Zone { desired: &desired, domain: "internal", search: &[] }
            .explain(client, "www.example.org", RecordType::A)
            .networks
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
    };
    assert_eq!(networks(through), ["net1", "net0", "net2"]);
    assert_eq!(networks(Client::Host), ["net0", "net1", "net2"]);
    assert_eq!(asked(&desired, through, "web2.net2"), a(&["10.0.2.2"]));
    assert_eq!(asked(&desired, through, "web0"), a(&["10.0.0.2"]));
    assert_eq!(asked(&desired, through, "www.example.org"), Answer::Forward);
}

/// Prints the time of a question for a foreign name:
/// `cargo test --release --lib foreign_names_cost -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn foreign_names_cost() {
    const ROUNDS: u32 = 2000;
    for count in [1, 100, 2000] {
        let desired = many(count);
        for (who, client) in [("a container", "10.0.0.2"), ("the host", "10.0.0.1")] {
            let client = Client::Address(client.parse().unwrap());
            let start = monotonic::now();
            for _ in 0..ROUNDS {
                assert_eq!(asked(&desired, client, "www.example.org"), Answer::Forward);
            }
            println!("{count} networks, {who}: {} ns", start.elapsed().as_nanos() / u128::from(ROUNDS));
        }
    }
}
