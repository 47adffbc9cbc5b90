//! Asking several name servers: in their order, without waiting long for one of them.
//!
//! The order has a meaning: whoever lists a company's server before a public one wants the first one's word. So the
//! next is asked when one says that it cannot tell, or when it is late, and then both may answer. "No such name" from a
//! server that was not first counts only when those before it have had their time: it may not know what they know.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};
use hickory_proto::op::ResponseCode;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep_until, timeout};

use super::{PATIENCE, Sent, Server};
use crate::base::monotonic;
use crate::faces::dns::message::reply::Reply;

/// How long "no such name" of a later server waits for an earlier one.
const PRECEDENCE: Duration = Duration::from_millis(350);
/// Questions whose answer is known already, and of which another server is still waited for.
static LEARNING: Semaphore = Semaphore::const_new(256);

/// The answer, and whose it is; `None` when no server knew one in time.
pub(crate) async fn race(servers: &[Arc<Server>], sent: &Arc<Sent>) -> Option<(Reply, SocketAddr)> {
    let order = in_order(servers);
    let started = Instant::from_std(monotonic::now());
    let (end, precedence) = (started + PATIENCE, started + PRECEDENCE);
    let mut asking = FuturesUnordered::new();
    // The places of those that may still answer, and the best "no such name" so far with its place.
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
                // Boxed: the set keeps room for one more future of its type than there are.
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
                    // At once.
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
    // When nobody answered in time, everybody's silence is known.
    if won.is_some() {
        learn_from(asking);
    }
    won.map(|(place, reply)| (reply, order[place].upstream.address))
}

/// In their order, but those that were silent lately last.
fn in_order(servers: &[Arc<Server>]) -> Vec<Arc<Server>> {
    let (mut order, last): (Vec<_>, Vec<_>) = servers.iter().cloned().partition(|server| server.health.has_turn());
    order.extend(last);
    order
}

/// Waits elsewhere for what becomes of the others, because it says how they do: until their silence would be known, and
/// not for all where there are many, because nobody waits for them whose share of memory they could count against.
fn learn_from<F: Future<Output: Send> + Send + 'static>(mut asking: FuturesUnordered<F>) {
    if asking.is_empty() {
        return;
    }
    if let Ok(permit) = LEARNING.try_acquire() {
        tokio::spawn(async move {
            let _permit = permit;
            let all = async { while asking.next().await.is_some() {} };
            // By then one that says nothing counts as silent.
            let _ = timeout(PATIENCE, all).await;
        });
    }
}

fn is_positive(reply: &Reply) -> bool {
    reply.code == ResponseCode::NoError && !reply.answers.is_empty()
}
