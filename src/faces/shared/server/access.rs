//! Who may do what at the unix socket. The kernel says who the other end is (`SO_PEERCRED`, `SO_PEERGROUPS`, unix(7)).

use axum::http::Method;

use super::problem::Problem;
use super::socket::Socket;
use crate::os::peer::{self, Peer};

/// What the users of this host may do.
#[derive(Debug, Clone)]
pub struct Access {
    /// The user of the daemon, who may do everything, like root.
    pub own: u32,
    /// The group whose members may do everything.
    pub group: Option<u32>,
    /// Its name in the configuration.
    pub group_name: String,
    /// The setting that has it.
    pub setting: &'static str,
    /// Whether everyone else may read.
    pub others_read: bool,
}

/// What the other end of one connection may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Rights {
    All,
    /// Read only, or nothing; the sentence for what may not be done.
    Read(String),
    None(String),
}

impl Access {
    /// Only root and the user of this process may do anything.
    pub fn own() -> Self {
        let own = nix::unistd::geteuid().as_raw();
        Self { own, group: None, group_name: String::new(), setting: "socket_group", others_read: false }
    }

    /// What the other end of the connection may do.
    pub(super) fn of(&self, socket: &Socket) -> Rights {
        match peer::of(socket) {
            Ok(peer) => self.rights(&peer),
            Err(error) => Rights::None(format!("the kernel does not say who sends this request: {error}")),
        }
    }

    fn rights(&self, peer: &Peer) -> Rights {
        let is_member = self.group.is_some_and(|group| peer.groups.contains(&group));
        if peer.user == 0 || peer.user == self.own || is_member {
            return Rights::All;
        }
        let (group, setting) = (&self.group_name, self.setting);
        let who = match self.group {
            Some(_) => format!("root and the members of the group {group} may ({setting} in netd.toml)"),
            None => format!("root may, and the group {group} does not exist ({setting} in netd.toml)"),
        };
        if self.others_read {
            Rights::Read(format!("user {} may read, but not change anything: {who}", peer.user))
        } else {
            Rights::None(format!("user {} may not use netd: {who}", peer.user))
        }
    }
}

impl Rights {
    /// Returns the problem with a request of this method, if there is one.
    pub(super) fn check(&self, method: &Method) -> Result<(), Problem> {
        match self {
            Self::All => Ok(()),
            Self::Read(_) if method.is_safe() => Ok(()),
            Self::Read(why) | Self::None(why) => Err(Problem::forbidden(why.clone())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_the_daemon_and_the_group_may_do_everything_and_others_read_at_most() {
        let closed =
            Access { own: 5, group: Some(77), group_name: "netd".into(), setting: "socket_group", others_read: false };
        let open = Access { others_read: true, ..closed.clone() };
        let peer = |user, groups: &[u32]| Peer { user, groups: groups.into() };
        for access in [&closed, &open] {
            for all in [peer(0, &[]), peer(5, &[5]), peer(1000, &[1000, 77])] {
                assert_eq!(access.rights(&all), Rights::All, "{all:?}");
            }
        }
        let stranger = peer(1000, &[1000, 0]);
        let may = |access: &Access, method| access.rights(&stranger).check(&method).is_ok();
        assert!(!may(&closed, Method::GET) && !may(&closed, Method::POST));
        assert!(may(&open, Method::GET) && may(&open, Method::HEAD));
        assert!(!may(&open, Method::POST) && !may(&open, Method::PUT) && !may(&open, Method::DELETE));
        let nobody = Access { group: None, ..closed };
        assert_eq!(
            nobody.rights(&peer(1000, &[77])),
            Rights::None(
                "user 1000 may not use netd: root may, and the group netd does not exist (socket_group in netd.toml)"
                    .into()
            )
        );
    }
}
