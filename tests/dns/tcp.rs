//! TCP: pipelining, limits, and clients that are slow, silent or hostile.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::time::Duration;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::RecordType;
use netd_testing::clock::Clock;
use netd_testing::dns::{Lab, Upstream, addresses, query, read, write};
use netd_testing::wait::in_time;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

const WEB: &str = "127.1.0.2";
const DB: &str = "127.1.0.3";
const FAR: &str = "127.2.0.4";
/// Connections of one client, as the server has it.
const PER_CLIENT: usize = 16;
/// How long a connection may be without a question, and how long upstreams have at most, as the server has it.
const IDLE: Duration = Duration::from_secs(10);
const UPSTREAMS: Duration = Duration::from_millis(4500);
/// More than the inaccuracy of timers.
const MOMENT: Duration = Duration::from_millis(50);

fn numbered(name: &str, id: u16) -> Message {
    let mut message = query(name, RecordType::A);
    message.metadata.id = id;
    message
}

/// Whether the server answers on the connection; else it has closed it.
async fn is_open(stream: &mut TcpStream) -> bool {
    // The server may have closed it already, or do so instead of reading this.
    stream.write_all(&framed(&query("db", RecordType::A))).await.is_ok() && read(stream).await.is_some()
}

fn framed(message: &Message) -> Vec<u8> {
    let bytes = message.to_vec().unwrap();
    [&u16::try_from(bytes.len()).unwrap().to_be_bytes()[..], &bytes].concat()
}

