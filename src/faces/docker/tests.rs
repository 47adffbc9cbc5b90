//! The driver over the fake kernel: the protocol's errors, repeated requests, and what is left.
