//! `netd service logs`: what the tasks of a service have written, each line with its task.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};

use serde_json::{Value, json};

use crate::faces::cli::Session;
use crate::faces::cli::engine::Engine;
use crate::faces::cli::output::Failure;
use crate::faces::shared::client::segment;

/// The head of a frame: which stream, and the length of the piece.
const HEAD: usize = 8;
const STDERR: u8 = 2;
/// The longest frame, in bytes.
const FRAME_MAX: u32 = 4 << 20;
/// Where the details of a line name its task.
const TASK: &str = "com.docker.swarm.task.id=";

/// What of the logs.
#[derive(Clone, Copy)]
pub(super) struct Wanted {
    pub(super) follow: bool,
    pub(super) tail: Option<u32>,
    pub(super) timestamps: bool,
}

pub(super) fn run(session: &mut Session<'_>, engine: &Engine, name: &str, wanted: Wanted) -> Result<(), Failure> {
    let failed = |why: &dyn std::fmt::Display| Failure::of(format!("show the logs of service {name}"), why);
    let service = engine.service(name).map_err(|refused| failed(&refused))?;
    let tail = wanted.tail.map_or_else(|| "all".to_owned(), |lines| lines.to_string());
    let path = format!(
        "/services/{}/logs?stdout=true&stderr=true&details=true&follow={}&timestamps={}&tail={tail}",
        segment(name),
        wanted.follow,
        wanted.timestamps
    );
    let mut stream = engine.stream(&path).map_err(|refused| failed(&refused))?;
    if service["Spec"]["TaskTemplate"]["ContainerSpec"]["TTY"] == true {
        return io::copy(&mut stream, session.out).map(drop).map_err(Failure::from);
    }
    let mut names = BTreeMap::new();
    while let Some((from, line)) = frame(&mut stream).map_err(|error| failed(&error))? {
        let (id, text) = told(&String::from_utf8_lossy(&line), wanted.timestamps);
        if !names.contains_key(&id) {
            let slots = engine.list("/tasks", &json!({"service": [name]})).unwrap_or_default();
            names.extend(
                slots.iter().filter_map(|task| Some((task["ID"].as_str()?.to_owned(), task_name(&service, task)))),
            );
        }
        let task = names.entry(id).or_insert_with_key(std::clone::Clone::clone);
        let out: &mut dyn Write = if from == STDERR { session.err } else { session.out };
        write!(out, "{task} | {text}")?;
        out.flush()?;
    }
    Ok(())
}

/// `web.1`; of a global service `web.NODE`.
fn task_name(service: &Value, task: &Value) -> String {
    let name = service["Spec"]["Name"].as_str().unwrap_or_default();
    match task["Slot"].as_u64() {
        Some(slot) => format!("{name}.{slot}"),
        None => format!("{name}.{}", task["NodeID"].as_str().unwrap_or_default()),
    }
}

/// The next frame; none at the end.
fn frame(stream: &mut impl Read) -> io::Result<Option<(u8, Vec<u8>)>> {
    let mut head = Vec::new();
    stream.by_ref().take(HEAD as u64).read_to_end(&mut head)?;
    let Some(&[from, _, _, _, a, b, c, d]) = head.first_chunk::<HEAD>() else { return Ok(None) };
    let length = u32::from_be_bytes([a, b, c, d]);
    if length > FRAME_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "that is no log"));
    }
    let mut line = Vec::new();
    stream.by_ref().take(length.into()).read_to_end(&mut line)?;
    Ok(Some((from, line)))
}

/// The id of the task of a line, and the line without the details that name it.
fn told(line: &str, timestamps: bool) -> (String, String) {
    let (time, rest) = match line.split_once(' ') {
        Some((time, rest)) if timestamps => (format!("{time} "), rest),
        _ => (String::new(), line),
    };
    let (details, text) = rest.split_once(' ').unwrap_or(("", rest));
    let id = details.split(',').find_map(|pair| pair.strip_prefix(TASK)).unwrap_or_default();
    (id.to_owned(), format!("{time}{text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_lines_of_tasks() {
        let line = b"com.docker.swarm.service.id=s,com.docker.swarm.task.id=t1 hello\n";
        let mut bytes = vec![1, 0, 0, 0, 0, 0, 0, u8::try_from(line.len()).unwrap()];
        bytes.extend(line);
        let mut stream = bytes.as_slice();
        let (from, read) = frame(&mut stream).unwrap().unwrap();
        assert_eq!((from, read.as_slice()), (1, line.as_slice()));
        assert!(frame(&mut stream).unwrap().is_none());
        assert_eq!(told(&String::from_utf8(read).unwrap(), false), ("t1".into(), "hello\n".into()));
        let service = json!({"Spec": {"Name": "web"}});
        assert_eq!(task_name(&service, &json!({"Slot": 2, "NodeID": "n"})), "web.2");
        assert_eq!(task_name(&service, &json!({"NodeID": "n"})), "web.n");
        let timed = "2026-01-02T03:04:05Z com.docker.swarm.task.id=t1 a b\n";
        assert_eq!(told(timed, true), ("t1".into(), "2026-01-02T03:04:05Z a b\n".into()));
    }
}
