//! CNI configurations, piece by piece: `conf.port(4000, 80).prev_result(&result)`.

use std::ops::Deref;
use std::path::Path;

use serde_json::{Value, json};

/// What a runtime writes to the standard input of a plugin.
#[derive(Debug, Clone)]
pub struct Conf(Value);

/// A configuration for netd's plugin, of the newest version.
pub fn conf(name: &str, socket: &Path) -> Conf {
    Conf(json!({"cniVersion": "1.1.0", "name": name, "type": "netd-cni", "socket": socket}))
}

impl Conf {
    /// Of another version.
    pub fn version(self, version: &str) -> Self {
        self.key("cniVersion", version)
    }

    /// Sets a key.
    pub fn key(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.0[key] = value.into();
        self
    }

    /// Sets all keys of an object.
    #[expect(clippy::needless_pass_by_value, reason = "callers write it with json!")]
    pub fn with(mut self, keys: Value) -> Self {
        for (key, value) in keys.as_object().expect("an object") {
            self.0[key] = value.clone();
        }
        self
    }

    /// The result of an earlier call or plugin.
    pub fn prev_result(self, result: &Value) -> Self {
        self.key("prevResult", result.clone())
    }

    /// Sets what the runtime gives for a capability.
    pub fn runtime(mut self, capability: &str, value: impl Into<Value>) -> Self {
        self.0["runtimeConfig"][capability] = value.into();
        self
    }

    /// A port of the host that leads to one of the container, by TCP.
    pub fn port(self, host: u16, container: u16) -> Self {
        self.push_port(host, container, "tcp")
    }

    /// The same by UDP.
    pub fn udp_port(self, host: u16, container: u16) -> Self {
        self.push_port(host, container, "udp")
    }

    fn push_port(mut self, host: u16, container: u16, protocol: &str) -> Self {
        let port = json!({"hostPort": host, "containerPort": container, "protocol": protocol});
        let ports = &mut self.0["runtimeConfig"]["portMappings"];
        match ports.as_array_mut() {
            Some(ports) => ports.push(port),
            None => *ports = json!([port]),
        }
        self
    }

    /// The attachments that GC keeps: container and interface.
    pub fn valid(self, attachments: &[(&str, &str)]) -> Self {
        let attachment = |(id, ifname): &(&str, &str)| json!({"containerID": id, "ifname": ifname});
        self.key("cni.dev/valid-attachments", attachments.iter().map(attachment).collect::<Vec<Value>>())
    }
}

impl Deref for Conf {
    type Target = Value;
    fn deref(&self) -> &Value {
        &self.0
    }
}
