//! Floor 1: pure functions over the model. Time and randomness are arguments.

pub mod refusal;
pub mod rules;
pub mod zone;
