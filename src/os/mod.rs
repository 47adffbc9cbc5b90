//! Floor 1: Linux, except for the state of its network: system calls, sockets in batches, priorities, files, programs.

pub mod addressed;
pub mod bpf;
pub mod counters;
pub mod datagrams;
pub mod descriptors;
pub(crate) mod folder;
pub mod hand_over;
pub mod limited;
pub mod memory;
pub mod mounts;
pub mod multicast;
pub mod own_netns;
pub mod peer;
pub mod poller;
pub mod priority;
pub mod privileges;
pub mod program;
pub mod service;
pub mod sys;