#[tokio::test]
async fn replies_come_when_they_are_ready() {
    let clock = Clock::stop();
    let upstream = Upstream::start(|query, _, reply| {
        // A silent upstream: the answer is a late SERVFAIL.
        (!query.queries[0].name().to_lowercase().to_string().starts_with("slow")).then_some(reply)
    })
    .await;
    let lab = Lab::start(vec![upstream.address]).await;
    let mut stream = lab.connect(WEB).await;
    for (id, name) in [(1, "slow.example.com"), (2, "quick.example.com"), (3, "db"), (4, "pool")] {
        write(&mut stream, &numbered(name, id)).await;
    }
    let mut order = BTreeSet::new();
    for _ in 0..3 {
        order.insert(read(&mut stream).await.unwrap().metadata.id);
    }
    assert_eq!(order, [2, 3, 4].into());
    clock.advance(UPSTREAMS).await;
    assert_eq!(read(&mut stream).await.unwrap().metadata.id, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_before_the_client_stops_sending_are_answered() {
    let lab = Lab::start(vec![]).await;
    let mut stream = lab.connect(WEB).await;
    for id in 0..20 {
        write(&mut stream, &numbered("db", id)).await;
    }
    stream.shutdown().await.unwrap();
    for id in 0..20 {
        assert_eq!(read(&mut stream).await.unwrap().metadata.id, id);
    }
    assert!(read(&mut stream).await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_sent_in_single_bytes_is_answered() {
    let lab = Lab::start(vec![]).await;
    let mut stream = lab.connect(WEB).await;
    stream.set_nodelay(true).unwrap();
    let bytes = query("db", RecordType::A).to_vec().unwrap();
    let length = u16::try_from(bytes.len()).unwrap().to_be_bytes();
    for byte in length.into_iter().chain(bytes) {
        stream.write_u8(byte).await.unwrap();
    }
    assert_eq!(addresses(&read(&mut stream).await.unwrap()), [DB]);
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_connections_close_the_oldest_of_the_same_client() {
    let lab = Lab::start(vec![]).await;
    let mut other = lab.connect(DB).await;
    let mut streams = Vec::new();
    for _ in 0..PER_CLIENT + 3 {
        let mut stream = lab.connect(WEB).await;
        // Answered: it has been accepted, and is idle since.
        write(&mut stream, &query("db", RecordType::A)).await;
        assert_eq!(addresses(&read(&mut stream).await.unwrap()), [DB], "the newest is served");
        streams.push(stream);
    }
    for (index, stream) in streams.iter_mut().enumerate() {
        assert_eq!(is_open(stream).await, index >= 3, "connection {index}");
    }
    write(&mut other, &query("db", RecordType::A)).await;
    assert!(read(&mut other).await.is_some(), "another client's connection stays");
}

#[tokio::test]
async fn a_silent_connection_is_closed_even_in_the_middle_of_a_question() {
    let clock = Clock::stop();
    let lab = Lab::start(vec![]).await;
    let mut streams = [lab.connect(WEB).await, lab.connect(WEB).await, lab.connect(WEB).await];
    // Answered, so that the server waits for the next question.
    for stream in &mut streams {
        write(stream, &query("db", RecordType::A)).await;
        read(stream).await.unwrap();
    }
    let [mut silent, mut half, mut dribbling] = streams;
    half.write_all(&[0, 40, 1, 2, 3]).await.unwrap();
    dribbling.write_all(&[1, 0]).await.unwrap();
    // Each byte arrives in time, the whole question never does.
    for _ in 0..9 {
        clock.advance(IDLE / 10).await;
        dribbling.write_u8(0).await.unwrap();
    }
    let mut other = lab.connect(WEB).await;
    assert!(is_open(&mut other).await, "the server goes on");
    for stream in [&mut silent, &mut half, &mut dribbling] {
        assert_eq!(stream.try_read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock, "it may still ask");
    }
    clock.advance(IDLE / 10 + MOMENT).await;
    assert!(read(&mut silent).await.is_none());
    for stream in [&mut half, &mut dribbling] {
        // What was not read resets the connection.
        let end = in_time("the end", stream.read(&mut [0])).await;
        assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
    }
    assert!(is_open(&mut other).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_blocks_only_itself() {
    let lab = Lab::start(vec![]).await;
    let mut stuck = lab.connect(WEB).await;
    let framed = framed(&query("pool", RecordType::A));
    let mut asked = 0;
    // Until TCP blocks: the server has stopped reading. It cannot tell when it has.
    while timeout(Duration::from_millis(500), stuck.write_all(&framed)).await.is_ok_and(|written| written.is_ok()) {
        asked += 1;
        assert!(asked < 500_000, "the server does not stop reading");
    }
    let mut second = lab.connect(WEB).await;
    for _ in 0..100 {
        write(&mut second, &query("db", RecordType::A)).await;
        assert_eq!(addresses(&read(&mut second).await.unwrap()), [DB]);
        assert_eq!(addresses(&lab.ask(WEB, "db", RecordType::A).await), [DB]);
    }
    // When it reads again, the answers come.
    for answer in 0..asked.min(5000) {
        let response = read(&mut stuck).await;
        assert_eq!(response.map(|response| response.answers.len()), Some(100), "answer {answer} of {asked}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_clients_do_not_affect_others() {
    let lab = Lab::start(vec![]).await;
    let mut hostile = Vec::new();
    for number in 0..1000u32 {
        let mut stream = lab.connect(&format!("127.1.0.{}", 100 + number % 100)).await;
        // Idle, half a question, a length without a message, garbage. The server may have closed it already.
        let bytes: &[u8] =
            [&b""[..], b"\0\x20ab", b"\xff\xff", b"\0\x0c\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"]
                [number as usize % 4];
        let _ = stream.write_all(bytes).await;
        hostile.push(stream);
    }
    for _ in 0..500 {
        assert_eq!(lab.ask(FAR, "db", RecordType::A).await.response_code, ResponseCode::NoError);
    }
    let mut stream = lab.connect(DB).await;
    write(&mut stream, &query("web", RecordType::A)).await;
    let response = timeout(Duration::from_secs(2), read(&mut stream)).await.unwrap();
    assert_eq!(response.unwrap().response_code, ResponseCode::NoError, "TCP works for other clients");
}
