//! The name service over loopback sockets: clients are distinguished by their source address, here in 127/8, and
//! upstreams are sockets of the test. Nothing leaves the machine and nothing is configured on it.

#[cfg(test)]
mod cache;
#[cfg(test)]
mod forged;
#[cfg(test)]
mod forwarding;
#[cfg(test)]
mod local;
#[cfg(test)]
mod loops;
#[cfg(test)]
mod many;
#[cfg(test)]
mod racing;
#[cfg(test)]
mod secure;
#[cfg(test)]
mod tcp;
#[cfg(test)]
mod telemetry;
#[cfg(test)]
mod time;
#[cfg(test)]
mod upstream_selection;
