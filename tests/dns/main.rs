//! The name service over loopback sockets: askers are told apart by their source address, which here lies in 127/8, and
//! upstreams are sockets of the test. Nothing leaves the machine and nothing is configured on it.

#[cfg(test)]
mod forwarding;
#[cfg(test)]
mod lab;
#[cfg(test)]
mod local;
#[cfg(test)]
mod many;
#[cfg(test)]
mod seen;
#[cfg(test)]
mod tcp;
