//! Probes whether questions from each network reach the name service at its gateway: for the network's first container, at
//! a start, after each firewall change, and with each tick where they did not. A question that could not be sent is a
//! problem, and is sent with the next repair or tick.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::mpsc::channel;
use std::time::Duration;

use super::gateway_askers::{Question, Who};
use super::gateway_found::Found;
use crate::base::monotonic;
use crate::engine::listener::Listening;
use crate::engine::state::problems::Subject;
use crate::engine::state::ways::Verdict;
use crate::engine::worker::Worker;
use crate::kernel::{Kernel, KernelError};
use crate::logic::target;
use crate::model::endpoint::EndpointKey;
use crate::model::host::probe::Probe;
use crate::model::names::NetworkName;
use crate::model::network::Network;
use crate::store::Store;

/// How long the name service may take to confirm that it is serving.
const ALIVE: Duration = Duration::from_secs(1);

impl<K: Kernel, S: Store> Worker<K, S> {
    /// Probes for the network's first container, which `endpoint` has just connected; later containers use the result.
    pub(crate) fn try_gateway(&mut self, network: &Network, endpoint: &EndpointKey) {
        let name = &network.name;
        let is_first = || self.state.desired.endpoints_of(name).take(2).count() == 1;
        // A tick asks again for a network that is blocked, if it has containers.
        let is_known = self.ways.is_open(name) || (self.state.gateway_blocked.contains(name) && !is_first());
        if !is_known {
            self.probe(std::slice::from_ref(name), Some(endpoint));
        }
    }

    /// Handles a firewall change: a gateway that was reachable may be blocked now, and the other way round.
    pub(crate) fn firewall_changed(&mut self) {
        if self.look_at_foreign() {
            self.publish();
        }
        self.ways.firewall_changed();
        self.probe_after_change();
    }

    /// Asks from every network again after a firewall change; later, with a tick, if this was done just now.
    fn probe_after_change(&mut self) {
        if self.ways.begin_to_ask() {
            self.probe_all();
        }
    }

    /// Probes from every network: from the first ones now, from the others between commands ([`Self::probe_next`]). Also
    /// at a start: the daemon before may have been killed before it did, and the firewall may have changed since.
    pub(crate) fn probe_all(&mut self) {
        self.ways.ask(self.state.used.keys().cloned().collect());
        self.probe_next();
    }

    /// Probes from some of the networks that are left.
    pub(crate) fn probe_next(&mut self) {
        let names = self.ways.take_next();
        let began = monotonic::now();
        self.probe(&names, None);
        self.ways.asked(monotonic::now().duration_since(began));
    }

    /// Sends the questions that could not be sent before.
    pub(crate) fn probe_again(&mut self) {
        self.end_probe_problems();
        let unknown = |name: &&NetworkName| self.problems.has(&Subject::GatewayProbe((*name).clone()));
        let names: Vec<NetworkName> = self.state.used.keys().filter(unknown).cloned().collect();
        if !names.is_empty() {
            self.probe(&names, None);
        }
    }

    /// The same, and asks again where nothing came back.
    pub(crate) fn probe_tick(&mut self) {
        self.probe_again();
        self.probe_after_change();
        let blocked = |name: &&NetworkName| self.state.gateway_blocked.contains(*name);
        let names: Vec<NetworkName> = self.state.used.keys().filter(blocked).cloned().collect();
        if !names.is_empty() {
            names.iter().for_each(|name| self.ways.forget(name));
            self.probe(&names, None);
        }
    }

    /// Probes from these networks, and does what follows from the answers. `connecting`: the endpoint that is being
    /// connected.
    fn probe(&mut self, names: &[NetworkName], connecting: Option<&EndpointKey>) {
        let problems = self.problems.clone();
        let questions = self.questions(names);
        let answers = self.ask(questions);
        let found = self.judge(answers);
        if !found.is_nothing() {
            self.follow(&found, connecting);
        } else if self.problems != problems {
            self.publish();
        }
    }

    /// Asks. Returns the questions that were sent, each with the gateway that did not answer.
    fn ask(&mut self, questions: Vec<Question>) -> Vec<(Question, Option<IpAddr>)> {
        let mut answers = self.ask_once(questions);
        // An unanswered question is repeated once the name service has confirmed that it serves; it may not have started
        // yet. Where nothing came back before, the next tick repeats it.
        let is_new = |question: &Question| !self.state.gateway_blocked.contains(&question.network);
        let (silent, mut done): (Vec<_>, Vec<_>) =
            answers.drain(..).partition(|(question, silent)| silent.is_some() && is_new(question));
        if silent.is_empty() {
            return done;
        }
        if self.is_name_service_there() {
            done.extend(self.ask_once(silent.into_iter().map(|(question, _)| question).collect()));
        } else {
            for (question, _) in silent {
                self.not_known(&question.network, "the name service does not confirm that it serves");
            }
        }
        done
    }

