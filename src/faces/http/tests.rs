//! The API through a real unix socket over an engine in memory.
