//! Settings of a few words.

use utoipa::ToSchema;

/// Who decides which packets reach a published port.
#[derive(ToSchema, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PublishMode {
    /// netd: all of them.
    Open,
    /// The host's own rules about packets to itself.
    Strict,
}

/// Whether anything but what is allowed passes.
#[derive(ToSchema, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum EgressStance {
    /// Everything passes; what is asked is noted.
    Open,
    /// Nothing passes but what is allowed.
    Deny,
}
