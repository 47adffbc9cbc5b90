//! Traffic control messages: queueing disciplines with the options of the token bucket (`struct tc_tbf_qopt`,
//! linux/pkt_sched.h), and the filter that redirects everything to another interface.

use netlink_packet_core::{DefaultNla, Nla as _, NlasIterator};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::tc::{
    TcAction, TcActionAttribute, TcActionGeneric, TcActionMirror, TcActionMirrorOption, TcActionOption, TcActionType,
    TcAttribute, TcFilterU32, TcFilterU32Option, TcHandle, TcHeader, TcMessage, TcMirror, TcMirrorActionType, TcOption,
    TcU32Key, TcU32Selector, TcU32SelectorFlags,
};

use crate::kernel::link;
use crate::model::bandwidth::Rate;

/// The token bucket's kind.
pub(in crate::kernel) const TBF: &str = "tbf";
/// The kind of the discipline that only carries filters for received packets.
pub(in crate::kernel) const INGRESS: &str = "ingress";
/// The handle of every token bucket of netd; `tc qdisc` shows "6e64:".
pub(in crate::kernel) const HANDLE: TcHandle = TcHandle { major: link::LINK_GROUP as u16, minor: 0 };
/// The handle of the ingress discipline (`ffff:`), whoever made it.
const INGRESS_HANDLE: TcHandle = TcHandle { major: 0xffff, minor: 0 };
/// Where filters for received packets are attached, with `ingress` as well as with `clsact`.
const INGRESS_FILTERS: TcHandle = TcHandle { major: 0xffff, minor: TcHandle::MIN_INGRESS };
/// Priority of the redirect; lower ones come first, and 1 is the lowest.
const PRIORITY: u32 = 1;
/// `ETH_P_ALL` (linux/if_ether.h).
const ETH_P_ALL: u16 = 3;

/// linux/rtnetlink.h.
const TCA_OPTIONS: u16 = 2;
/// linux/pkt_sched.h.
const TCA_TBF_PARMS: u16 = 1;
const TCA_TBF_RATE64: u16 = 4;
const TCA_TBF_BURST: u16 = 6;
/// `sizeof(struct tc_tbf_qopt)`: two `struct tc_ratespec` of 12 bytes, then limit, buffer and mtu.
const QOPT: usize = 36;
/// `TC_LINKLAYER_ETHERNET`: with it the kernel needs no rate table.
const ETHERNET: u8 = 1;

/// The kernel represents times in units of 64 ns (`PSCHED_SHIFT`, net/pkt_sched.h; second number of /proc/net/psched),
/// unchanged since Linux 2.6.31.
const TICK_NS: u128 = 64;
const SECOND_NS: u128 = 1_000_000_000;
/// The longest time that a packet waits for its tokens once the bucket is empty; the same as in CNI's bandwidth plugin.
const LATENCY_NS: u128 = 25_000_000;
/// The size of a frame beyond its MTU: an Ethernet header (linux/if_ether.h, `ETH_HLEN`) and a VLAN tag.
const FRAME: u32 = 14 + 4;

/// A token bucket, as wanted or as the kernel shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::kernel) struct Bucket {
    /// Bytes per second.
    pub(in crate::kernel) rate: u64,
    /// The time that filling the bucket takes, in units of 64 ns, modulo 2^32. The kernel shows the size of the bucket
    /// only in this form.
    pub(in crate::kernel) ticks: u32,
    /// How many bytes may wait.
    pub(in crate::kernel) limit: u32,
    /// Size of the bucket in bytes; the kernel does not show it.
    pub(in crate::kernel) burst: Option<u32>,
}

impl Bucket {
    /// The bucket for a limit of an interface with that MTU.
    ///
    /// It holds at least one whole frame. A packet that is larger than the bucket is always dropped (`tbf_enqueue`,
    /// net/sched/sch_tbf.c), so a smaller bucket would cut the container off instead of limiting it. CNI's bandwidth
    /// plugin uses such a burst unchanged. Larger packets that are still to be segmented are first cut into frames.
    pub(in crate::kernel) fn new(rate: Rate, mtu: u32) -> Self {
        let burst = rate.burst_bytes().max(mtu.saturating_add(FRAME));
        let rate = rate.bytes_per_second().max(1);
        let queue = u128::from(rate) * LATENCY_NS / SECOND_NS + u128::from(burst);
        Self { rate, ticks: ticks(rate, burst) as u32, limit: queue.min(u32::MAX.into()) as u32, burst: Some(burst) }
    }

