//! `/swarm`, and the swarm in `/info`.

use std::net::{IpAddr, SocketAddr, UdpSocket};

use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Value, json};

use super::{NOT_PART, empty, out_of_sequence, version_of};
use crate::api::v1::boolean;
use crate::faces::engine_api::failure::{Failure, json_reply};
use crate::faces::engine_api::swarm_state::{Availability, SwarmState, join_token, now, spec_with_defaults};
use crate::faces::engine_api::{Asked, EngineApi, body};

const KEYS: [&str; 11] = [
    "ListenAddr",
    "AdvertiseAddr",
    "DataPathAddr",
    "DataPathPort",
    "ForceNewCluster",
    "Spec",
    "AutoLockManagers",
    "Availability",
    "DefaultAddrPool",
    "SubnetSize",
    "EncryptionConfig",
];
/// The port of managers in Docker.
const PORT: u16 = 2377;
const IN_SWARM: &str =
    "This node is already part of a swarm. Use \"docker swarm leave\" to leave this swarm and join another one.";
const MANAGER: &str = "You are attempting to leave the swarm on a node that is participating as a manager. Removing the last manager \
                       erases all current state of the swarm. Use `--force` to ignore this message. ";

impl EngineApi {
    pub(super) async fn init_swarm(&self, request: Request) -> Result<Response, Failure> {
        let wanted = body::object(request, &KEYS).await?;
        let known = self.swarm();
        if known.is_some() && wanted["ForceNewCluster"] != true {
            return Err(Failure::new(StatusCode::SERVICE_UNAVAILABLE, IN_SWARM));
        }
        check_locks(&wanted["Spec"])?;
        if wanted["AutoLockManagers"] == true {
            return Err(locks());
        }
        let state = match known {
            Some(known) => known,
            None => new_swarm(&wanted)?,
        };
        self.set_swarm(Some(&state)).await?;
        self.tasks.changed();
        Ok(json_reply(StatusCode::OK, &json!(state.node)))
    }

    /// netd is no part of other swarms.
    pub(super) async fn join_swarm(&self, request: Request) -> Result<Response, Failure> {
        // A client that is still sending would get a broken pipe instead of the answer.
        body::as_it_is(request).await?;
        if self.swarm().is_some() {
            return Err(Failure::new(StatusCode::SERVICE_UNAVAILABLE, IN_SWARM));
        }
        Err(Failure::unsupported("swarms of several nodes: make one of this node with `docker swarm init`"))
    }

    pub(super) async fn leave_swarm(self: &std::sync::Arc<Self>, asked: &Asked) -> Result<Response, Failure> {
        if self.swarm().is_none() {
            return Err(Failure::new(StatusCode::SERVICE_UNAVAILABLE, NOT_PART));
        }
        if !asked.query("force").and_then(boolean).unwrap_or(false) {
            return Err(Failure::new(StatusCode::SERVICE_UNAVAILABLE, MANAGER));
        }
        let snapshot = self.handle.snapshot();
        for service in snapshot.desired.services().filter(|service| service.tasks.is_some()) {
            self.handle.remove_service(service.id.as_str()).await?;
        }
        for service in snapshot.desired.services().filter(|service| service.tasks.is_some()) {
            self.remove_tasks(service.id.as_str()).await?;
        }
        self.remove_swarm_networks().await?;
        self.set_swarm(None).await?;
        self.tasks.changed();
        Ok(empty())
    }

    pub(super) fn inspect_swarm(&self) -> Result<Response, Failure> {
        let state = self.in_swarm()?;
        let mut shown = cluster(&state);
        let [worker, manager] = &state.tokens;
        shown["JoinTokens"] = json!({"Worker": worker, "Manager": manager});
        Ok(json_reply(StatusCode::OK, &shown))
    }

    pub(super) async fn update_swarm(&self, asked: &Asked, request: Request) -> Result<Response, Failure> {
        let spec = body::as_it_is(request).await?;
        let version = version_of(asked, "swarm")?;
        let rotate = |key: &str| match asked.query(key).filter(|value| !value.is_empty()) {
            None => Ok(false),
            Some(value) => boolean(value).ok_or_else(|| Failure::bad(format!("invalid value for {key}: {value}"))),
        };
        let tokens = [rotate("rotateWorkerToken")?, rotate("rotateManagerToken")?];
        if spec["Name"].as_str().is_some_and(|name| !name.is_empty() && name != "default") {
            return Err(Failure::bad("swarm spec must be named \"default\""));
        }
        check_locks(&spec)?;
        self.change_swarm(|state| {
            if state.version != version {
                return Err(out_of_sequence());
            }
            (state.spec, state.version, state.updated) = (spec_with_defaults(&spec), version + 1, now());
            for (token, rotated) in state.tokens.iter_mut().zip(tokens) {
                if rotated {
                    *token = join_token(&state.id);
                }
            }
            Ok(())
        })
        .await?;
        self.tasks.changed();
        Ok(empty())
    }

