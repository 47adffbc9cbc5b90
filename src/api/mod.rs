//! Floor 1: the published JSON and its conversion from and to the model. Versions stand side by side.

pub mod v1;