    /// Whether the bucket that the kernel shows is this one.
    pub(in crate::kernel) fn is(self, shown: Self) -> bool {
        let off = self.ticks.wrapping_sub(shown.ticks).cast_signed().unsigned_abs();
        // The kernel multiplies by a factor of at least 31 significant bits instead of dividing
        // (`psched_ratecfg_precompute`, net/sched/sch_generic.c).
        let rounding = self.burst.map_or(0, |burst| ticks(self.rate, burst) >> 30) as u32 + 1;
        (self.rate, self.limit) == (shown.rate, shown.limit) && off <= rounding
    }

    /// The burst of a bucket that the kernel shows: computed from the time, and therefore rounded.
    pub(in crate::kernel) fn burst(self) -> u64 {
        let shown = u128::from(self.ticks) * TICK_NS * u128::from(self.rate) / SECOND_NS;
        self.burst.map_or(shown as u64, u64::from)
    }

    /// `TCA_TBF_PARMS`, `TCA_TBF_RATE64` if the rate does not fit in 32 bits, and `TCA_TBF_BURST`. With the latter the
    /// kernel uses the size of the bucket as given; without it, it computes the size from the time, which is too coarse
    /// for a small bucket at a high rate.
    fn options(self) -> Vec<u8> {
        let mut spec = vec![0, ETHERNET];
        spec.extend([0; 6]);
        spec.extend(u32::try_from(self.rate).unwrap_or(u32::MAX).to_ne_bytes());
        // No peak rate, and therefore no largest packet for it.
        spec.extend([0; 12]);
        spec.extend([self.limit.to_ne_bytes(), self.ticks.to_ne_bytes(), [0; 4]].concat());
        let mut options = attribute(TCA_TBF_PARMS, &spec);
        if u32::try_from(self.rate).is_err() {
            options.extend(attribute(TCA_TBF_RATE64, &self.rate.to_ne_bytes()));
        }
        options.extend(self.burst.map(|burst| attribute(TCA_TBF_BURST, &burst.to_ne_bytes())).unwrap_or_default());
        options
    }

    fn read(options: &[u8]) -> Option<Self> {
        let mut found = None;
        let mut rate64 = None;
        for option in NlasIterator::new(options).map_while(Result::ok) {
            match option.kind() {
                TCA_TBF_PARMS if option.value().len() >= QOPT => {
                    let word = |at: usize| Some(u32::from_ne_bytes(option.value().get(at..at + 4)?.try_into().ok()?));
                    let (rate, limit, ticks) = (word(8)?.into(), word(24)?, word(28)?);
                    found = Some(Self { rate, ticks, limit, burst: None });
                }
                TCA_TBF_RATE64 => rate64 = Some(u64::from_ne_bytes(option.value().try_into().ok()?)),
                _ => {}
            }
        }
        found.map(|found| Self { rate: rate64.unwrap_or(found.rate), ..found })
    }
}

fn ticks(rate: u64, burst: u32) -> u64 {
    // At most 2^32 bytes at one byte per second: 2^56 ticks.
    (u128::from(burst) * SECOND_NS / u128::from(rate.max(1)) / TICK_NS) as u64
}

/// An attribute whose value is a multiple of four bytes long.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = (value.len() + 4) as u16;
    [&length.to_ne_bytes()[..], &kind.to_ne_bytes()[..], value].concat()
}

/// The bytes of an attribute that the crate does not interpret.
fn value(attribute: &DefaultNla) -> Vec<u8> {
    let mut bytes = vec![0; attribute.value_len()];
    attribute.emit_value(&mut bytes);
    bytes
}

/// A queueing discipline of an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::kernel) struct Qdisc {
    /// `tbf`, `noqueue`, …
    pub(in crate::kernel) kind: String,
    /// Zero for those that the kernel creates itself.
    pub(in crate::kernel) handle: TcHandle,
    /// The bucket of a `tbf`.
    pub(in crate::kernel) bucket: Option<Bucket>,
}

