//! bollard against netd alone: its types read every reply, whatever version is spoken.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bollard::errors::Error;
use bollard::models::{
    EndpointIpamConfig, EndpointSettings, EventMessage, Ipam, IpamConfig, NetworkConnectRequest, NetworkCreateRequest,
    NetworkDisconnectRequest,
};
use bollard::query_parameters::{
    EventsOptionsBuilder, ListContainersOptionsBuilder, ListNetworksOptionsBuilder, StatsOptionsBuilder,
};
use bollard::{API_DEFAULT_VERSION, ClientVersion, Docker};
use futures_util::{Stream, StreamExt as _};

use super::{SOCKET, without_engine};
use crate::lab::look::links;
use crate::lab::{Dig, HOST4, Lab, Server, ask};
use crate::world::until_nothing_left;

/// The oldest version that netd speaks without further settings, and the one of the types.
const VERSIONS: [&ClientVersion; 2] = [&ClientVersion { major_version: 1, minor_version: 40 }, API_DEFAULT_VERSION];

/// Carries out the work with a client of each version.
fn with_each(work: &impl AsyncFn(&Docker)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    for version in VERSIONS {
        let docker = Docker::connect_with_unix(SOCKET, 20, version).expect("the socket is there");
        runtime.block_on(work(&docker));
    }
}