    fn ask_once(&mut self, questions: Vec<Question>) -> Vec<(Question, Option<IpAddr>)> {
        if questions.is_empty() {
            return Vec::new();
        }
        let probes: Vec<Probe> = questions.iter().map(|question| question.probe.clone()).collect();
        let answers = self.kernel.reaches(&probes);
        let mut sent = Vec::new();
        for (question, answer) in questions.into_iter().zip(answers) {
            match answer {
                Ok(silent) => {
                    self.problems.clear(&Subject::GatewayProbe(question.network.clone()));
                    sent.push((question, silent));
                }
                // The container is about to be released.
                Err(KernelError::NoNetns { .. }) => {}
                Err(error) => self.not_known(&question.network, &error.to_string()),
            }
        }
        sent
    }

    /// What follows from the answers.
    fn judge(&mut self, answers: Vec<(Question, Option<IpAddr>)>) -> Found {
        let mut found = Found::default();
        let mut of_containers: BTreeMap<NetworkName, Vec<(EndpointKey, Option<IpAddr>)>> = BTreeMap::new();
        for (Question { network, who, probe }, silent) in answers {
            match (who, silent) {
                (Who::Container(key), silent) => of_containers.entry(network).or_default().push((key, silent)),
                (Who::StandIn, Some(gateway)) => {
                    found.blocked_by_firewall(&self.state.gateway_blocked, network, gateway);
                }
                (Who::StandIn, None) => {
                    self.ways.opened(&network);
                    found.opened(&self.state.gateway_blocked, network, probe.gateways);
                }
            }
        }
        for (network, answers) in of_containers {
            self.judge_votes(network, answers, &mut found);
        }
        found
    }

    fn judge_votes(&mut self, network: NetworkName, votes: Vec<(EndpointKey, Option<IpAddr>)>, found: &mut Found) {
        let mut verdict = Verdict::Nothing;
        for (key, silent) in &votes {
            verdict = self.ways.vote(&network, &key.container, silent.is_none());
        }
        let blocked = self.state.gateway_blocked.clone();
        let silent: Vec<(EndpointKey, IpAddr)> =
            votes.into_iter().filter_map(|(key, silent)| Some((key, silent?))).collect();
        match (verdict, silent.first()) {
            (Verdict::Closed, Some((_, gateway))) => found.blocked_for_all(&blocked, network, *gateway),
            (Verdict::Closed, None) => {}
            (Verdict::Open | Verdict::Nothing, _) => {
                if verdict == Verdict::Open {
                    self.ways.opened(&network);
                }
                if self.ways.are_most_answered(&network) {
                    found.opened(&blocked, network, Vec::new());
                }
                found.blocked_alone(silent);
            }
        }
    }

    pub(super) fn not_known(&mut self, network: &NetworkName, why: &str) {
        let message = format!("cannot check whether containers of network {network} reach their gateway: {why}");
        self.problem(Subject::GatewayProbe(network.clone()), message);
    }

    /// Ends the problems of networks that have no container any more that would ask.
    pub(crate) fn end_probe_problems(&mut self) {
        if !self.problems.any(|subject| matches!(subject, Subject::GatewayProbe(_))) {
            return;
        }
        let asked = |name: &&NetworkName| {
            let network = self.state.desired.network(name);
            network.is_some_and(|network| self.may_ask(network))
        };
        let asked: BTreeSet<NetworkName> = self.state.used.keys().filter(asked).cloned().collect();
        self.problems.retain(|subject| !matches!(subject, Subject::GatewayProbe(name) if !asked.contains(name)));
    }

    fn is_name_service_there(&self) -> bool {
        let (sender, receiver) = channel();
        self.listening.send(Listening::Alive(sender)).is_ok() && receiver.recv_timeout(ALIVE).is_ok()
    }

    /// A removed network that is created again is probed again.
    pub(crate) fn forget_gateway(&mut self, name: &NetworkName) {
        self.ways.forget(name);
        self.problems.clear(&Subject::GatewayProbe(name.clone()));
        if self.state.gateway_blocked.contains(name) {
            let mut blocked = target::Blocked::clone(&self.state.gateway_blocked);
            blocked.remove(name);
            self.compensate(&[crate::engine::state::State::blocked_record(&blocked)]);
        }
    }
}