impl Qdisc {
    /// Reads the kernel's message.
    pub(in crate::kernel) fn read(message: &TcMessage) -> Self {
        let mut qdisc = Self { kind: String::new(), handle: message.header.handle, bucket: None };
        for attribute in &message.attributes {
            match attribute {
                TcAttribute::Kind(kind) => qdisc.kind.clone_from(kind),
                TcAttribute::Options(options) if qdisc.kind == TBF => {
                    qdisc.bucket = options.iter().find_map(|option| match option {
                        TcOption::Other(whole) => Bucket::read(&value(whole)),
                        _ => None,
                    });
                }
                _ => {}
            }
        }
        qdisc
    }

    /// Whether it is a token bucket that netd made.
    pub(in crate::kernel) fn ours(&self) -> bool {
        self.kind == TBF && self.handle == HANDLE
    }
}

/// A message about an interface's discipline at that parent.
fn qdisc(index: u32, parent: TcHandle, handle: TcHandle, kind: Option<&str>) -> TcMessage {
    let mut message = TcMessage::default();
    message.header = TcHeader { index: index.cast_signed(), parent, handle, ..TcHeader::default() };
    message.attributes.extend(kind.map(|kind| TcAttribute::Kind(kind.to_owned())));
    message
}

/// Requests the discipline for what the interface sends (root) or receives.
pub(in crate::kernel) fn get(index: u32, place: TcHandle) -> RouteNetlinkMessage {
    RouteNetlinkMessage::GetQueueDiscipline(qdisc(index, place, TcHandle::UNSPEC, None))
}

/// Requests the disciplines of all interfaces.
pub(in crate::kernel) fn get_all() -> RouteNetlinkMessage {
    RouteNetlinkMessage::GetQueueDiscipline(qdisc(0, TcHandle::UNSPEC, TcHandle::UNSPEC, None))
}

/// A token bucket of netd for what the interface sends.
pub(in crate::kernel) fn set_bucket(index: u32, bucket: Bucket) -> RouteNetlinkMessage {
    let mut message = qdisc(index, TcHandle::ROOT, HANDLE, Some(TBF));
    message.attributes.push(TcAttribute::Other(DefaultNla::new(TCA_OPTIONS, bucket.options())));
    RouteNetlinkMessage::NewQueueDiscipline(message)
}

/// Deletes the discipline for what the interface sends; the kernel's default takes its place.
pub(in crate::kernel) fn delete_root(index: u32) -> RouteNetlinkMessage {
    RouteNetlinkMessage::DelQueueDiscipline(qdisc(index, TcHandle::ROOT, TcHandle::UNSPEC, None))
}

/// Adds the discipline that carries filters for what the interface receives.
pub(in crate::kernel) fn add_ingress(index: u32) -> RouteNetlinkMessage {
    RouteNetlinkMessage::NewQueueDiscipline(qdisc(index, TcHandle::INGRESS, INGRESS_HANDLE, Some(INGRESS)))
}

/// Deletes that discipline, with every filter that it carries.
pub(in crate::kernel) fn delete_ingress(index: u32) -> RouteNetlinkMessage {
    RouteNetlinkMessage::DelQueueDiscipline(qdisc(index, TcHandle::INGRESS, INGRESS_HANDLE, Some(INGRESS)))
}

/// Requests all filters for what the interface receives.
pub(in crate::kernel) fn get_filters(index: u32) -> RouteNetlinkMessage {
    RouteNetlinkMessage::GetTrafficFilter(qdisc(index, INGRESS_FILTERS, TcHandle::UNSPEC, None))
}

/// Priority and protocol in the format of `tcm_info`.
fn filter_info() -> u32 {
    PRIORITY << 16 | u32::from(ETH_P_ALL.to_be())
}

/// A filter that redirects everything that the interface receives to another one, as if that one sent it. It is a `u32`
/// filter with a key that always matches, as in CNI's bandwidth plugin: `matchall` would be simpler, but not every
/// kernel has it.
pub(in crate::kernel) fn add_redirect(index: u32, to: u32) -> RouteNetlinkMessage {
    let mut parameters = TcMirror::default();
    let mut generic = TcActionGeneric::default();
    generic.action = TcActionType::Stolen;
    (parameters.generic, parameters.eaction, parameters.ifindex) = (generic, TcMirrorActionType::EgressRedir, to);
    let mut action = TcAction::default();
    let options = vec![TcActionOption::Mirror(TcActionMirrorOption::Parms(parameters))];
    action.attributes =
        vec![TcActionAttribute::Kind(TcActionMirror::KIND.to_owned()), TcActionAttribute::Options(options)];
    let mut everything = TcU32Selector::default();
    (everything.flags, everything.nkeys) = (TcU32SelectorFlags::Terminal, 1);
    everything.keys = vec![TcU32Key::default()];
    let options = [TcFilterU32Option::Selector(everything), TcFilterU32Option::Action(vec![action])];

    let mut message = qdisc(index, INGRESS_FILTERS, TcHandle::UNSPEC, Some(TcFilterU32::KIND));
    message.header.info = filter_info();
    message.attributes.push(TcAttribute::Options(options.map(TcOption::U32).into()));
    RouteNetlinkMessage::NewTrafficFilter(message)
}

