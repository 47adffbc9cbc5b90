//! Names that DNS uses otherwise: users are refused; a runtime's container starts without them.

use netd::engine::event::Change;
use netd_testing::request;

use super::*;

/// Connects `container` with these aliases as a user; the error is its kind and message.
fn connect(world: &World, network: &str, container: &str, aliases: &[&str]) -> Result<(), String> {
    let request = aliases.iter().fold(request::connect(network, container), |request, alias| request.alias(alias));
    let done = world.runtime.block_on(world.engine.handle.connect(request.spec()));
    done.map(drop).map_err(|error| format!("{}: {error}", error.kind().as_str()))
}

/// Two networks, with `client` on both and `web` on net1.
fn world(namespaces: &[&str]) -> World {
    let world = World::new(namespaces);
    for name in ["client", "web"] {
        world.fake.add_namespace(name);
    }
    for network in ["net1", "net2"] {
        let spec = netd::model::request::NetworkSpec::named(network.parse().unwrap());
        world.runtime.block_on(world.engine.handle.create_network(spec)).unwrap();
        world.connect(network, "client");
    }
    world.connect("net1", "web");
    world
}

#[test]
fn users_cannot_take_names_that_dns_uses_otherwise() {
    let world = world(&["localhost", "host.containers.internal", "web.net1", "evil", "host"]);
    let before = world.engine.handle.snapshot().revision;
    for (container, aliases, words) in [
        ("localhost", &[][..], "invalid: invalid container name \"localhost\""),
        ("host.containers.internal", &[], "invalid: invalid container name"),
        ("web.net1", &[], "conflict: container name web.net1 is the name of container web on network net1"),
        ("evil", &["a", "LocalHost"], "invalid: invalid alias \"localhost\""),
        ("evil", &["host.internal"], "invalid: invalid alias \"host.internal\""),
        ("evil", &["*.localhost"], "invalid: invalid alias"),
        ("evil", &["Web.Net1"], "conflict: alias web.net1 is the name of container web on network net1"),
        ("evil", &["web.net1.internal"], "conflict: alias"),
        ("evil", &["web.internal"], "conflict: alias"),
    ] {
        let error = connect(&world, "net2", container, aliases).expect_err(container);
        assert!(error.starts_with(words), "{container} {aliases:?}: {error}");
    }
    assert_eq!(world.engine.handle.snapshot().revision, before, "nothing was changed");
    connect(&world, "net2", "web", &["web.net1", "web.net2"]).unwrap();
    connect(&world, "net2", "host", &["www.net1", "net1", "*.net1"]).unwrap();
    // A container that has ended without a disconnect does not block its name.
    world.fake.delete_namespace("web");
    connect(&world, "net2", "evil", &["web.net1"]).unwrap();
}

#[test]
fn an_alias_yields_to_a_later_container_and_an_event_reports_it() {
    let world = world(&["evil", "late"]);
    connect(&world, "net2", "evil", &["late.net1"]).unwrap();
    let client = world.engine.handle.snapshot().desired.exact_container("client").unwrap().endpoints[0].clone();
    let evil = world.resolve(&client, "evil");
    assert_eq!(world.resolve(&client, "late.net1"), evil);
    let mut events = world.engine.handle.events();
    let late = world.connect("net1", "late");
    assert_eq!(world.resolve(&client, "late.net1"), [late.addresses[0].ip()]);
    assert!(matches!(&events.try_recv().unwrap().change, Change::Connected(endpoint) if **endpoint == *late));
    let event = events.try_recv().unwrap();
    let Change::Name { endpoint, message } = &event.change else { panic!("{event:?}") };
    assert_eq!(endpoint.container.name.as_str(), "evil");
    assert!(
        message.starts_with("late.net1 does not resolve to container evil") && message.contains("late on network net1"),
        "{message}"
    );
    world.runtime.block_on(world.engine.handle.disconnect("net1", "late")).unwrap();
    assert_eq!(world.resolve(&client, "late.net1"), evil, "the alias resolves again");
}

#[test]
fn a_runtimes_container_starts_even_if_its_name_is_refused() {
    let world = world(&["c1", "c2", "c3"]);
    let mut events = world.engine.handle.events();
    let mut name_events = || -> Vec<String> {
        let mut name_events = Vec::new();
        while let Ok(event) = events.try_recv() {
            if let Change::Name { message, .. } = &event.change {
                name_events.push(message.clone());
            }
        }
        name_events
    };
    let requested = || attach("net1", "c1").name("localhost").alias("www").alias("host.docker.internal");
    let first = world.attach(&key("x", "c1", "eth0"), requested()).unwrap();
    assert_eq!(first.container.name.as_str(), "c1", "it is named by its id");
    assert_eq!(first.aliases.iter().map(ToString::to_string).collect::<Vec<_>>(), ["www"]);
    let left_out = name_events();
    assert!(
        left_out.len() == 2 && left_out[0].contains("\"localhost\"") && left_out[1].contains("host.docker"),
        "{left_out:?}"
    );
    assert_eq!(world.attach(&key("x", "c1", "eth0"), requested()).unwrap(), first, "asked again");
    assert!(name_events().is_empty(), "and reported once");

    let second = world.attach(&key("x", "c2", "eth0"), attach("net2", "c2").name("host").scope("internal"));
    assert_eq!(second.unwrap().container.name.as_str(), "c2");
    let third = attach("net2", "c3").name("web").scope("net1").alias("web.net1.internal");
    let third = world.attach(&key("x", "c3", "eth0"), third).unwrap();
    assert_eq!(third.container.name.as_str(), "web.net1", "it has the name, which resolves to another container");
    let client = world.engine.handle.snapshot().desired.exact_container("client").unwrap().endpoints[0].clone();
    let web = world.engine.handle.snapshot().desired.exact_container("web").unwrap().endpoints[0].addresses[0].ip();
    for name in ["web.net1", "web.net1.internal"] {
        assert_eq!(world.resolve(&client, name), [web], "{name}");
    }
    let lost = name_events();
    assert!(lost.iter().any(|line| line.starts_with("web.net1 does not resolve to container web.net1")), "{lost:?}");
}

/// Earlier releases accepted such names: they load, and their containers keep working.
#[test]
fn names_accepted_by_earlier_releases_still_load() {
    let world = world(&["evil"]);
    let evil = world.connect("net2", "evil");
    let mut stored = evil.as_ref().clone();
    stored.aliases = vec!["localhost".parse().unwrap(), "web.net1".parse().unwrap()];
    let World { fake, mut store, engine, runtime } = world;
    runtime.block_on(engine.handle.stop());
    engine.thread.join().unwrap();
    netd::store::Store::commit(&mut store, &[netd::store::Record::PutEndpoint(Box::new(stored))]).unwrap();
    let world = World::with(fake, store);
    let snapshot = world.engine.handle.snapshot();
    assert_eq!(snapshot.desired.exact_container("evil").unwrap().endpoints[0].aliases.len(), 2);
    let client = snapshot.desired.exact_container("client").unwrap().endpoints[0].clone();
    let web = snapshot.desired.exact_container("web").unwrap().endpoints[0].addresses[0].ip();
    assert_eq!(world.resolve(&client, "web.net1"), [web]);
    connect(&world, "net1", "evil", &[]).unwrap();
}
