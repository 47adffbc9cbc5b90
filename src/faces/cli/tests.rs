//! Tests of the command line: which arguments are accepted, how others are rejected, and what verbs print with a served
//! API.

mod backup;
mod listing;
mod services;
mod stacks;
mod usage;
mod verbs;
