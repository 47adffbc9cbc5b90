//! With an engine that the test plays and a stopped clock.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard};

use futures_util::stream;
use netd_testing::clock::Clock;
use netd_testing::wait::{is, until_async};
use tokio::sync::mpsc;

use super::*;
use crate::engine::containers::{Answer, Check, Known};
use crate::engine::testing;
use crate::model::request::{ContainerRef, EndpointSpec, NetnsRef, NetworkSpec, PersonRequest, Requester};
use crate::model::service::{COMPOSE_PROJECT, COMPOSE_SERVICE, Standing};

const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// The engine: what it knows, how often it was asked, whether it hangs.
#[derive(Default)]
struct Engine(Mutex<Played>);

#[derive(Default)]
struct Played {
    is_there: bool,
    hangs: bool,
    known: BTreeMap<String, Known>,
    asked: Vec<String>,
    followed: usize,
    tell: Option<mpsc::UnboundedSender<String>>,
}

impl Engine {
    fn played(&self) -> MutexGuard<'_, Played> {
        self.0.lock().unwrap()
    }

    /// It checks the container's health with this result, and says so.
    fn checked(&self, check: Check) {
        let mut played = self.played();
        played.known.get_mut(ID).unwrap().check = check;
        played.tell.as_ref().unwrap().send(ID.to_owned()).unwrap();
    }
}

impl Containers for Engine {
    fn name(&self) -> &str {
        "the engine"
    }

    fn may_answer(&self) -> bool {
        self.played().is_there
    }

    fn container<'a>(&'a self, id: &'a str) -> Answer<'a, Option<Known>> {
        let mut played = self.played();
        played.asked.push(id.to_owned());
        let answer = if played.hangs { Err("no answer".to_owned()) } else { Ok(played.known.get(id).cloned()) };
        Box::pin(std::future::ready(answer))
    }

    fn notices(&self) -> Answer<'_, Notices> {
        let (tell, told) = mpsc::unbounded_channel();
        let mut played = self.played();
        (played.tell, played.followed) = (Some(tell), played.followed + 1);
        let notices = stream::unfold(told, async |mut told| Some((told.recv().await?, told))).boxed();
        Box::pin(std::future::ready(Ok(notices)))
    }
}

async fn connect(handle: &Handle, name: &str, netns: NetnsRef, id: Option<&str>) {
    let container = ContainerRef { name: name.into(), netns: Some(netns), id: id.map(|id| id.parse().unwrap()) };
    let person = Requester::Person(PersonRequest { network: "net1".into(), container, reservation: None });
    handle.connect(EndpointSpec::of(person)).await.unwrap();
}

/// netd with the network `net1`, and the engine with the container `web` of a project, which is not connected.
async fn begin() -> (Clock, Handle, Arc<Engine>) {
    let (clock, handle) = (Clock::stop(), testing::engine());
    handle.create_network(NetworkSpec::named("net1".parse().unwrap())).await.unwrap();
    let labels = [(COMPOSE_PROJECT, "shop"), (COMPOSE_SERVICE, "web")];
    let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    let engine = Arc::new(Engine::default());
    engine.played().known.insert(ID.to_owned(), Known { labels, check: Check::None });
    engine.played().is_there = true;
    tokio::spawn(run(handle.clone(), vec![engine.clone() as Arc<dyn Containers>]));
    (clock, handle, engine)
}

/// The members of the service that follows from the labels, with their states.
fn members(handle: &Handle) -> Vec<String> {
    let desired = &handle.snapshot().desired;
    let services = desired.services().filter(|service| service.name.as_str() == "shop_web");
    let line = |Standing { state, why, .. }: Standing| format!("{} {why}", state.as_str()).trim().to_owned();
    services.flat_map(|service| desired.members(service)).map(|member| line(member.standing)).collect()
}

/// Moves the clock a bit, and looks.
async fn becomes(clock: &Clock, handle: &Handle, expected: &[&str]) {
    until_async("the members follow", async || {
        clock.advance(Duration::from_millis(20)).await;
        is(members(handle), expected)
    })
    .await;
}