fn filters(key: &'static str, value: &str) -> HashMap<&'static str, Vec<String>> {
    HashMap::from([(key, vec![value.to_owned()])])
}

/// The status and the message of a refusal.
#[track_caller]
fn refused<T: std::fmt::Debug>(answer: Result<T, Error>) -> (u16, String) {
    match answer {
        Err(Error::DockerResponseServerError { status_code, message }) => (status_code, message),
        other => panic!("it should have been refused: {other:?}"),
    }
}

/// A network with one subnet.
fn request(name: &str, subnet: &str) -> NetworkCreateRequest {
    let config = IpamConfig { subnet: Some(subnet.to_owned()), ..IpamConfig::default() };
    NetworkCreateRequest {
        name: name.to_owned(),
        driver: Some("bridge".to_owned()),
        ipam: Some(Ipam { config: Some(vec![config]), ..Ipam::default() }),
        labels: Some(HashMap::from([("tier".to_owned(), "front".to_owned())])),
        ..NetworkCreateRequest::default()
    }
}

fn connecting(container: &str, settings: EndpointSettings) -> NetworkConnectRequest {
    NetworkConnectRequest { container: container.to_owned(), endpoint_config: Some(settings) }
}

fn disconnecting(container: &str) -> NetworkDisconnectRequest {
    NetworkDisconnectRequest { container: container.to_owned(), force: Some(false) }
}

pub(super) fn networks(lab: &Lab) {
    without_engine(lab, "");
    with_each(&async |docker: &Docker| {
        assert_eq!(docker.ping().await.expect("an answer"), "OK");
        let version = docker.version().await.expect("a version");
        assert_eq!((version.os.as_deref(), version.min_api_version.as_deref()), (Some("linux"), Some("1.40")));
        let info = docker.info().await.expect("facts");
        assert_eq!((info.containers, info.images), (Some(0), Some(0)));
        let made = docker.create_network(request("net1", "10.63.0.0/24")).await.expect("a network");
        assert!(links("host").contains(&"nd-net1".to_owned()));
        let mut inner = request("inner", "10.64.0.0/24");
        inner.internal = Some(true);
        docker.create_network(inner).await.expect("a second network");
        for name in ["net1", &made.id, &made.id[..12]] {
            let shown = docker.inspect_network(name, None).await.expect("the network");
            let config = shown.ipam.and_then(|ipam| ipam.config).expect("subnets").remove(0);
            assert_eq!((shown.id.as_ref(), config.subnet.as_deref()), (Some(&made.id), Some("10.63.0.0/24")));
            assert_eq!(config.gateway.as_deref(), Some("10.63.0.1"));
            assert_eq!((shown.internal, shown.containers), (Some(false), Some(HashMap::new())));
        }
        for (key, value, expected) in [
            ("name", "net1", vec!["net1"]),
            ("label", "tier=front", vec!["inner", "net1"]),
            ("driver", "null", vec!["none"]),
            ("dangling", "true", vec!["inner", "net1"]),
            ("type", "builtin", vec!["host", "none"]),
            ("type", "custom", vec!["inner", "net1"]),
        ] {
            let options = ListNetworksOptionsBuilder::default().filters(&filters(key, value)).build();
            let listed = docker.list_networks(Some(options)).await.expect("a list");
            let mut names: Vec<String> = listed.into_iter().filter_map(|network| network.name).collect();
            names.sort();
            assert_eq!(names, expected, "{key}={value}");
        }
        let again = refused(docker.create_network(request("net1", "10.65.0.0/24")).await);
        assert_eq!(again, (409, "network with name net1 already exists".to_owned()));
        assert_eq!(refused(docker.create_network(request("net2", "10.63.0.0/16")).await).0, 403);
        docker.remove_network("net1").await.expect("it is unused");
        let gone = refused(docker.inspect_network("net1", None).await);
        assert_eq!(gone, (404, "network net1 not found".to_owned()));
        let pruned = docker.prune_networks(None).await.expect("a list");
        assert_eq!(pruned.networks_deleted, Some(vec!["inner".to_owned()]));
        assert_eq!(links("host"), ["lo", "uplink"]);
    });
}

pub(super) fn containers_and_events(lab: &Lab) {
    without_engine(lab, "");
    for name in ["web", "peer"] {
        lab.container(name);
    }
    let _server = Server::start("web", "web", 8080);
    lab.netd("network create net1 --subnet 10.63.0.0/24").ok();
    with_each(&async |docker: &Docker| {
        // A stream of bollard's begins when it is first looked at; what has happened since this moment is in it.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is past 1970").as_secs_f64();
        let since = EventsOptionsBuilder::default().since(&format!("{now:.6}")).build();
        let mut events = std::pin::pin!(docker.events(Some(since)));
        docker.create_network(request("net2", "10.64.0.0/24")).await.expect("a network");
        assert_eq!(told(&next(events.as_mut()).await), ["network", "create", "net2"]);
        lab.netd("connect net1 web -p 4000:8080 --label tier=front").ok();
        shown(lab, docker).await;
        connected(lab, docker).await;
        for name in ["web", "peer"] {
            docker.disconnect_network("net1", disconnecting(name)).await.expect("it was connected");
        }
        docker.remove_network("net2").await.expect("it is unused");
        let mut seen = Vec::new();
        while seen.last() != Some(&["network", "destroy", "net2"].map(str::to_owned)) {
            seen.push(told(&next(events.as_mut()).await));
        }
        let expected = [
            ["network", "connect", "net1"],
            ["container", "start", "web"],
            ["network", "connect", "net1"],
            ["container", "start", "peer"],
            ["network", "disconnect", "net1"],
            ["container", "die", "web"],
            ["network", "disconnect", "net1"],
            ["container", "die", "peer"],
            ["network", "destroy", "net2"],
        ];
        assert_eq!(seen, expected);
        let (status, why) = refused(docker.start_container("web", None).await);
        assert!(status == 501 && why.contains("name the engine that does"), "{status} {why}");
    });
    until_nothing_left(lab);
}

/// Connects the container `peer`, with settings.
async fn connected(lab: &Lab, docker: &Docker) {
    let fixed = EndpointIpamConfig { ipv4_address: Some("10.63.0.77".to_owned()), ..EndpointIpamConfig::default() };
    let aliases = Some(vec!["store".to_owned()]);
    let settings = EndpointSettings { ipam_config: Some(fixed), aliases, ..EndpointSettings::default() };
    docker.connect_network("net1", connecting("peer", settings.clone())).await.expect("it is connected");
    assert_eq!(lab.address("net1", "peer"), [IpAddr::from([10, 63, 0, 77])]);
    Dig::expect("web", "store", &["10.63.0.77"]);
    let again = refused(docker.connect_network("net1", connecting("peer", settings)).await);
    assert_eq!(again, (403, "endpoint with name peer already exists in network net1".to_owned()));
    let unknown = refused(docker.connect_network("net1", connecting("nobody", EndpointSettings::default())).await);
    assert_eq!(unknown, (404, "No such container: nobody".to_owned()));
    assert_eq!(refused(docker.remove_network("net1").await).0, 403, "it is in use");
}

/// The container `web`, in the list and whole.
async fn shown(lab: &Lab, docker: &Docker) {
    let address = lab.address("net1", "web")[0].to_string();
    let options = ListContainersOptionsBuilder::default().all(true).filters(&filters("network", "net1")).build();
    let mut listed = docker.list_containers(Some(options)).await.expect("a list");
    assert_eq!(listed.len(), 1, "{listed:?}");
    let web = listed.remove(0);
    let ports = web.ports.expect("ports");
    assert!(ports.iter().all(|port| (port.private_port, port.public_port) == (8080, Some(4000))), "{ports:?}");
    assert_eq!(web.names, Some(vec!["/web".to_owned()]));
    assert_eq!(web.labels, Some(HashMap::from([("tier".to_owned(), "front".to_owned())])));
    let whole = docker.inspect_container("web", None).await.expect("the container");
    assert_eq!((whole.id, whole.state.and_then(|state| state.running)), (web.id.clone(), Some(true)));
    let settings = whole.network_settings.expect("settings");
    let end = settings.networks.expect("networks").remove("net1").expect("its network");
    assert_eq!((end.ip_address.as_ref(), end.ip_prefix_len), (Some(&address), Some(24)));
    let bindings = settings.ports.expect("ports").remove("8080/tcp").flatten().expect("bindings");
    assert_eq!(bindings[0].host_port.as_deref(), Some("4000"));
    assert_eq!(ask("outside", crate::lab::Proto::Tcp, (HOST4, 4000)).who, "web");
    let id = web.id.expect("an id");
    let network = docker.inspect_network("net1", None).await.expect("the network");
    let ends = network.containers.expect("containers");
    assert_eq!(ends[&id].ipv4_address.as_deref(), Some(format!("{address}/24").as_str()));
    let once = StatsOptionsBuilder::default().stream(false).build();
    let mut stats = std::pin::pin!(docker.stats("web", Some(once)));
    let counted = stats.next().await.expect("one").expect("counters").networks.expect("networks");
    assert!(counted["eth0"].rx_packets.is_some_and(|packets| packets > 0), "{counted:?}");
}

/// The next event.
async fn next(events: impl Stream<Item = Result<EventMessage, Error>> + Unpin) -> EventMessage {
    let mut events = events;
    let event = tokio::time::timeout(Duration::from_secs(20), events.next()).await.expect("an event in time");
    event.expect("the stream goes on").expect("an event that can be read")
}

/// What it is about, what happened, and its name.
fn told(event: &EventMessage) -> [String; 3] {
    let kind = event.typ.expect("a type").to_string();
    let name = event.actor.as_ref().and_then(|actor| actor.attributes.as_ref()?.get("name").cloned());
    [kind, event.action.clone().expect("an action"), name.expect("a name")]
}
