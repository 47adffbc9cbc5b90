//! iperf3 between two network namespaces, for benchmarks.

use std::process::{Child, Command, Stdio};

use super::command::{run, run_words};
use super::until;
use crate::wait::seen;

/// A server at the usual port (5201), which ends when this is dropped.
pub struct Server(Child);

impl Server {
    /// Starts it in the namespace; it listens when this returns.
    pub fn start(ns: &str) -> Self {
        let mut command = Command::new("ip");
        let server = command.args(["netns", "exec", ns, "iperf3", "-s"]).stdout(Stdio::null()).spawn();
        let server = Self(server.expect("iperf3"));
        let listens = || run(&format!("ip netns exec {ns} ss -Hltn sport = :5201")).stdout;
        until("iperf3 listens", || seen(listens(), |lines| !lines.is_empty()));
        server
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What arrives of a TCP flow from the namespace to the address, in bits per second. Where there are several processors,
/// sender and receiver have one each: the rate differs by a tenth with the places that the scheduler finds for them.
pub fn rate(from: &str, to: &str, seconds: u32) -> f64 {
    let places = if std::thread::available_parallelism().is_ok_and(|count| count.get() > 1) { " -A 0,1" } else { "" };
    let command = format!("ip netns exec {from} iperf3 -J -t {seconds}{places} -c {to}");
    let words: Vec<&str> = command.split(' ').collect();
    let found: serde_json::Value = serde_json::from_str(&run_words(&words).stdout).expect("JSON of iperf3");
    found["end"]["sum_received"]["bits_per_second"].as_f64().expect("a rate")
}

/// The middle one, in Gbit/s.
pub fn middle(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2] / 1e9
}