#[tokio::test]
async fn a_container_gets_the_labels_and_the_health_that_its_engine_has() {
    let (clock, handle, engine) = begin().await;
    clock.advance(Duration::from_secs(60)).await;
    assert_eq!(engine.played().followed, 0, "without a container of an engine, it is left alone");
    connect(&handle, "there", NetnsRef::Path("/run/netns/there".into()), None).await;
    clock.advance(Duration::from_secs(60)).await;
    assert_eq!(engine.played().followed, 0);
    connect(&handle, "web", NetnsRef::OfEngine(4711), Some(ID)).await;
    becomes(&clock, &handle, &["ready"]).await;
    engine.checked(Check::Starting);
    becomes(&clock, &handle, &["unhealthy its engine's health check has not succeeded yet"]).await;
    engine.checked(Check::Healthy);
    becomes(&clock, &handle, &["ready"]).await;
    engine.checked(Check::Unhealthy("no route".into()));
    becomes(&clock, &handle, &["unhealthy its engine's health check fails: no route"]).await;
    let asked = engine.played().asked.clone();
    assert_eq!(asked.iter().collect::<BTreeSet<_>>().len(), 1, "only for what is its: {asked:?}");
    assert_eq!(asked.len(), 4, "once and for each notice");
    handle.disconnect("net1", "web").await.unwrap();
    becomes(&clock, &handle, &[] as &[&str]).await;
    connect(&handle, "web", NetnsRef::OfEngine(4711), Some(ID)).await;
    becomes(&clock, &handle, &["unhealthy its engine's health check fails: no route"]).await;
}

#[tokio::test]
async fn a_result_of_which_the_engine_gives_no_notice_is_found_all_the_same() {
    let (clock, handle, engine) = begin().await;
    connect(&handle, "web", NetnsRef::OfEngine(4711), Some(ID)).await;
    becomes(&clock, &handle, &["ready"]).await;
    clock.advance(Duration::from_secs(60)).await;
    assert_eq!(engine.played().asked.len(), 1, "its health is not checked");
    engine.checked(Check::Healthy);
    clock.advance(Duration::from_secs(1)).await;
    engine.played().known.get_mut(ID).unwrap().check = Check::Unhealthy("no route".into());
    until_async("the result is found", async || {
        clock.advance(Duration::from_secs(1)).await;
        is(members(&handle), ["unhealthy its engine's health check fails: no route"].as_slice())
    })
    .await;
    // The clock stands while netd's own thread takes up an answer, so only the moved time counts.
    let (before, begun) = (engine.played().asked.len(), monotonic::now());
    until_async("it is asked again and again", async || {
        clock.advance(Duration::from_secs(1)).await;
        is(engine.played().asked.len() >= before + 6, &true)
    })
    .await;
    let passed = monotonic::now().duration_since(begun).as_secs();
    assert!(passed >= 50, "every ten seconds: six times in {passed} s");
}

/// A service that ends when nobody is connected could never end.
#[tokio::test]
async fn an_engine_without_any_of_the_containers_is_left_alone_until_there_are_others() {
    let (clock, handle, engine) = begin().await;
    let known = std::mem::take(&mut engine.played().known);
    connect(&handle, "web", NetnsRef::OfEngine(4711), Some(ID)).await;
    clock.advance(Duration::from_secs(60)).await;
    {
        let mut played = engine.played();
        assert_eq!((played.followed, played.asked.len()), (1, 1));
        assert!(played.tell.as_ref().unwrap().is_closed());
        played.known = known;
    }
    connect(&handle, "there", NetnsRef::Path("/run/netns/there".into()), None).await;
    clock.advance(Duration::from_secs(60)).await;
    assert_eq!(engine.played().followed, 1, "no container of an engine");
    handle.disconnect("net1", "web").await.unwrap();
    connect(&handle, "web", NetnsRef::OfEngine(4711), Some(ID)).await;
    becomes(&clock, &handle, &["ready"]).await;
    assert!(!engine.played().tell.as_ref().unwrap().is_closed());
}

#[tokio::test]
async fn an_engine_that_is_absent_hangs_or_restarts_is_asked_again() {
    let (clock, handle, engine) = begin().await;
    engine.played().is_there = false;
    connect(&handle, "web", NetnsRef::OfEngine(4711), Some(ID)).await;
    clock.advance(Duration::from_secs(60)).await;
    assert_eq!((engine.played().followed, members(&handle)), (0, Vec::new()));
    (engine.played().is_there, engine.played().hangs) = (true, true);
    clock.advance(Duration::from_secs(6)).await;
    assert_eq!(engine.played().followed, 1);
    clock.advance(Duration::from_secs(300)).await;
    let asked = engine.played().asked.len();
    assert!((5..40).contains(&asked), "with growing pauses: {asked} times");
    engine.played().hangs = false;
    clock.advance(Duration::from_secs(61)).await;
    becomes(&clock, &handle, &["ready"]).await;
    // It ends, and begins anew with another result.
    engine.played().known.get_mut(ID).unwrap().check = Check::Starting;
    engine.played().tell = None;
    becomes(&clock, &handle, &["unhealthy its engine's health check has not succeeded yet"]).await;
    assert_eq!(engine.played().followed, 2);
}
