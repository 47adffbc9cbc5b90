//! The laboratory itself: what the other tests rest on.

use std::net::SocketAddr;

use libtest_mimic::Trial;
use netd_testing::wait::seen;

use crate::lab::look::links;
use crate::lab::upstream::Upstream;
use crate::lab::{HOST4, HOST6, OUTSIDE4, OUTSIDE6, Proto, Server, ask, echo, run, space, trial};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("lab: host and outside reach each other over both families and protocols", |_| {
            let _server = Server::start("host", "host", 7000);
            for (to, from) in [(HOST4, OUTSIDE4), (HOST6, OUTSIDE6)] {
                for proto in [Proto::Tcp, Proto::Udp] {
                    let reply = ask("outside", proto, (to, 7000));
                    assert_eq!((reply.who.as_str(), reply.saw.to_string().as_str()), ("host", from));
                    echo::expect_no_answer("outside", proto, (to, 7001));
                }
            }
        }),
        trial("lab: a namespace ends with its server, and its name is free again", |lab| {
            for _ in 0..2 {
                lab.container("web");
                run("ip -n host link add probe type veth peer name eth0 netns web").ok();
                let server = Server::start("web", "web", 80);
                drop(server);
                run("ip netns delete web").ok();
                crate::lab::until("the pair went with its namespace", || {
                    seen(links("host"), |links| !links.contains(&"probe".to_owned()))
                });
            }
        }),
        trial("lab: laboratories do not see each other", |lab| {
            lab.container("web");
            assert_eq!(links("web"), ["lo"]);
            assert!(!std::path::Path::new("/etc/netns/web").exists());
            std::fs::create_dir_all("/etc/netns/web").unwrap();
            assert_eq!(space::setting("host", "net/ipv4/ip_forward").as_deref(), Some("0"));
        }),
        trial("lab: the resolver answers and records questions", |_| {
            let upstream = Upstream::start("host", SocketAddr::from(([127, 0, 0, 1], 53)));
            crate::lab::Dig::expect("host", "Example.COM", &["198.51.100.7"]);
            crate::lab::Dig::expect_none("host", "example.com AAAA", "NOERROR");
            assert_eq!(upstream.asked(), ["example.com", "example.com"]);
        }),
    ]
}
