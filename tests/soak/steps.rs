//! The steps: commands, alone, at once, and cut off by a kill; restarts; deaths of containers; changes by others.

use std::thread;
use std::time::Duration;

use netd_testing::wait::is;

use crate::chance::Chance;
use crate::damage;
use crate::lab::command::{Out, run_words};
use crate::lab::{daemon, run};
use crate::look::port;
use crate::world::{CONTAINERS, NETWORKS, World, end, sleeper};

/// The longest time between the start of a command and the kill that cuts it off; a connect takes about half of it.
const CUT_MS: usize = 60;

/// A command that can succeed now.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Command {
    Create(String, String),
    Remove(String),
    Connect((String, String), String),
    Disconnect((String, String)),
    Publish((String, String)),
    Unpublish((String, String)),
}

impl Command {
    fn line(&self, world: &World<'_>) -> String {
        match self {
            Self::Create(net, options) => format!("network create {net}{options}"),
            Self::Remove(net) => format!("network rm {net}"),
            Self::Connect((net, container), options) => {
                format!("connect {net} {}{options}", world.reference(container))
            }
            Self::Disconnect((net, container)) => format!("disconnect {net} {container}"),
            Self::Publish(pair) => format!("port add {} {}:80 --network {}", pair.1, port_of(pair), pair.0),
            Self::Unpublish(pair) => format!("port rm {} {}:80 --network {}", pair.1, port_of(pair), pair.0),
        }
    }

    /// What is there once it succeeded.
    fn done(&self, world: &mut World<'_>) {
        match self {
            Self::Create(net, _) => world.acknowledge_net(net),
            Self::Remove(net) => drop(world.nets.remove(net)),
            Self::Connect(pair, _) | Self::Publish(pair) | Self::Unpublish(pair) => world.acknowledge_end(pair),
            Self::Disconnect(pair) => drop(world.ends.remove(pair)),
        }
    }

    /// Whether netd shows that it is done.
    fn is_done(&self, world: &World<'_>) -> bool {
        let (nets, ends) = world.shown();
        match self {
            Self::Create(net, _) => nets.contains_key(net),
            Self::Remove(net) => !nets.contains_key(net),
            Self::Connect(pair, _) => ends.contains_key(pair),
            Self::Disconnect(pair) => !ends.contains_key(pair),
            Self::Publish(pair) => ends.get(pair).is_some_and(|end| !end.ports.is_empty()),
            Self::Unpublish(pair) => ends.get(pair).is_some_and(|end| end.ports.is_empty()),
        }
    }
}

/// `netd` on the host, from any thread of the laboratory.
fn netd(line: &str) -> Out {
    let words = format!("nsenter --net=/run/netns/host -- {} {line}", daemon::netd());
    run_words(&words.split_whitespace().collect::<Vec<_>>())
}

/// One step.
pub(crate) fn step(world: &mut World<'_>) {
    world.step += 1;
    world.tally.operations += 1;
    world.chance = Chance::of(world.seed, world.step);
    world.doing.clear();
    match world.chance.below(100) {
        0..35 => command(world),
        35..45 => at_once(world),
        45..52 => dies(world),
        52..56 => loses_its_path(world),
        56..60 => killed(world),
        60..64 => stopped(world),
        64..74 => cut_off(world),
        74..79 => changed_while_dead(world),
        _ => match damage::draw(world) {
            Some(change) => change.heal(world),
            None => command(world),
        },
    }
}

fn create(world: &mut World<'_>, net: &str) -> Command {
    let mut options = String::new();
    let number = NETWORKS.iter().position(|one| *one == net).unwrap_or(0);
    // Thirteen addresses for eight containers: once six have leaked, a connect fails.
    if world.chance.is(50) {
        options += &format!(" --subnet 10.90.{number}.0/28");
    }
    let more = [" --ipv6", " --internal", " --no-icc", " --sticky", " -o dns.listen=container"];
    for option in more {
        if world.chance.is(25) {
            options += option;
        }
    }
    Command::Create(net.to_owned(), options)
}

/// A command that can succeed and that none of `taken` hinders.
fn draw(world: &mut World<'_>, taken: &[Command]) -> Command {
    loop {
        let net = world.chance.pick(&NETWORKS).unwrap_or_default().to_owned();
        let container = world.chance.pick(&CONTAINERS).unwrap_or_default().to_owned();
        let pair = (net.clone(), container.clone());
        let drawn = if !world.nets.contains_key(&net) {
            create(world, &net)
        } else if let Some(end) = world.ends.get(&pair) {
            let is_published = !end.ports.is_empty();
            let may_publish = is_published || !world.nets[&net].internal;
            match (may_publish && world.chance.is(40), is_published) {
                (true, true) => Command::Unpublish(pair),
                (true, false) => Command::Publish(pair),
                (false, _) => Command::Disconnect(pair),
            }
        } else if world.ends.keys().all(|(of, _)| *of != net) && world.chance.is(20) {
            Command::Remove(net.clone())
        } else {
            connect(world, &pair)
        };
        let of = |command: &Command| match command {
            Command::Create(net, _) | Command::Remove(net) => (net.clone(), None),
            Command::Connect(pair, _)
            | Command::Disconnect(pair)
            | Command::Publish(pair)
            | Command::Unpublish(pair) => (pair.0.clone(), Some(pair.1.clone())),
        };
        // The same pair twice, or a network and what is on it.
        let (drawn_net, drawn_container) = of(&drawn);
        let hinders = |other: &Command| {
            let (net, container) = of(other);
            net == drawn_net && (container == drawn_container || container.is_none() || drawn_container.is_none())
        };
        if !taken.iter().any(hinders) {
            return drawn;
        }
    }
}

