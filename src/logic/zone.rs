//! The DNS zone: a question and its asker to an answer, from desired state alone.

use crate::model::desired::Desired;
use crate::model::question::{Answer, Asker, RecordType};

/// What the zone under `domain` ("internal") answers the asker for `name` (without the final dot, any case).
pub fn answer(_desired: &Desired, _domain: &str, _asker: Asker, _name: &str, _kind: RecordType) -> Answer {
    Answer::Refused
}
