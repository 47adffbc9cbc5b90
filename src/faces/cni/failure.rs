//! Failures in the form of CNI: code, message, details (CNI spec 1.1.0, section 5, "Error").

use serde_json::{Value, json};

use crate::faces::shared::client::ClientError;

/// The configuration's version is not supported, or has no such command.
pub(super) const INCOMPATIBLE_VERSION: u32 = 1;
/// The configuration has a key that netd does not know.
pub(super) const UNSUPPORTED_FIELD: u32 = 2;
/// The container's network namespace does not exist.
pub(super) const UNKNOWN_CONTAINER: u32 = 3;
/// An environment variable is missing or wrong.
pub(super) const INVALID_ENVIRONMENT: u32 = 4;
/// Standard input could not be read, or the IPAM plugin could not be run.
pub(super) const IO: u32 = 5;
/// The input is not JSON, or not of the expected structure.
pub(super) const DECODE: u32 = 6;
/// A value of the configuration is wrong.
pub(super) const INVALID_CONFIGURATION: u32 = 7;
/// `CNI_NETNS` is the plugin's own namespace (libcni's skel).
pub(super) const OWN_NETNS: u32 = 8;
/// The daemon does not reply, or is starting or stopping.
pub(super) const TRY_AGAIN: u32 = 11;
/// `STATUS`: no container can be attached now.
pub(super) const NOT_AVAILABLE: u32 = 50;
/// `STATUS`: the same, and existing containers may be affected.
pub(super) const LIMITED: u32 = 51;
/// netd's own: the requested port, address, MAC, subnet or interface name belongs to something else.
pub(super) const CONFLICT: u32 = 100;
/// netd's own: no address or subnet is left.
pub(super) const EXHAUSTED: u32 = 101;
/// netd's own, for `CHECK`: a part of the attachment is gone or was changed.
pub(super) const CHANGED: u32 = 102;
/// netd's own: the kernel, or a program that the daemon needs, refused an operation unexpectedly.
pub(super) const KERNEL: u32 = 103;
/// Everything else: the daemon tried and failed.
pub(super) const INTERNAL: u32 = 999;

/// Why a command failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) code: u32,
    pub(super) msg: String,
    /// Empty if there are none.
    pub(super) details: String,
}

impl Failure {
    pub(super) fn new(code: u32, msg: impl Into<String>) -> Self {
        Self { code, msg: msg.into(), details: String::new() }
    }

    pub(super) fn details(self, details: impl Into<String>) -> Self {
        Self { details: details.into(), ..self }
    }

    /// A wrong value of an environment variable.
    pub(super) fn environment(variable: &str, value: &str, why: impl std::fmt::Display) -> Self {
        Self::new(INVALID_ENVIRONMENT, format!("invalid {variable} {value:?}: {why}"))
    }

    /// A wrong value of a key.
    pub(super) fn value(key: &str, value: &Value, why: impl std::fmt::Display) -> Self {
        Self::new(INVALID_CONFIGURATION, format!("invalid {key:?}: {value}: {why}"))
    }

    /// The error in the daemon's reply, or the lack of a reply.
    pub(super) fn daemon(error: &ClientError) -> Self {
        match error {
            ClientError::Connect { socket, source } => {
                let socket = socket.display();
                Self::new(TRY_AGAIN, format!("cannot reach netd at {socket}: {source}"))
                    .details("is it running? See `systemctl status netd`; the key \"socket\" names another socket")
            }
            ClientError::Broken { .. } => Self::new(TRY_AGAIN, error.to_string()),
            ClientError::Refused { error, .. } => {
                let code = match error.code.as_str() {
                    "invalid" => INVALID_CONFIGURATION,
                    "not_found" => UNKNOWN_CONTAINER,
                    "conflict" => CONFLICT,
                    "exhausted" => EXHAUSTED,
                    "changed" => CHANGED,
                    "kernel" => KERNEL,
                    "unavailable" => TRY_AGAIN,
                    _ => INTERNAL,
                };
                Self::new(code, error.message.clone())
            }
        }
    }

    /// Adds another failure. The code stays that of the first.
    pub(super) fn and(mut self, other: &Self) -> Self {
        self.msg = format!("{}; {}", self.msg, other.msg);
        let details = [self.details.as_str(), other.details.as_str()];
        self.details = details.into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join("; ");
        self
    }

    /// The failure as printed in this version of the spec. `msg` and `details` are one line each.
    pub(super) fn json(&self, version: &str) -> Value {
        let mut json = json!({ "cniVersion": version, "code": self.code, "msg": line(&self.msg) });
        if !self.details.is_empty() {
            json["details"] = line(&self.details).into();
        }
        json
    }
}

/// Joins a text into one line.
pub(super) fn line(text: &str) -> String {
    text.split(['\n', '\r']).map(str::trim).filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_failures_are_told_in_a_line_each() {
        let first = Failure::new(TRY_AGAIN, "no luck:\r\n  at all\n");
        let second = Failure::new(INTERNAL, "none\there").details("see\nthe log");
        let json = first.clone().and(&second).json("0.4.0");
        let expected = json!({"cniVersion": "0.4.0", "code": 11, "msg": "no luck: at all ; none\there",
                              "details": "see the log"});
        assert_eq!(json, expected);
        assert_eq!(first.json("1.1.0").get("details"), None);
    }
}
