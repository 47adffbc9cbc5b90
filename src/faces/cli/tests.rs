//! The command line: what is understood, what is refused and how, and what verbs print over a served API.

mod usage;
mod verbs;
