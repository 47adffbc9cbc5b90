//! Time in tests: the stopped clock, and waits with a deadline.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use netd::base::monotonic;
use netd_testing::clock::Clock;
use netd_testing::wait::{is, until_async, until_within, within};
use tokio::net::UdpSocket;
use tokio::time::sleep;

#[tokio::test]
async fn a_stopped_clock_stands_still_while_a_socket_is_waited_for() {
    let clock = Clock::stop();
    let began = monotonic::now();
    let timer = tokio::spawn(sleep(Duration::from_secs(1)));
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let late = std::thread::spawn(move || {
        std::thread::park_timeout(Duration::from_millis(50));
        std::net::UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"late", address).unwrap();
    });
    assert_eq!(socket.recv(&mut [0; 8]).await.unwrap(), 4);
    assert!(monotonic::now() == began && !timer.is_finished());
    late.join().unwrap();
    // A timer may end a millisecond late.
    clock.advance(Duration::from_millis(1001)).await;
    assert_eq!(monotonic::now() - began, Duration::from_millis(1001));
    until_async("the timer ends", async || timer.is_finished().then_some(())).await;
}

#[tokio::test]
async fn timers_end_in_their_order_each_at_its_time() {
    let clock = Clock::stop();
    let (began, ended) = (monotonic::now(), Arc::new(Mutex::new(Vec::new())));
    for span in [300, 20, 4000] {
        let ended = ended.clone();
        tokio::spawn(async move {
            sleep(Duration::from_millis(span)).await;
            ended.lock().unwrap().push((span, (monotonic::now() - began).as_millis() / 20));
        });
    }
    tokio::task::yield_now().await;
    clock.advance(Duration::from_secs(5)).await;
    assert_eq!(*ended.lock().unwrap(), [(20, 1), (300, 15), (4000, 200)]);
}

#[test]
fn a_wait_in_vain_says_what_it_saw_last() {
    let mut looks = 0;
    let there = within(Duration::from_millis(50), || {
        looks += 1;
        is(format!("look {looks}\n"), "never")
    });
    assert!(looks > 1, "{looks}");
    assert_eq!(there, Err(format!("\"look {looks}\n\"")));
    let panic = std::panic::catch_unwind(|| until_within(Duration::ZERO, "it is full", || is(7, &8))).unwrap_err();
    let message = panic.downcast::<String>().unwrap();
    assert_eq!(*message, "waited 0ns without success until it is full; seen last: 7");
}
