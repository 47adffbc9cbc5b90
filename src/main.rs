//! The `netd` program: arguments to tracing, runtime, and the daemon or a client verb.

fn main() {}
