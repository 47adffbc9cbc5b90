//! Asks several name servers, in order, without waiting long for any one of them.
//!
//! The order has a meaning: a user who lists a company's server before a public one wants the answer of the first. So
//! the next server is asked when one fails or is late, and then both may answer. "No such name" from a server that is
//! not the first counts only after the earlier ones have had their time: it may not know the names that they know.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};
use hickory_proto::op::ResponseCode;
use tokio::time::{Instant, sleep_until, timeout};

use super::{PATIENCE, Sent, Server};
use crate::base::monotonic;
use crate::faces::dns::message::reply::Reply;

/// How long "no such name" of a later server waits for an earlier one.
const PRECEDENCE: Duration = Duration::from_millis(350);

/// Returns the answer and its server. `None` if no server had an answer in time.
pub(crate) async fn race(servers: &[Arc<Server>], sent: &Arc<Sent>) -> Option<(Reply, SocketAddr)> {
    let order = in_order(servers);
    let started = Instant::from_std(monotonic::now());
    let (end, precedence) = (started + PATIENCE, started + PRECEDENCE);
    let mut asking = FuturesUnordered::new();
    // The places of the servers that may still answer, and the best "no such name" so far with its place.
    let mut open: Vec<usize> = Vec::new();
    let mut negative: Option<Box<(usize, Reply)>> = None;
    let mut waiting = order.iter().enumerate();
    let mut next = started;
    let won = loop {
        if asking.is_empty() || Instant::from_std(monotonic::now()) >= next {
            if let Some((place, server)) = waiting.next() {
                let (server, sent) = (server.clone(), sent.clone());
                next = Instant::from_std(monotonic::now()) + server.health.late();
                open.push(place);
                // Boxed: the set reserves room for one more future of its type than it has.
                asking.push(async move { (place, server.ask(&sent).await) }.boxed());
            } else {
                next = end;
            }
        }
        if let Some(negative) = negative.take_if(|negative| !open.iter().any(|other| *other < negative.0)) {
            break Some(*negative);
        }
        let wake = if negative.is_some() { precedence } else { next.min(end) };
        tokio::select! {
            answered = asking.next() => match answered {
                Some((place, Ok(reply))) => {
                    open.retain(|other| *other != place);
                    let first = !open.iter().any(|other| *other < place);
                    if first || is_positive(&reply) {
                        break Some((place, reply));
                    }
                    if negative.as_ref().is_none_or(|negative| place < negative.0) {
                        negative = Some(Box::new((place, reply)));
                    }
                }
                Some((place, Err(_))) => {
                    open.retain(|other| *other != place);
                    // Ask the next server at once.
                    next = started;
                    if open.is_empty() && waiting.len() == 0 {
                        break negative.take().map(|negative| *negative);
                    }
                }
                None => break None,
            },
            () = sleep_until(wake) => {
                if let Some(negative) = negative.take() {
                    break Some(*negative);
                }
                if wake == end {
                    break None;
                }
            }
        }
    };
    // Without an answer in time, all servers are already known to be silent.
    if won.is_some() {
        learn_from(asking, open.first().map(|place| &order[*place]));
    }
    won.map(|(place, reply)| (reply, order[place].upstream.address))
}

/// The servers in their order, but those that were silent lately last.
fn in_order(servers: &[Arc<Server>]) -> Vec<Arc<Server>> {
    let (mut order, last): (Vec<_>, Vec<_>) = servers.iter().cloned().partition(|server| server.health.has_turn());
    order.extend(last);
    order
}

/// Waits in the background for the other servers, to learn their health, until they would count as silent. The number
/// of such waits is limited for each server, because they belong to no client whose share of memory they could count
/// against, and a server that many ask must not keep netd from learning about another.
fn learn_from<F>(mut asking: FuturesUnordered<F>, open: Option<&Arc<Server>>)
where
    F: Future<Output: Send> + Send + 'static,
{
    if let Some(permit) = open.and_then(|server| server.learning.clone().try_acquire_owned().ok()) {
        tokio::spawn(async move {
            let _permit = permit;
            let all = async { while asking.next().await.is_some() {} };
            // By then a server without a reply counts as silent.
            let _ = timeout(PATIENCE, all).await;
        });
    }
}

fn is_positive(reply: &Reply) -> bool {
    reply.code == ResponseCode::NoError && !reply.answers.is_empty()
}