/// The host port that the container publishes on the network, if it does.
fn port_of(pair: &(String, String)) -> u16 {
    let index = |all: &[&str], name: &String| all.iter().position(|one| one == name).unwrap_or(0);
    port(index(&NETWORKS, &pair.0), index(&CONTAINERS, &pair.1))
}

fn connect(world: &mut World<'_>, pair: &(String, String)) -> Command {
    world.guest(&pair.1);
    let mut options = String::new();
    if world.chance.is(60) && !world.nets[&pair.0].internal {
        options += &format!(" -p {}:80", port_of(pair));
    }
    if world.chance.is(30) {
        options += &format!(" --alias also-{}", pair.1);
    }
    Command::Connect(pair.clone(), options)
}

fn command(world: &mut World<'_>) {
    let command = draw(world, &[]);
    let line = command.line(world);
    world.doing += &line;
    netd(&line).ok();
    command.done(world);
}

fn at_once(world: &mut World<'_>) {
    let mut commands = Vec::new();
    for _ in 0..2 + world.chance.below(4) {
        commands.push(draw(world, &commands));
    }
    let lines: Vec<String> = commands.iter().map(|command| command.line(world)).collect();
    world.doing = format!("at once: {}", lines.join("; "));
    world.tally.operations += u64::try_from(lines.len()).expect("a number") - 1;
    thread::scope(|scope| {
        let running: Vec<_> = lines.iter().map(|line| scope.spawn(move || netd(line))).collect();
        for thread in running {
            thread.join().expect("it ran").ok();
        }
    });
    commands.iter().for_each(|command| command.done(world));
}

fn start(world: &mut World<'_>) {
    world.lab.start_daemon();
}

fn kill(world: &mut World<'_>) {
    world.lab.kill_daemon();
    world.tally.kills += 1;
}

fn killed(world: &mut World<'_>) {
    world.doing += "kill -9 of the daemon";
    kill(world);
    start(world);
}

fn stopped(world: &mut World<'_>) {
    world.doing += "SIGTERM to the daemon";
    world.lab.stop_daemon();
    start(world);
}

/// A command, and kill -9 of the daemon somewhere in it: one that was answered is done, every other is done or not.
fn cut_off(world: &mut World<'_>) {
    let command = draw(world, &[]);
    let line = command.line(world);
    let after = world.chance.below(CUT_MS);
    world.doing = format!("kill -9 of the daemon {after} ms after: {line}");
    let out = thread::scope(|scope| {
        let running = scope.spawn(|| netd(&line));
        thread::park_timeout(Duration::from_millis(u64::try_from(after).expect("a number")));
        kill(world);
        running.join().expect("it ran")
    });
    start(world);
    let is_done = command.is_done(world);
    assert!(out.code != Some(0) || is_done, "{line} was answered with success, and is not done");
    if is_done {
        command.done(world);
    }
}

fn changed_while_dead(world: &mut World<'_>) {
    world.doing += "kill -9 of the daemon";
    kill(world);
    if world.chance.is(30) {
        dies(world);
    } else if let Some(change) = damage::draw(world) {
        change.make(world);
    }
    start(world);
}

/// A container that lives, if one does.
fn living(world: &mut World<'_>) -> Option<String> {
    let all: Vec<String> = world.guests.keys().cloned().collect();
    world.chance.pick(&all)
}

fn dies(world: &mut World<'_>) {
    let Some(name) = living(world) else { return world.doing += "nobody dies" };
    world.doing += &format!(" {name} dies");
    if world.guests[&name].named {
        run(&format!("ip netns del {name}")).ok();
    }
    world.gone(&name);
}

/// The namespace loses its name, or the process that was connected, and a process in it goes on living.
fn loses_its_path(world: &mut World<'_>) {
    let Some(name) = living(world) else { return world.doing += "nobody loses a path" };
    world.doing = format!("{name} loses its path, and a process in it lives");
    let Some(guest) = world.guests.get_mut(&name) else { return };
    let stays = sleeper(&["nsenter", &format!("--net={}", guest.path), "--"]);
    let path = format!("/proc/{}/ns/net", stays.id());
    let namespace = inode(&guest.path);
    crate::lab::until("the process is in the namespace", || is(inode(&path), &namespace));
    for process in &mut guest.holders {
        end(process);
    }
    guest.holders = vec![stays];
    guest.path = path;
    if std::mem::take(&mut guest.named) {
        run(&format!("ip netns del {name}")).ok();
    }
}

fn inode(path: &str) -> Option<u64> {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata(path).ok().map(|found| found.ino())
}

/// Ends all containers and removes all networks.
pub(crate) fn clear(world: &mut World<'_>) {
    world.step += 1;
    world.doing = "all containers end, all networks are removed".to_owned();
    while let Some(name) = world.guests.keys().next().cloned() {
        if world.guests[&name].named {
            run(&format!("ip netns del {name}")).ok();
        }
        world.gone(&name);
    }
    crate::look::settled(world);
    for net in std::mem::take(&mut world.nets).into_keys() {
        netd(&format!("network rm {net}")).ok();
    }
}
