//! Checks whether a container may have a name, and which of a runtime's names are dropped.

use crate::logic::dns::claims;
use crate::logic::refusal::Refusal;
use crate::model::Invalid;
use crate::model::desired::Desired;
use crate::model::endpoint::Container;
use crate::model::names::{Alias, ContainerName};
use crate::model::request::{EndpointSpec, RuntimeRequest};

/// Refuses names and aliases that DNS would not resolve to this container. The name of a known container was checked
/// when it was first connected.
pub(crate) fn check(desired: &Desired, domain: &str, container: &Container, aliases: &[Alias]) -> Result<(), Refusal> {
    let is_new = desired.container(&container.id).is_none();
    let own = [container.name.as_str(), container.id.short()].into_iter().filter(|_| is_new);
    let own = own.map(|name| ("container name", name.to_ascii_lowercase()));
    for (what, name) in own.chain(aliases.iter().map(|alias| ("alias", alias.key()))) {
        if let Some(why) = claims::reserved(&name, domain) {
            return Err(Invalid::new(what, name, format!("{why}: choose another")).into());
        }
        if let Some(owner) = claims::owner(desired, domain, &name, &container.id) {
            let (holder, network) = (owner.container.name.clone(), owner.network.clone());
            return Err(Refusal::NameOfAnother { what, name, holder, network });
        }
    }
    Ok(())
}

/// A runtime's request without the names that have another meaning in DNS, and the reason for each dropped name: a name
/// must not make a runtime's container fail to start.
pub(crate) fn answerable(
    request: &RuntimeRequest,
    spec: &EndpointSpec,
    domain: &str,
) -> (RuntimeRequest, EndpointSpec, Vec<String>) {
    let why = |name: &str| claims::reserved(&name.to_ascii_lowercase(), domain);
    let (mut request, mut spec) = (request.clone(), spec.clone());
    let whole = |name: &ContainerName| match &request.scope {
        Some(scope) => format!("{name}.{scope}"),
        None => name.to_string(),
    };
    let name = request.name.as_ref().map(whole).filter(|name| why(name).is_some());
    let aliases = spec.aliases.iter().map(ToString::to_string).filter(|alias| why(alias).is_some());
    let left_out = name.iter().cloned().chain(aliases);
    let left_out = left_out.map(|name| format!("name {name:?} is left out: {}", why(&name).unwrap_or_default()));
    let left_out = left_out.collect();
    spec.aliases.retain(|alias| why(alias.as_str()).is_none());
    if name.is_some() {
        request.name = None;
    }
    (request, spec, left_out)
}
