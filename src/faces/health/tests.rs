//! What is probed, and what the answers mean.

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;
use crate::engine::testing;
use crate::model::names::ServiceName;
use crate::model::request::{
    ContainerRef, EndpointSpec, NetnsRef, NetworkSpec, PersonRequest, Requester, ServiceSpec, ServiceUpdate,
};
use crate::model::service::{HealthCheck, HealthKind, MemberState, Standing};
use targets::Ask;

const SOON: Duration = Duration::from_secs(5);

/// With sockets as `connecting` makes them.
fn with_sockets(addresses: &[&str]) -> Vec<(SocketAddr, OwnedFd)> {
    let with_socket = |at: &&str| {
        let at: SocketAddr = at.parse().unwrap();
        let family = if at.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        (at, socket(family, SockType::Stream, SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC, None).unwrap())
    };
    addresses.iter().map(with_socket).collect()
}

async fn asked(networks: &[&[&str]], what: &Ask, within: Duration) -> Result<(), String> {
    ask(networks.iter().map(|addresses| with_sockets(addresses)).collect(), what, within).await
}

/// A server that answers every connection with this, and tells the last request.
async fn server(answer: &'static str) -> (String, watch::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (at, (tell, told)) = (listener.local_addr().unwrap().to_string(), watch::channel(String::new()));
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut request = vec![0; 1024];
            let length = client.read(&mut request).await.unwrap_or_default();
            tell.send_replace(String::from_utf8_lossy(&request[..length]).into_owned());
            let _ = client.write_all(answer.as_bytes()).await;
        }
    });
    (at, told)
}

/// An address where nobody listens.
async fn nobody() -> String {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string()
}

#[tokio::test]
async fn a_connection_is_enough_and_a_refusal_is_said() {
    let (open, closed) = (TcpListener::bind("127.0.0.1:0").await.unwrap(), nobody().await);
    let open = open.local_addr().map(|at| (open, at.to_string())).unwrap();
    let refused = Err(format!("{closed} refuses connections"));
    assert_eq!(asked(&[&[&open.1]], &Ask::Tcp, SOON).await, Ok(()));
    assert_eq!(asked(&[&[&closed]], &Ask::Tcp, SOON).await, refused);
    assert_eq!(asked(&[&["[::1]:9", &open.1]], &Ask::Tcp, SOON).await, Ok(()), "one address of a network is enough");
    assert_eq!(asked(&[&[&open.1], &[&closed]], &Ask::Tcp, SOON).await, refused, "but each network needs one");
}

#[tokio::test]
async fn the_status_of_an_answer_decides() {
    let http = Ask::Http { path: "/ready?full=1".into(), host: "web".into() };
    for (answer, healthy) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\nmuch", true),
        ("HTTP/1.0 204 No Content\r\n\r\n", true),
        ("HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n", true),
        ("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", false),
        ("HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n", false),
    ] {
        let (at, mut told) = server(answer).await;
        let outcome = asked(&[&[&at]], &http, SOON).await;
        let status = answer.split(' ').nth(1).unwrap();
        let why = format!("http://{at}/ready?full=1 is answered with status {status}");
        assert_eq!(outcome, if healthy { Ok(()) } else { Err(why) }, "{answer}");
        let request = told.wait_for(|request| !request.is_empty()).await.unwrap().to_ascii_lowercase();
        assert!(request.starts_with("get /ready?full=1 http/1.1\r\n"), "{request}");
        for header in ["host: web\r\n", "connection: close\r\n", "user-agent: netd\r\n"] {
            assert!(request.contains(header), "{request}");
        }
    }
}

#[tokio::test]
async fn what_is_no_answer_is_a_failure_in_time() {
    let http = Ask::Http { path: "/".into(), host: "web".into() };
    for nonsense in ["", "nonsense\r\n\r\n", "HTTP/1.1 "] {
        let (at, _told) = server(nonsense).await;
        let why = asked(&[&[&at]], &http, SOON).await.unwrap_err();
        assert!(why.starts_with(&format!("http://{at}/: ")), "{why}");
    }
    let endless = "HTTP/1.1 200 OK\r\nX-Long: ".to_owned() + &"x".repeat(100_000);
    let (at, _told) = server(endless.leak()).await;
    assert!(asked(&[&[&at]], &http, SOON).await.is_err(), "the head of an answer has a bound");
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = silent.local_addr().unwrap().to_string();
    let why = asked(&[&[&at]], &http, Duration::from_millis(50)).await.unwrap_err();
    assert_eq!(why, format!("no answer from {at} within 50ms"));
}