/// A redirecting filter at netd's priority.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::kernel) struct Redirect {
    /// The handle of the filter.
    handle: TcHandle,
    /// Index of the target interface; 0 if it no longer exists.
    pub(in crate::kernel) to: u32,
}

impl Redirect {
    /// Reads the filter; `None` for any other filter.
    pub(in crate::kernel) fn read(message: &TcMessage) -> Option<Self> {
        let options = message.attributes.iter().find_map(|attribute| match attribute {
            TcAttribute::Options(options) if message.header.info == filter_info() => Some(options),
            _ => None,
        })?;
        let actions = options.iter().find_map(|option| match option {
            TcOption::U32(TcFilterU32Option::Action(actions)) => Some(actions),
            _ => None,
        })?;
        let options = actions.iter().flat_map(|action| &action.attributes).filter_map(|attribute| match attribute {
            TcActionAttribute::Options(options) => Some(options),
            _ => None,
        });
        let to = options.flatten().find_map(|option| match option {
            TcActionOption::Mirror(TcActionMirrorOption::Parms(parameters)) => {
                (parameters.eaction == TcMirrorActionType::EgressRedir).then_some(parameters.ifindex)
            }
            _ => None,
        })?;
        Some(Self { handle: message.header.handle, to })
    }

    /// Deletes the filter.
    pub(in crate::kernel) fn delete(self, index: u32) -> RouteNetlinkMessage {
        let mut message = qdisc(index, INGRESS_FILTERS, self.handle, Some(TcFilterU32::KIND));
        message.header.info = filter_info();
        RouteNetlinkMessage::DelTrafficFilter(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket(rate: u64, burst: u64, mtu: u32) -> Bucket {
        Bucket::new(Rate::new("ingress", Some(rate), Some(burst)).unwrap().unwrap(), mtu)
    }

    #[test]
    fn a_bucket_counts_bytes_and_holds_a_frame() {
        let plain = bucket(8_000_000, 800_000, 1500);
        assert_eq!((plain.rate, plain.burst, plain.limit), (1_000_000, Some(100_000), 125_000));
        assert_eq!(plain.ticks, 100_000_000 / 64, "0.1 s");
        assert_eq!(bucket(8_000_000, 8, 1500).burst, Some(1518));
        let most = bucket(u64::MAX, (1 << 35) - 8, 1500);
        assert_eq!((most.burst, most.limit), (Some(u32::MAX), u32::MAX));
    }

    #[test]
    fn the_kernels_rounding_is_no_difference() {
        let target = bucket(8_000_000, 800_000, 1500);
        let shown = Bucket { burst: None, ..target };
        assert!(target.is(shown));
        assert!(target.is(Bucket { ticks: shown.ticks - 1, ..shown }));
        assert!(!target.is(Bucket { ticks: shown.ticks - 2, ..shown }));
        assert!(!target.is(Bucket { limit: shown.limit + 1, ..shown }));
        assert!(!target.is(Bucket { rate: shown.rate + 1, ..shown }));
        // Filling it takes 136 years.
        let slow = bucket(8, (1 << 35) - 8, 1500);
        assert!(slow.is(Bucket { ticks: slow.ticks.wrapping_add(1 << 20), burst: None, ..slow }));
    }

    #[test]
    fn options_are_read_as_they_are_written() {
        for rate in [8_000, 8_000_000, u64::MAX] {
            let target = bucket(rate, 800_000, 1500);
            assert_eq!(Bucket::read(&target.options()), Some(Bucket { burst: None, ..target }));
        }
        assert_eq!(Bucket::read(&[]), None);
    }
}
