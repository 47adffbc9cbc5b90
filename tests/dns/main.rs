//! The name service over loopback sockets: askers are told apart by their source address, which here lies in 127/8, and
//! upstreams are sockets of the test. Nothing leaves the machine and nothing is configured on it.

#[cfg(test)]
mod forged;
#[cfg(test)]
mod forwarding;
#[cfg(test)]
mod kept;
#[cfg(test)]
mod lab;
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
mod seen;
#[cfg(test)]
mod tcp;
#[cfg(test)]
mod whom;
