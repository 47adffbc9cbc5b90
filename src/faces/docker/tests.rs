//! The driver over an in-memory engine and a Docker that the test makes up.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::Driver;
use super::follow::{EVERY, Missing};
use crate::base::monotonic;
use crate::engine::docker::{Answer, Docker, DockerEndpoint, DockerNetwork};
use crate::engine::testing;

const NETWORK: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const ENDPOINT: &str = "fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210";
const CONTAINER: &str = "c0ffee0000000000000000000000000000000000000000000000000000000000";

/// What Docker has; `None`: it does not answer.
#[derive(Default)]
struct Told(Mutex<Option<Vec<(String, DockerNetwork)>>>);

impl Told {
    fn set(&self, networks: Option<Vec<(&str, DockerNetwork)>>) {
        let owned = |(id, network): (&str, DockerNetwork)| (id.to_owned(), network);
        *self.0.lock().unwrap() = networks.map(|networks| networks.into_iter().map(owned).collect());
    }
}

impl Docker for Told {
    fn network<'a>(&'a self, id: &'a str) -> Answer<'a, Option<DockerNetwork>> {
        let told = self.0.lock().unwrap().clone();
        let found = told.map(|told| told.into_iter().find(|(known, _)| known == id).map(|(_, network)| network));
        Box::pin(async move { found.ok_or_else(|| "it does not answer".to_owned()) })
    }

    fn container<'a>(&'a self, name: &'a str) -> Answer<'a, Option<String>> {
        Box::pin(async move { Ok((name == "web").then(|| CONTAINER.to_owned())) })
    }

    fn aliases<'a>(&'a self, _: &'a str, _: &'a str) -> Answer<'a, Vec<String>> {
        Box::pin(async { Ok(vec!["www".to_owned(), "c0ffee000000".to_owned()]) })
    }
}

fn net1(endpoints: &[&str]) -> DockerNetwork {
    let endpoint =
        |id: &&str| DockerEndpoint { id: (*id).to_owned(), name: "web".into(), container: Some(CONTAINER.into()) };
    DockerNetwork { name: "net1".into(), endpoints: endpoints.iter().map(endpoint).collect() }
}

fn driver() -> (Arc<Driver>, Arc<Told>) {
    let told = Arc::new(Told::default());
    (Driver::new(testing::engine(), told.clone()), told)
}

/// The reply to a request, or the error.
async fn ask(driver: &Arc<Driver>, method: &str, request: Value) -> Result<Value, String> {
    let body = request.to_string();
    let reply = match method.split_once('.').unwrap() {
        ("IpamDriver", method) => driver.ipam_driver(method, body.as_bytes()).await,
        (_, method) => driver.network_driver(method, body.as_bytes()).await,
    };
    reply.expect("a method").map_err(|failure| failure.0)
}

fn of_endpoint() -> Value {
    json!({"NetworkID": NETWORK, "EndpointID": ENDPOINT})
}

/// A network with a pool of netd's; its pool.
async fn network(driver: &Arc<Driver>) -> String {
    let pool =
        ask(driver, "IpamDriver.RequestPool", json!({"AddressSpace": "netd", "Pool": "", "V6": false})).await.unwrap();
    let data = json!([{"Pool": pool["Pool"], "Gateway": pool["Data"]["com.docker.network.gateway"]}]);
    let create = json!({"NetworkID": NETWORK, "Options": {"com.docker.network.generic": {"mtu": "1400"}}, "IPv4Data": data, "IPv6Data": null});
    for _ in 0..2 {
        assert_eq!(ask(driver, "NetworkDriver.CreateNetwork", create.clone()).await, Ok(json!({})));
    }
    pool["PoolID"].as_str().unwrap().to_owned()
}

/// An endpoint with an address of netd's, joined; the reply to `Join`.
async fn endpoint(driver: &Arc<Driver>, pool: &str) -> Value {
    let address = ask(driver, "IpamDriver.RequestAddress", json!({"PoolID": pool, "Address": ""})).await.unwrap();
    let interface = json!({"Address": address["Address"], "AddressIPv6": "", "MacAddress": ""});
    let create = json!({"NetworkID": NETWORK, "EndpointID": ENDPOINT, "Interface": interface});
    let made = ask(driver, "NetworkDriver.CreateEndpoint", create.clone()).await.unwrap();
    assert_eq!(made, json!({"Interface": {"MacAddress": "02:6e:0a:4d:00:02"}}), "only what Docker left open");
    assert_eq!(ask(driver, "NetworkDriver.CreateEndpoint", create).await, Ok(made), "as before");
    let join = json!({"NetworkID": NETWORK, "EndpointID": ENDPOINT, "SandboxKey": "/run/docker/netns/5a4db0c5", "Options": {}});
    let joined = ask(driver, "NetworkDriver.Join", join.clone()).await.unwrap();
    assert_eq!(ask(driver, "NetworkDriver.Join", join).await.as_ref(), Ok(&joined), "as before");
    joined
}

fn counts(driver: &Driver) -> (usize, usize, usize) {
    let snapshot = driver.handle.snapshot();
    let desired = &snapshot.desired;
    (desired.networks().count(), desired.endpoints().count(), desired.reservations().count())
}

