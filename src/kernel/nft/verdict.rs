//! Netlink representation of the data of verdict maps (`NFTA_DATA_VERDICT`, linux/netfilter/nf_tables.h).

use netlink_packet_core::{DefaultNla, Emitable as _};

use crate::kernel::netlink::netfilter::{attributes, text};
use crate::model::host::element::{Verdict, VerdictCode};

/// `NFTA_VERDICT_CODE`, `NFTA_VERDICT_CHAIN`.
const CODE: u16 = 1;
const CHAIN: u16 = 2;
/// `NF_ACCEPT` (linux/netfilter.h), `NFT_JUMP`, `NFT_GOTO`, `NFT_RETURN`.
const ACCEPT: i32 = 1;
const JUMP: i32 = -3;
const GOTO: i32 = -4;
const RETURN: i32 = -5;

/// The attributes of a verdict.
pub(super) fn encode(verdict: Verdict) -> Vec<u8> {
    let (code, chain) = parts(verdict);
    let mut attributes = vec![DefaultNla::new(CODE, code.to_be_bytes().to_vec())];
    attributes.extend(chain.map(|chain| DefaultNla::new(CHAIN, [chain.as_bytes(), &[0]].concat())));
    let mut bytes = vec![0; attributes.as_slice().buffer_len()];
    attributes.as_slice().emit(&mut bytes);
    bytes
}

/// The verdict, if it is one of netd's.
pub(super) fn decode(verdict: &[u8]) -> Option<Verdict> {
    let of = |wanted| attributes(verdict).find(|(kind, _)| *kind == wanted).map(|(_, value)| value);
    let code = i32::from_be_bytes(*of(CODE)?.first_chunk()?);
    let chain = of(CHAIN).map(text);
    Verdict::ALL.into_iter().find(|known| {
        let (known_code, known_chain) = parts(*known);
        known_code == code && known_chain == chain
    })
}

fn parts(verdict: Verdict) -> (i32, Option<&'static str>) {
    match verdict.code() {
        VerdictCode::Accept => (ACCEPT, None),
        VerdictCode::Return => (RETURN, None),
        VerdictCode::Goto(chain) => (GOTO, Some(chain)),
        VerdictCode::Jump(chain) => (JUMP, Some(chain)),
    }
}
