//! The requests of `netd service create` and `netd service update`.

use crate::api::v1::{
    CreateService, HealthRequest, PortRequest, ServiceNetworkObject, ServiceNetworkRequest, UpdateService,
};
use crate::faces::cli::args::{CreateServiceArgs, ServiceArgs, UpdateServiceArgs};

pub(super) fn create(args: CreateServiceArgs) -> CreateService {
    let CreateServiceArgs { name, networks, options, .. } = args;
    let health = health(&options);
    CreateService {
        name,
        networks: objects(networks),
        aliases: options.aliases.into_iter().flatten().collect(),
        select: options.select.into_iter().flatten().collect(),
        members: options.member.into_iter().flatten().collect(),
        mode: options.mode,
        ports: options.ports.into_iter().flatten().map(PortRequest::Spec).collect(),
        target: options.target.flatten(),
        affinity: options.affinity,
        grace: options.grace,
        health,
        when_none_ready: options.when_none_ready,
        labels: options.label.into_iter().flatten().collect(),
    }
}

pub(super) fn update(args: UpdateServiceArgs) -> UpdateService {
    let UpdateServiceArgs { networks, options, publish_add, publish_rm, member_add, member_rm, if_version, .. } = args;
    let health = health(&options);
    UpdateService {
        version: if_version,
        networks: (!networks.is_empty()).then(|| objects(networks)),
        aliases: given(options.aliases),
        select: given(options.select),
        members: given(options.member),
        member_add,
        member_rm,
        mode: options.mode,
        ports: given(options.ports.into_iter().map(|port| port.map(PortRequest::Spec)).collect()),
        publish_add: publish_add.into_iter().map(PortRequest::Spec).collect(),
        publish_rm: publish_rm.into_iter().map(PortRequest::Spec).collect(),
        target: options.target,
        affinity: options.affinity,
        grace: options.grace,
        health,
        when_none_ready: options.when_none_ready,
        labels: given(options.label),
    }
}

fn objects(networks: Vec<ServiceNetworkObject>) -> Vec<ServiceNetworkRequest> {
    networks.into_iter().map(ServiceNetworkRequest::Object).collect()
}

/// What of the health check is given.
fn health(options: &ServiceArgs) -> Option<HealthRequest> {
    let ServiceArgs { health, interval, timeout, retries, .. } = options;
    let request = HealthRequest { kind: health.clone(), interval: *interval, timeout: *timeout, retries: *retries };
    (request != HealthRequest::default()).then_some(request)
}

/// A list that was given, which may be empty.
fn given<T, C: FromIterator<T>>(list: Vec<Option<T>>) -> Option<C> {
    (!list.is_empty()).then(|| list.into_iter().flatten().collect())
}
