//! The CNI plugin through its real binary: every command, version, environment and input. The daemon is played by a
//! thread that records what it is asked, IPAM plugins by shell scripts.
//! Nothing here needs privileges or touches the network.

#[cfg(test)]
mod answers;
#[cfg(test)]
mod chain;
#[cfg(test)]
mod environment;
#[cfg(test)]
mod go;
#[cfg(test)]
mod input;
#[cfg(test)]
mod ipam;
#[cfg(test)]
mod request;
#[cfg(test)]
mod versions;

/// A call of the plugin with this on its standard input.
#[cfg(test)]
fn call(command: &str, stdin: &serde_json::Value) -> netd_testing::cni::Call {
    netd_testing::cni::Call::new(netd_testing::programs!().plugin, command, stdin)
}
