//! UDP sockets on one address and port, among which the kernel distributes datagrams by source address, so that a
//! source has a receive queue to itself or shares it with few others (`SO_REUSEPORT` with a classic BPF program that
//! selects the socket; socket(7)). A source that fills its queue causes no loss for sources on other queues.
//!
//! The last socket is the quarantine: no source is assigned to it by address, only the listed ones.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};

use nix::errno::Errno;
use nix::libc::{self, sock_filter, sock_fprog};
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::{AttachReusePortCbpf, ReusePort};

use crate::os::bpf;

/// Maximum number of address-selected shards per gateway, if there are plenty of descriptors. Addresses are assigned
/// consecutively, so up to this many containers of a network have a shard each.
const SHARDS_MAX: usize = 16;
/// If descriptors are scarce: one shard per this many that the process may have. With 1024, 100 gateways use half of
/// them.
const DESCRIPTORS_PER_SHARD: u64 = 256;
/// How many sources can be quarantined at once.
pub const QUARANTINE_MAX: usize = 16;

/// The offsets of the source address in the network header, in words of 4 bytes.
const SOURCE4: [u32; 1] = [12];
const SOURCE6: [u32; 4] = [8, 12, 16, 20];

/// The number of address-selected shards per gateway.
pub(in crate::kernel) fn per_gateway() -> usize {
    let (may, _) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((0, 0));
    usize::try_from(may / DESCRIPTORS_PER_SHARD).unwrap_or(SHARDS_MAX).clamp(1, SHARDS_MAX)
}

/// Opens `shards` sockets that are selected by address, and the quarantine. `bind` makes a socket bound to the given
/// address, after doing what it is given. Fails with `AddrInUse` if any other socket has the address, even one that
/// would share it.
pub(in crate::kernel) fn open(
    at: SocketAddr,
    shards: usize,
    bind: impl Fn(SocketAddr, bool) -> io::Result<UdpSocket>,
) -> io::Result<Vec<UdpSocket>> {
    // The first socket is bound exclusively and permits sharing afterwards. Otherwise it would join the group of
    // another program with the same user, such as a second netd.
    let first = bind(at, false)?;
    setsockopt(&first, ReusePort, &true)?;
    // The kernel may have chosen the port.
    let at = first.local_addr()?;
    let mut sockets = vec![first];
    while sockets.len() <= shards {
        sockets.push(bind(at, true)?);
    }
    steer(&sockets[0], shards, &[])?;
    Ok(sockets)
}

/// Directs these sources (of the socket's address family, at most [`QUARANTINE_MAX`]) to the last socket of the group,
/// and all others to one of the first `shards` by their address. `any` is any socket of the group.
pub fn steer(any: &UdpSocket, shards: usize, quarantined: &[IpAddr]) -> io::Result<()> {
    let shards = u32::try_from(shards).map_err(|_| Errno::EINVAL)?;
    let mut program =
        program(any.local_addr()?.is_ipv4(), shards, &quarantined[..quarantined.len().min(QUARANTINE_MAX)]);
    let length = u16::try_from(program.len()).map_err(|_| Errno::EINVAL)?;
    Ok(setsockopt(any, AttachReusePortCbpf, &sock_fprog { len: length, filter: program.as_mut_ptr() })?)
}

/// Builds the program that returns the index of the socket in its group, which is the order in which they were bound.
/// For an index that does not exist, or a header that cannot be read, the kernel selects any of them: then the
/// distribution is not kept, but nothing is lost.
fn program(v4: bool, shards: u32, quarantined: &[IpAddr]) -> Vec<sock_filter> {
    let mut program = Vec::new();
    for address in quarantined {
        let words: Vec<(u32, u32)> = match address {
            IpAddr::V4(address) if v4 => vec![(SOURCE4[0], u32::from(*address))],
            IpAddr::V6(address) if !v4 => {
                let bits = u128::from(*address);
                (0..4).map(|word| (SOURCE6[word], (bits >> (96 - 32 * word)) as u32)).collect()
            }
            _ => continue,
        };
        let count = words.len();
        for (place, (offset, word)) in words.into_iter().enumerate() {
            program.push(load(offset));
            // Jumps to the next address, over the rest of this one's words and its return.
            let rest = u8::try_from(2 * (count - 1 - place) + 1).unwrap_or(u8::MAX);
            program.push(bpf::if_equal(word, 0, rest));
        }
        program.push(bpf::returns(shards));
    }
    program.push(load(if v4 { SOURCE4[0] } else { SOURCE6[3] }));
    program.push(bpf::statement(libc::BPF_ALU | libc::BPF_MOD | libc::BPF_K, shards.max(1)));
    program.push(bpf::statement(libc::BPF_RET | libc::BPF_A, 0));
    program
}