#[tokio::test]
async fn the_life_of_an_endpoint() {
    let (driver, told) = driver();
    told.set(Some(vec![(NETWORK, net1(&[ENDPOINT]))]));
    let pool = network(&driver).await;
    assert_eq!(pool, "10.77.0.0/24");
    driver.name_when_known(NETWORK).await;
    assert_eq!(driver.handle.prune_networks().await.unwrap(), [], "Docker has it");
    let joined = endpoint(&driver, &pool).await;
    assert_eq!((joined["Gateway"].as_str(), joined["GatewayIPv6"].as_str()), (Some("10.77.0.1"), Some("")));
    assert_eq!(joined["InterfaceName"], json!({"SrcName": "ndc-web-net1", "DstPrefix": "eth"}));
    assert_eq!(counts(&driver), (1, 1, 0));
    let known = driver.find(ENDPOINT).unwrap();
    assert_eq!(
        (known.network.as_str(), known.container.name.as_str(), known.container.id.as_str()),
        ("net1", "web", CONTAINER)
    );
    let ports = json!([{"Proto": 6, "Port": 80, "HostPort": 4000, "HostPortEnd": 4000}]);
    let program =
        json!({"NetworkID": NETWORK, "EndpointID": ENDPOINT, "Options": {"com.docker.network.portmap": ports}});
    for _ in 0..2 {
        assert_eq!(ask(&driver, "NetworkDriver.ProgramExternalConnectivity", program.clone()).await, Ok(json!({})));
        assert_eq!(driver.find(ENDPOINT).unwrap().publications.len(), 1);
    }
    let info = ask(&driver, "NetworkDriver.EndpointOperInfo", of_endpoint()).await.unwrap();
    assert_eq!(info["Value"]["com.docker.network.portmap"][0]["HostPort"], 4000);
    for method in ["RevokeExternalConnectivity", "Leave", "DeleteEndpoint", "DeleteEndpoint"] {
        assert_eq!(ask(&driver, &format!("NetworkDriver.{method}"), of_endpoint()).await, Ok(json!({})), "{method}");
    }
    assert_eq!(counts(&driver), (1, 0, 0));
    for _ in 0..2 {
        let gone = ask(&driver, "NetworkDriver.DeleteNetwork", json!({"NetworkID": NETWORK})).await;
        assert_eq!(gone, Ok(json!({})));
    }
    assert_eq!(counts(&driver), (0, 0, 0));
}

#[tokio::test]
async fn addresses_are_promised_once_and_a_late_release_takes_nobodys() {
    let (driver, told) = driver();
    told.set(None);
    let pool = network(&driver).await;
    let other = ask(&driver, "IpamDriver.RequestPool", json!({"Pool": ""})).await.unwrap();
    let third = ask(&driver, "IpamDriver.RequestPool", json!({"Pool": ""})).await.unwrap();
    assert_eq!((other["Pool"].as_str(), third["Pool"].as_str()), (Some("10.77.1.0/24"), Some("10.77.2.0/24")));
    assert_eq!(ask(&driver, "IpamDriver.ReleasePool", json!({"PoolID": "10.77.1.0/24"})).await, Ok(json!({})));
    assert_eq!(ask(&driver, "IpamDriver.RequestPool", json!({"Pool": ""})).await.unwrap()["Pool"], "10.77.1.0/24");
    endpoint(&driver, &pool).await;
    let asked = |address: &str| json!({"PoolID": pool, "Address": address});
    let taken = ask(&driver, "IpamDriver.RequestAddress", asked("10.77.0.2")).await.unwrap_err();
    assert!(taken.contains("is taken by container"), "{taken}");
    ask(&driver, "NetworkDriver.DeleteEndpoint", of_endpoint()).await.unwrap();
    // Somebody else has the address before Docker releases it for the endpoint that is gone.
    ask(&driver, "IpamDriver.RequestAddress", asked("10.77.0.2")).await.unwrap();
    ask(&driver, "IpamDriver.ReleaseAddress", asked("10.77.0.2")).await.unwrap();
    assert_eq!(counts(&driver), (1, 0, 1), "the second one's");
    ask(&driver, "IpamDriver.ReleaseAddress", asked("10.77.0.2")).await.unwrap();
    assert_eq!(counts(&driver), (1, 0, 0));
}

#[tokio::test]
async fn who_a_container_is_may_be_known_later_and_what_docker_forgets_is_released() {
    let (driver, told) = driver();
    told.set(None);
    let pool = network(&driver).await;
    endpoint(&driver, &pool).await;
    let known = driver.find(ENDPOINT).unwrap();
    assert_eq!((known.container.id.as_str(), known.container.name.as_str()), ("5a4db0c5", "5a4db0c5"));
    let (mut missing, start) = (Missing::default(), monotonic::now());
    driver.compare(&mut missing, start).await;
    assert_eq!(counts(&driver), (1, 1, 0), "no answer says nothing");
    told.set(Some(vec![(NETWORK, net1(&[ENDPOINT]))]));
    driver.compare(&mut missing, start).await;
    let known = driver.find(ENDPOINT).unwrap();
    assert_eq!((known.container.id.as_str(), known.container.name.as_str()), (CONTAINER, "web"));
    for turn in 1..3 {
        told.set(Some(vec![(NETWORK, net1(&[]))]));
        let at = start + turn * EVERY;
        driver.compare(&mut missing, at).await;
        driver.compare(&mut missing, at + EVERY / 2).await;
        assert_eq!(counts(&driver), (1, 1, 0), "Docker may not have stored it yet");
        told.set(Some(vec![(NETWORK, net1(&[ENDPOINT]))]));
        driver.compare(&mut missing, at + EVERY / 2).await;
    }
    told.set(Some(Vec::new()));
    driver.compare(&mut missing, start + 3 * EVERY).await;
    assert_eq!(counts(&driver), (1, 1, 0));
    driver.compare(&mut missing, start + 4 * EVERY).await;
    assert_eq!(counts(&driver), (0, 0, 0));
}