    /// The swarm, as `/info` shows it.
    pub(in crate::faces::engine_api) fn swarm_info(&self) -> Value {
        let Some(state) = self.swarm() else {
            return json!({
                "NodeID": "", "NodeAddr": "", "LocalNodeState": "inactive", "ControlAvailable": false, "Error": "",
                "RemoteManagers": null,
            });
        };
        json!({
            "NodeID": state.node,
            "NodeAddr": state.address,
            "LocalNodeState": "active",
            "ControlAvailable": true,
            "Error": "",
            "RemoteManagers": [{"NodeID": state.node, "Addr": manager_address(&state)}],
            "Nodes": 1,
            "Managers": 1,
            "Cluster": cluster(&state),
        })
    }
}

/// The address at which other nodes would find the manager.
pub(super) fn manager_address(state: &SwarmState) -> String {
    match state.address.parse::<IpAddr>() {
        Ok(address) => SocketAddr::new(address, PORT).to_string(),
        Err(_) => format!("{}:{PORT}", state.address),
    }
}

fn cluster(state: &SwarmState) -> Value {
    json!({
        "ID": state.id,
        "Version": {"Index": state.version},
        "CreatedAt": state.created,
        "UpdatedAt": state.updated,
        "Spec": state.spec,
        "TLSInfo": {},
        "RootRotationInProgress": false,
        "DefaultAddrPool": state.pools,
        "SubnetSize": state.subnet_size,
        "DataPathPort": state.data_path_port,
    })
}

fn new_swarm(wanted: &Value) -> Result<SwarmState, Failure> {
    let given = ["AdvertiseAddr", "ListenAddr"].map(|key| wanted[key].as_str().unwrap_or_default());
    let address = given.into_iter().find_map(address).unwrap_or_else(|| own_address().to_string());
    let mut state = SwarmState::new(address, &wanted["Spec"]);
    state.node_spec.availability = Availability::parse(wanted["Availability"].as_str().unwrap_or_default())?;
    if let Some(pools) = wanted["DefaultAddrPool"].as_array().filter(|pools| !pools.is_empty()) {
        state.pools = pools.iter().filter_map(|pool| pool.as_str().map(str::to_owned)).collect();
    }
    let number =
        |key: &str| wanted[key].as_u64().and_then(|number| u32::try_from(number).ok()).filter(|number| *number > 0);
    state.subnet_size = number("SubnetSize").unwrap_or(state.subnet_size);
    state.data_path_port = number("DataPathPort").unwrap_or(state.data_path_port);
    Ok(state)
}

/// The address in `ADDRESS[:PORT]`, if it is one that others can reach.
fn address(text: &str) -> Option<String> {
    let parsed =
        text.parse::<SocketAddr>().map(|socket| socket.ip()).or_else(|_| text.trim_matches(['[', ']']).parse());
    parsed.ok().filter(|address| !address.is_unspecified()).map(|address: IpAddr| address.to_string())
}

/// The address from which this host would speak to others. Nothing is sent.
fn own_address() -> IpAddr {
    let loopback = IpAddr::from([127, 0, 0, 1]);
    let ask = || {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        // A documentation address (RFC 5737): any route but the loopback's will do.
        socket.connect("192.0.2.1:9")?;
        socket.local_addr()
    };
    ask().map_or(loopback, |address| address.ip())
}

fn check_locks(spec: &Value) -> Result<(), Failure> {
    if spec["EncryptionConfig"]["AutoLockManagers"] == true { Err(locks()) } else { Ok(()) }
}

fn locks() -> Failure {
    Failure::unsupported("locked swarms (AutoLockManagers): what it stores has no keys")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_may_have_ports() {
        assert_eq!(address("10.0.0.1:2377"), Some("10.0.0.1".into()));
        assert_eq!(address("fd00::1"), Some("fd00::1".into()));
        assert_eq!((address("0.0.0.0:2377"), address("eth0"), address("")), (None, None, None));
        let state = SwarmState::new("fd00::1".into(), &json!({}));
        assert_eq!(manager_address(&state), "[fd00::1]:2377");
    }
}
