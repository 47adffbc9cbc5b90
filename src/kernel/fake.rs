//! The kernel without Linux.
