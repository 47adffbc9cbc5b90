//! The options of `netd service create` and `update` that are about tasks: containers that the engine makes.

use std::path::PathBuf;

use clap::Args;
use serde_json::Value;

use super::{EngineSocket, values};
use crate::model::Invalid;

/// What the tasks of a service are.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Options of services whose containers the engine makes")]
pub struct TaskArgs {
    /// The image of its containers, which the engine of netd.toml makes
    #[arg(long)]
    pub image: Option<String>,
    /// How many [default: 1]
    #[arg(long, value_name = "N")]
    pub replicas: Option<u32>,
    /// A variable of their environment; repeat for more
    #[arg(long, value_name = "K=V", value_parser = values::option)]
    pub env: Vec<(String, String)>,
    /// type=bind|volume|tmpfs,source=SOURCE,target=PATH, also with ,readonly; repeat for more
    #[arg(long, value_name = "SPEC", value_parser = mount)]
    pub mount: Vec<Value>,
    /// What they run, instead of what the image says
    #[arg(long, value_name = "COMMAND")]
    pub command: Option<String>,
    /// When one that has ended is replaced [default: any]
    #[arg(long, value_name = "none|on-failure|any", value_parser = ["none", "on-failure", "any"])]
    pub restart_condition: Option<String>,
    /// How many are replaced at once [default: 1]
    #[arg(long, value_name = "N")]
    pub update_parallelism: Option<u32>,
    /// The time between two replacements [default: 0s]
    #[arg(long, value_name = "DURATION", value_parser = delay)]
    pub update_delay: Option<i64>,
    /// Whether the new one starts first, or the old one stops first [default: stop-first]
    #[arg(long, value_name = "start-first|stop-first", value_parser = ["start-first", "stop-first"])]
    pub update_order: Option<String>,
    /// Where the Engine API is
    #[command(flatten)]
    pub socket: EngineSocket,
}

impl TaskArgs {
    /// Whether any is given, besides the socket.
    pub(in crate::faces::cli) fn are_given(&self) -> bool {
        let Self { image, replicas, env, mount, command, restart_condition, .. } = self;
        let texts = [image, command, restart_condition, &self.update_order].into_iter().any(Option::is_some);
        texts
            || !env.is_empty()
            || !mount.is_empty()
            || replicas.or(self.update_parallelism).is_some()
            || self.update_delay.is_some()
    }
}

/// Nanoseconds.
fn delay(text: &str) -> Result<i64, Invalid> {
    let wrong = || Invalid::new("duration", text, "use 500ms, 2s, 1m30s");
    let duration = humantime::parse_duration(text).map_err(|_| wrong())?;
    i64::try_from(duration.as_nanos()).map_err(|_| wrong())
}

/// A mount in Docker's form.
fn mount(text: &str) -> Result<Value, Invalid> {
    let wrong = |why: &str| Invalid::new("mount", text, why);
    let mut mount = serde_json::json!({"Type": "volume"});
    for part in text.split(',') {
        match part.split_once('=') {
            Some(("type", kind @ ("bind" | "volume" | "tmpfs"))) => mount["Type"] = kind.into(),
            Some(("source" | "src", source)) if !source.is_empty() => mount["Source"] = source.into(),
            Some(("target" | "dst" | "destination", target)) if PathBuf::from(target).is_absolute() => {
                mount["Target"] = target.into();
            }
            Some(("readonly" | "ro", "true" | "1")) => mount["ReadOnly"] = true.into(),
            None if ["readonly", "ro"].contains(&part) => mount["ReadOnly"] = true.into(),
            _ => return Err(wrong("use type=bind|volume|tmpfs,source=SOURCE,target=PATH[,readonly]")),
        }
    }
    if mount["Target"].is_null() { Err(wrong("its target is missing")) } else { Ok(mount) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn mounts_are_dockers() {
        assert_eq!(
            mount("type=bind,src=/a,dst=/b,readonly").ok(),
            Some(json!({"Type": "bind", "Source": "/a", "Target": "/b", "ReadOnly": true}))
        );
        assert_eq!(
            mount("source=data,target=/b").ok(),
            Some(json!({"Type": "volume", "Source": "data", "Target": "/b"}))
        );
        for wrong in ["type=npipe,target=/b", "source=a", "target=b", "target=/b,x", ""] {
            assert!(mount(wrong).is_err(), "{wrong}");
        }
        assert_eq!(delay("1m30s").ok(), Some(90_000_000_000));
    }
}
