//! Counts and query logs of what the name service replies.

use hickory_proto::rr::rdata::{CNAME, TXT};
use hickory_proto::rr::{Name, RData};

use super::*;
use crate::logic::samples;
use crate::model::endpoint::Endpoint;
use crate::model::ids::NetworkId;
use crate::model::network::Network;

fn snapshot() -> Snapshot {
    let mut snapshot = Snapshot::default();
    let network = samples::network("net1", &["10.0.0.0/24"]);
    snapshot.desired.insert_endpoint(samples::endpoint(&network, "web", 1, &["10.0.0.2"], &[]));
    snapshot
}

#[test]
fn entries_that_nobody_takes_are_dropped_and_counted_not_waited_for() {
    let (snapshot, telemetry) = (snapshot(), Arc::new(Telemetry::default()));
    let container = &snapshot.desired.containers().next().unwrap().container;
    let web = telemetry.log.switch_on(container, clock::now());
    let (notes, mut waiting) = mpsc::channel(1);
    let listener = Listener::new(Recorder { telemetry, notes }, "10.0.0.1".parse().unwrap(), None);
    let (client, transport, came) = ("10.0.0.2".parse().unwrap(), Transport::Udp, monotonic::now());
    let (question, reply) = ([0; 12], [0; 12]);
    let ask = || {
        let origin = Origin::Local;
        listener.replied(&snapshot, Replied { question: &question, reply: &reply, client, origin, transport, came });
    };
    (0..3).for_each(|_| ask());
    assert_eq!(web.dropped(), 2);
    assert_eq!(web.add(entry(&waiting.try_recv().unwrap())).dropped_before, 2);
    ask();
    assert_eq!(web.add(entry(&waiting.try_recv().unwrap())).dropped_before, 0, "told once");
    assert_eq!(web.dropped(), 2);
}

#[test]
fn a_place_within_a_container_counts_for_its_first_network() {
    let mut snapshot = snapshot();
    let telemetry = Arc::new(Telemetry::default());
    for n in 1..=2 {
        let network = samples::network(&format!("net{n}"), &[&format!("10.{n}.0.0/24")]);
        snapshot.desired.insert_network(Network { id: NetworkId::from_random([n; 32]), ..network });
    }
    let first = snapshot.desired.endpoints().next().unwrap().clone();
    let second = Endpoint { network: "net2".parse().unwrap(), sequence: 2, addresses: vec![], ..(*first).clone() };
    snapshot.desired.insert_endpoint(second);
    let recorder = Recorder { telemetry: telemetry.clone(), notes: mpsc::channel(1).0 };
    let own = first.container.id.own_address();
    let listener = Listener::new(recorder, own, Some(own));
    let ask = |snapshot: &Snapshot| {
        listener.batch(snapshot).replied(b"", b"", SocketAddr::from(([0; 4], 0)), Origin::Local);
    };
    let counted = |snapshot: &Snapshot| -> Vec<(String, u64)> {
        let all = telemetry.meter.networks(&snapshot.desired).into_iter();
        all.map(|(name, counts)| (name.to_string(), counts.replies().map(|(.., n)| n).sum())).collect()
    };
    ask(&snapshot);
    ask(&snapshot);
    assert_eq!(counted(&snapshot), [("net1".to_owned(), 2)]);
    snapshot.desired.remove_endpoint(&first.key());
    ask(&snapshot);
    assert_eq!(counted(&snapshot), [("net1".to_owned(), 2), ("net2".to_owned(), 1)]);
    ask(&Snapshot::default());
    assert_eq!(telemetry.meter.elsewhere.replies().count(), 1);
}

#[test]
fn data_is_text_for_a_terminal() {
    let record = |data| Record::from_rdata(Name::root(), 1, data);
    let text = record(RData::TXT(TXT::new(vec!["a\u{1b}[2J\nb é \"c\"".into()])));
    assert_eq!(data(&text, "TXT"), "a\\u{1b}[2J\\nb é \"c\"");
    let name = Name::from_ascii("www.example.").unwrap();
    assert_eq!(data(&record(RData::CNAME(CNAME(name))), "A"), "CNAME www.example.");
}