fn load(offset: u32) -> sock_filter {
    // Relative to the network header, wherever the packet's data begin (linux/filter.h).
    let from_header = (libc::SKF_NET_OFF as u32).wrapping_add(offset);
    bpf::statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, from_header)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use netd_testing::wait::{is, until};
    use nix::poll::{PollFd, PollFlags, poll};

    use super::*;
    use crate::kernel::dns::sockets;
    use crate::kernel::link::route::settle_address;
    use crate::kernel::netlink::socket::Netlink;
    use crate::kernel::testing::lab::{in_own_netns, ip};

    /// Waits until a datagram has arrived: on a busy machine the kernel delivers it after the send has returned.
    fn arrives(sockets: &[&UdpSocket], what: &str) {
        let mut fds: Vec<_> = sockets.iter().map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN)).collect();
        assert_eq!(poll(&mut fds, 10_000u16), Ok(1), "{what} has not arrived");
    }

    /// The index of the socket that receives datagrams from that source.
    fn shard_of(sockets: &[UdpSocket], source: &str) -> usize {
        let client = UdpSocket::bind((source.parse::<IpAddr>().unwrap(), 0)).unwrap();
        client.send_to(b"x", sockets[0].local_addr().unwrap()).unwrap();
        arrives(&sockets.iter().collect::<Vec<_>>(), source);
        let arrived: Vec<usize> =
            (0..sockets.len()).filter(|shard| sockets[*shard].recv_from(&mut [0; 8]).is_ok()).collect();
        assert_eq!(arrived.len(), 1, "{source}: {arrived:?}");
        arrived[0]
    }

    #[test]
    fn each_source_has_its_lane_and_who_is_named_is_apart() {
        in_own_netns(|| {
            ip("link set lo up");
            let v6 = ["fd00::2", "fd00::3", "fd01::3", "fd00:0:0:3::12"];
            for address in v6.iter().chain(&["fd00::1"]) {
                ip(&format!("address add {address}/128 dev lo nodad"));
                settle_address(&mut Netlink::open().unwrap(), 1, address.parse().unwrap());
            }
            let v4 = ["127.0.0.2", "127.0.0.3", "127.0.1.3", "127.0.0.18"];
            for (gateway, sources) in [("127.0.0.1", v4), ("fd00::1", v6)] {
                let sockets = sockets::open(gateway.parse().unwrap(), sockets::PORT, 16).unwrap().udp;
                assert_eq!(sockets.len(), 17);
                let shards = || sources.map(|source| shard_of(&sockets, source));
                assert_eq!(shards(), [2, 3, 3, 2], "{gateway}");
                let other = "192.0.2.1".parse().unwrap();
                let named = [other, sources[1].parse().unwrap(), "fd77::1".parse().unwrap()];
                steer(&sockets[5], 16, &named).unwrap();
                assert_eq!(shards(), [2, 16, 3, 2], "{gateway}");
                let many: Vec<IpAddr> = sources.iter().cycle().take(5_000).map(|s| s.parse().unwrap()).collect();
                steer(&sockets[16], 16, &many).unwrap();
                assert_eq!(shards(), [16; 4], "{gateway}");
                steer(&sockets[0], 16, &[]).unwrap();
                assert_eq!(shards(), [2, 3, 3, 2], "{gateway}");
            }
        });
    }

    #[test]
    fn a_full_lane_costs_no_other_a_datagram() {
        in_own_netns(|| {
            ip("link set lo up");
            let sockets = sockets::open("127.0.0.1".parse().unwrap(), sockets::PORT, 4).unwrap().udp;
            let at = sockets[0].local_addr().unwrap();
            let flood = UdpSocket::bind("127.0.0.2:0").unwrap();
            let waiting = |shard: usize| std::iter::from_fn(|| sockets[shard].recv(&mut [0; 64]).ok()).count();
            let send = |socket: &UdpSocket| assert_eq!(socket.send_to(&[0; 60], at).unwrap(), 60);
            (0..20_000).for_each(|_| send(&flood));
            for source in ["127.0.0.1:0", "127.0.0.3:0", "127.0.0.4:0"] {
                send(&UdpSocket::bind(source).unwrap());
            }
            [0, 1, 2, 3].into_iter().for_each(|shard| arrives(&[&sockets[shard]], "a datagram"));
            let shards = [0, 1, 2, 3, 4].map(waiting);
            assert!((1..20_000).contains(&shards[2]), "it is bounded: {shards:?}");
            assert_eq!([shards[0], shards[1], shards[3], shards[4]], [1, 1, 1, 0]);
        });
    }

    #[test]
    fn nobody_else_is_joined() {
        in_own_netns(|| {
            ip("link set lo up");
            let address: IpAddr = "127.0.0.1".parse().unwrap();
            let first = sockets::open(address, sockets::PORT, 4).unwrap();
            let second = sockets::open(address, sockets::PORT, 4).unwrap();
            assert_eq!((first.port, second.port), (sockets::PORT, sockets::PORT + 1));
            assert!(UdpSocket::bind((address, first.port)).is_err());
            // Its TCP socket alone would block the second one.
            drop(first.tcp);
            assert!(sockets::open_exactly(address, first.port, 4).is_err());
            drop(first.udp);
            // Until it executes its program, a child that another test starts has copies of the sockets.
            until("the port is taken", || is(sockets::open(address, sockets::PORT, 4).unwrap().port, &sockets::PORT));
        });
    }
}
