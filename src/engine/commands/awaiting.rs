//! Requests for endpoints whose address a DHCP server gives: their callers wait. What a caller began that has gone is
//! undone, unless another one waits for it.

use std::sync::Arc;

use crate::engine::Error;
use crate::engine::command::{Gone, Reply};
use crate::engine::commands::disconnect::Removal;
use crate::engine::waiting::{Answer, Waiting};
use crate::engine::worker::Worker;
use crate::kernel::Kernel;
use crate::logic::refusal::{LeaseRefusal, Refusal};
use crate::model::endpoint::{Endpoint, EndpointKey};
use crate::model::host::observed::ForeignNetwork;
use crate::model::names::NetworkName;
use crate::model::request::{EndpointSpec, Requester};
use crate::store::Store;

impl<K: Kernel, S: Store> Worker<K, S> {
    /// Creates an endpoint, and replies once it has its address. A person who has given up may ask again.
    pub(crate) fn connect(
        &mut self,
        spec: &EndpointSpec,
        foreign: Vec<ForeignNetwork>,
        (gone, reply): (Gone, Reply<Arc<Endpoint>>),
    ) {
        if matches!(spec.requester, Requester::Person(_)) {
            self.undo_abandoned();
        }
        let (networks, last) = (self.new_networks(std::slice::from_ref(spec)), self.state.sequence);
        match self.endpoint(spec, foreign) {
            Ok(endpoint) if endpoint.awaits_lease() => {
                let key = endpoint.key();
                let made = [key.clone()].into_iter().filter(|_| endpoint.sequence > last).collect();
                let (left, answer) = ([key.clone()].into(), Answer::One(key, reply));
                self.waiting.push(Waiting { left, made, networks, gone, answer });
            }
            answer => drop(reply.send(answer)),
        }
    }

    /// The same for several networks.
    pub(crate) fn connect_together(
        &mut self,
        specs: &[EndpointSpec],
        foreign: &[ForeignNetwork],
        (gone, reply): (Gone, Reply<Vec<Arc<Endpoint>>>),
    ) {
        let (networks, last) = (self.new_networks(specs), self.state.sequence);
        match self.attach_together(specs, foreign) {
            Ok(all) if all.iter().any(|endpoint| endpoint.awaits_lease()) => {
                let left =
                    all.iter().filter(|endpoint| endpoint.awaits_lease()).map(|endpoint| endpoint.key()).collect();
                let made =
                    all.iter().filter(|endpoint| endpoint.sequence > last).map(|endpoint| endpoint.key()).collect();
                let answer = Answer::All(all.iter().map(|endpoint| endpoint.key()).collect(), reply);
                self.waiting.push(Waiting { left, made, networks, gone, answer });
            }
            answer => drop(reply.send(answer)),
        }
    }

    /// The networks that these requests would make.
    fn new_networks(&self, specs: &[EndpointSpec]) -> Vec<NetworkName> {
        let new = |spec: &EndpointSpec| match &spec.requester {
            Requester::Runtime(request) => Some(request.network.name.clone()),
            Requester::Person(_) => None,
        };
        specs.iter().filter_map(new).filter(|name| self.state.desired.network(name).is_none()).collect()
    }

    /// Replies to those who have waited for this endpoint last.
    pub(super) fn has_address(&mut self, key: &EndpointKey) {
        for waiting in &mut self.waiting {
            waiting.left.remove(key);
        }
        let all = self.waiting.extract_if(.., |waiting| waiting.left.is_empty()).collect::<Vec<_>>();
        let (abandoned, done): (Vec<_>, Vec<_>) = all.into_iter().partition(Waiting::is_abandoned);
        for waiting in abandoned {
            tracing::info!("request undone: the caller disconnected");
            drop(self.abandon(waiting, &done));
        }
        for waiting in done {
            let find = |key: &EndpointKey| self.state.desired.endpoint(key).cloned().ok_or(Error::Stopped);
            match waiting.answer {
                Answer::One(key, reply) => drop(reply.send(find(&key))),
                Answer::All(keys, reply) => drop(reply.send(keys.iter().map(find).collect())),
            }
        }
    }

    /// Undoes the requests that wait for this endpoint.
    pub(super) fn gets_none(&mut self, endpoint: &Arc<Endpoint>, error: Error) {
        let key = endpoint.key();
        let failed = self.waiting.extract_if(.., |waiting| waiting.left.contains(&key)).collect::<Vec<_>>();
        self.undo(&[key], &[]);
        let error = Arc::new(error);
        for waiting in failed {
            self.abandon(waiting, &[]).fail(Error::Shared(error.clone()));
        }
    }

    /// The endpoint is about to be removed. Those who wait for it learn that after the command, which may remove more.
    pub(super) fn end_waiting(&mut self, endpoint: &Endpoint) {
        let key = endpoint.key();
        let ended = self.waiting.extract_if(.., |waiting| waiting.answer.wants(&key));
        let why = || LeaseRefusal::Ended { container: endpoint.container.name.clone(), network: key.network.clone() };
        self.ended.extend(ended.map(|waiting| (waiting, Error::from(Refusal::from(why())))));
    }

    /// Undoes the rest of requests of which an endpoint was removed while they waited.
    pub(crate) fn undo_ended(&mut self) {
        while let Some((waiting, error)) = self.ended.pop() {
            self.abandon(waiting, &[]).fail(error);
        }
    }

    /// Undoes the requests whose callers have gone.
    fn undo_abandoned(&mut self) {
        let abandoned = self.waiting.extract_if(.., |waiting| waiting.is_abandoned()).collect::<Vec<_>>();
        for waiting in abandoned {
            tracing::info!("request undone: the caller disconnected");
            drop(self.abandon(waiting, &[]));
        }
    }

    /// Removes what the request has made, and nobody else waits for, or has waited for (`done`). The rest belongs to those
    /// from now on. Returns whom to tell.
    fn abandon(&mut self, waiting: Waiting, done: &[Waiting]) -> Answer {
        let Waiting { made, mut networks, answer, .. } = waiting;
        let mut unwanted = Vec::new();
        for key in made {
            if let Some(heir) = self.waiting.iter_mut().find(|other| other.answer.wants(&key)) {
                heir.networks.extend(networks.extract_if(.., |name| *name == key.network));
                heir.made.push(key);
            } else if done.iter().any(|other| other.answer.wants(&key)) {
                networks.retain(|name| *name != key.network);
            } else {
                unwanted.push(key);
            }
        }
        self.undo(&unwanted, &networks);
        answer
    }

    fn undo(&mut self, made: &[EndpointKey], networks: &[NetworkName]) {
        let made: Vec<Removal> = made.iter().cloned().map(Removal::undone).collect();
        self.detach_again(&made, networks);
    }
}
