//! Settings that may be given as a field of the request and as an option, but not differently as both.

use std::fmt;

use crate::api::v1::parse;
use crate::model::Invalid;
use crate::model::egress::{Allowance, Egress, Stance};
use crate::model::upstream::Upstream;

/// Name servers, given as a field or as an option, but not differently as both.
pub(super) fn servers(field: Vec<Upstream>, option: Option<Vec<Upstream>>) -> Result<Vec<Upstream>, Invalid> {
    let field = parse::upstreams(field)?;
    match option {
        Some(option) if !field.is_empty() && field != option => {
            Err(Invalid::new("option", "dns.servers", "the field dns gives other name servers"))
        }
        Some(option) => Ok(option),
        None => Ok(field),
    }
}

/// What was given as fields and as options, together.
pub(super) fn egress(
    stance: Option<Stance>,
    mut allow: Vec<Allowance>,
    (option, more): (Option<Stance>, Vec<Allowance>),
) -> Result<Egress, Invalid> {
    allow.extend(more);
    parse::egress(once("egress", stance, option)?, allow)
}

/// A setting that may be given as a field and as an option, but not with two values.
pub(super) fn once<T: PartialEq + fmt::Display>(
    key: &str,
    field: Option<T>,
    option: Option<T>,
) -> Result<Option<T>, Invalid> {
    match (field, option) {
        (Some(field), Some(option)) if field != option => {
            Err(Invalid::new("option", format!("{key}={option}"), format!("{key} is also given as {field}")))
        }
        (field, option) => Ok(field.or(option)),
    }
}