/// The engine with the member `web` of the service `shop` on `net1`, which has this check.
async fn shop(check: HealthKind) -> Handle {
    let handle = testing::engine();
    handle.create_network(NetworkSpec::named("net1".parse().unwrap())).await.unwrap();
    let container = ContainerRef { name: "web".into(), netns: Some(NetnsRef::OfEngine(4711)), id: None };
    let person = Requester::Person(PersonRequest { network: "net1".into(), container, reservation: None });
    handle.connect(EndpointSpec::of(person)).await.unwrap();
    handle.create_service(spec(check)).await.unwrap();
    handle
}

fn spec(check: HealthKind) -> ServiceSpec {
    let networks = vec![("net1".to_owned(), Vec::new())];
    let (members, health) = (vec!["web".to_owned()], HealthCheck::of(check));
    ServiceSpec { networks, members, health, ..ServiceSpec::named("shop".parse().unwrap()) }
}

fn standing(handle: &Handle) -> Standing {
    let desired = &handle.snapshot().desired;
    let name: ServiceName = "shop".parse().unwrap();

    desired.members(desired.service(&name).unwrap()).next().unwrap().standing
}

fn ports(handle: &Handle) -> Vec<String> {
    let Targets { probed, hopeless } = targets(&handle.snapshot().desired);
    let at = probed.into_values().flat_map(|target| target.at.into_iter().flatten());
    at.map(|at| at.to_string()).chain(hopeless.into_values().map(str::to_owned)).collect()
}

#[tokio::test]
async fn the_port_is_that_of_the_check_else_the_target_else_the_first_published_tcp_port() {
    let handle = shop(HealthKind::Tcp(Some(8080))).await;
    assert_eq!(ports(&handle), ["10.77.0.2:8080"]);
    for (target, ports_published, expected) in [
        (Some("81"), &["9000:80"][..], "10.77.0.2:81"),
        (Some("53/udp"), &["9000:53/udp", "9001:80"], "10.77.0.2:80"),
        (None, &["9001:80"], "10.77.0.2:80"),
        (None, &["9000:53/udp"], "its health check names no port"),
    ] {
        let target = target.map(|target| target.parse().unwrap());
        let published = ports_published.iter().map(|port| port.parse().unwrap()).collect();
        let spec = ServiceSpec { target, ports: published, ..spec(HealthKind::Tcp(None)) };
        handle.update_service(ServiceUpdate { service: "shop".into(), version: None, spec }).await.unwrap();
        let found = ports(&handle);
        assert!(found.len() == 1 && found[0].starts_with(expected), "{found:?}");
    }
    for nothing in [HealthKind::None, HealthKind::Engine] {
        let spec = spec(nothing);
        handle.update_service(ServiceUpdate { service: "shop".into(), version: None, spec }).await.unwrap();
        assert_eq!(ports(&handle), [] as [String; 0], "there is nothing to do");
    }
}

/// The fake kernel's containers cannot be entered: nothing is known of them, which is no reason against them.
#[tokio::test]
async fn what_cannot_be_probed_is_said_and_what_cannot_be_found_out_is_not() {
    let handle = shop(HealthKind::Tcp(Some(80))).await;
    let mut revisions = handle.revisions();
    let probes = tokio::spawn(run(handle.clone()));
    let update = |check| ServiceUpdate { service: "shop".into(), version: None, spec: spec(check) };
    assert_eq!(standing(&handle).state, MemberState::Starting);
    handle.update_service(update(HealthKind::Http { port: None, path: "/".into() })).await.unwrap();
    while standing(&handle).state == MemberState::Starting {
        revisions.changed().await.unwrap();
    }
    let Standing { state, why, .. } = standing(&handle);
    assert_eq!((state, why.split(',').next()), (MemberState::Unhealthy, Some("its health check names no port")));
    probes.abort();
}

#[tokio::test]
async fn a_result_that_stays_has_its_first_time() {
    let handle = shop(HealthKind::Tcp(Some(80))).await;
    let mut revisions = handle.revisions();
    let container = handle.snapshot().desired.containers().next().unwrap().container.id.clone();
    let mut seen = Vec::new();
    for (healthy, since, why) in [(false, 5, "one"), (false, 7, "two"), (true, 9, ""), (false, 11, "three")] {
        let key = (container.clone(), Some("shop".parse().unwrap()));
        handle.note_health([(key, Health { healthy, since, why: why.into() })].into()).await;
        revisions.changed().await.unwrap();
        let Standing { state, since, why } = standing(&handle);
        seen.push((state.as_str(), since.unwrap(), why));
    }
    let seen: Vec<_> = seen.iter().map(|(state, since, why)| (*state, *since, why.as_str())).collect();
    assert_eq!(seen, [("unhealthy", 5, "one"), ("unhealthy", 5, "two"), ("ready", 9, ""), ("unhealthy", 11, "three")]);
}
