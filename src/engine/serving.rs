//! Where names are answered: sockets at the gateways of networks, and what leads questions to them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use super::listener::Listening;
use super::worker::Worker;
use crate::kernel::Kernel;
use crate::logic::wanted;
use crate::model::element::Element;
use crate::model::step::Step;
use crate::store::Store;

/// How long closing the name service's sockets at an address may take.
const CLOSING: Duration = Duration::from_secs(1);

impl<K: Kernel, S: Store> Worker<K, S> {
    /// Opens the name service's sockets at new gateways and closes them at old ones; questions are led there when it
    /// returns.
    pub(super) fn listen(&mut self) {
        let before = self.served.clone();
        self.open_and_close();
        let (old, new) = (name_servers(&before), name_servers(&self.served));
        let remove: Vec<Element> = old.iter().filter(|element| !new.contains(element)).cloned().collect();
        let add: Vec<Element> = new.iter().filter(|element| !old.contains(element)).cloned().collect();
        let step = Step::Elements { remove, add };
        if step.does()
            && let Err(error) = self.kernel.apply(&step)
        {
            tracing::warn!(%error, "lead questions for names");
            self.reconcile();
        }
    }

    /// The elements of the table: what networks and containers need, and what leads to the name service.
    pub(super) fn wanted_elements(&self) -> std::collections::BTreeSet<Element> {
        let mut elements = wanted::all_elements(&self.state.desired);
        elements.extend(name_servers(&self.served));
        elements
    }

    /// The sockets alone: the elements are for the caller.
    pub(super) fn open_and_close(&mut self) {
        let wanted = wanted::gateways(&self.state.desired);
        let stale: Vec<IpAddr> = self.served.keys().filter(|address| !wanted.contains(address)).copied().collect();
        for address in stale {
            self.served.remove(&address);
            self.problems.remove(&format!("dns {address}"));
            let (closed, wait) = std::sync::mpsc::channel();
            if self.listening.send(Listening::Stop { address, closed }).is_ok() {
                // Ends by disconnection; a name service that hangs must not stop the engine.
                let _ = wait.recv_timeout(CLOSING);
            }
        }
        for address in wanted {
            if self.served.contains_key(&address) {
                continue;
            }
            match self.kernel.dns_sockets(address, self.config.dns_port) {
                Ok((port, sockets)) => {
                    self.served.insert(address, port);
                    self.problems.remove(&format!("dns {address}"));
                    let _ = sockets.map(|sockets| self.listening.send(Listening::Serve(sockets)));
                }
                Err(error) => self.problem(&format!("dns {address}"), format!("no name service: {error}")),
            }
        }
    }
}

fn name_servers(served: &BTreeMap<IpAddr, u16>) -> Vec<Element> {
    served.iter().flat_map(|(gateway, port)| wanted::name_server(*gateway, *port)).collect()
}
