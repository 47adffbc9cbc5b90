//! Stacks of services that are networking only: no engine runs.

use std::fs;

use libtest_mimic::Trial;

use crate::lab::{HOST4, Lab, Proto, Server, ask, trial};

pub(crate) fn trials() -> Vec<Trial> {
    vec![trial("stacks: services without an image need no engine", without_engine)]
}

fn write(port: u16) {
    let text = format!(
        "services:\n  web:\n    labels: {{netd.select: \"app=web\"}}\n    ports: [\"{port}:80\"]\n    networks: [net1]\n\
         networks:\n  net1:\n"
    );
    fs::write("/run/lab/compose.yml", text).expect("a file");
}

fn without_engine(lab: &Lab) {
    lab.start_daemon();
    let deploy = || lab.netd("stack deploy -c /run/lab/compose.yml lab").ok().stdout;
    write(4000);
    assert_eq!(deploy(), "Creating network lab_net1\nCreating service lab_web\n");
    lab.connected("lab_net1", "web1", "--label app=web");
    let _server = Server::start("web1", "web1", 80);
    assert_eq!(ask("outside", Proto::Tcp, (HOST4, 4000)).who, "web1");
    assert_eq!(deploy(), "service lab_web is unchanged\n");
    write(4001);
    assert!(deploy().starts_with("Updating service lab_web (id: "));
    assert_eq!(ask("outside", Proto::Tcp, (HOST4, 4001)).who, "web1");
    assert!(lab.netd("stack services lab").ok().stdout.contains("1/1"));
    assert!(lab.netd("stack ps lab").ok().stdout.contains("web1"));

    fs::write("/run/lab/image.yml", "services: {web: {image: lab}}\n").expect("a file");
    let refused = lab.netd("stack deploy -c /run/lab/image.yml other").refused();
    assert!(refused.contains("[engine] in netd.toml"), "{refused}");
    assert!(!lab.netd("network ls").ok().stdout.contains("other_default"), "nothing was made");

    lab.netd("disconnect lab_net1 web1").ok();
    assert_eq!(lab.netd("stack rm lab").ok().stdout, "Removing service lab_web\nRemoving network lab_net1\n");
    assert_eq!(lab.netd("service ls -q").ok().stdout, "");
    assert!(!lab.netd("network ls").ok().stdout.contains("lab_net1"));
    assert!(lab.netd("stack rm lab").ok().stderr.contains("Nothing found in stack: lab"));
}
