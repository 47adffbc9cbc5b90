//! What a container may send: the keys `egress` and `egressAllow` of the configuration, of its `args`, and a pod's
//! annotations `netd.egress` and `netd.egress-allow`. A deny of one of them is one, and what one allows is allowed.

use super::fields::Fields;
use super::labels::ANNOTATIONS;
use crate::faces::cni::failure::Failure;
use crate::model::Invalid;
use crate::model::egress::{Allowance, Stance};

/// The stance, if anybody has one, and the allowances.
pub(super) type Said = (Option<Stance>, Vec<Allowance>);

/// What is said about egress.
pub(super) fn egress(root: &Fields<'_>, runtime: Option<&Fields<'_>>) -> Result<Said, Failure> {
    let mut said = Said::default();
    add(&mut said, root, ["egress", "egressAllow"])?;
    if let Some(args) = root.object("args")? {
        add(&mut said, &args, ["egress", "egressAllow"])?;
        if let Some(cni) = args.object("cni")? {
            add(&mut said, &cni, ["egress", "egressAllow"])?;
        }
    }
    let annotations = runtime.map(|runtime| runtime.object(ANNOTATIONS)).transpose()?.flatten();
    if let Some(annotations) = annotations {
        add(&mut said, &annotations, ["netd.egress", "netd.egress-allow"])?;
    }
    Ok(said)
}

fn add((stance, allow): &mut Said, fields: &Fields<'_>, [key, list]: [&str; 2]) -> Result<(), Failure> {
    let wrong = |invalid: Invalid| fields.wrong(list, format!("{:?}: {}", invalid.value, invalid.why));
    let texts = fields.text_or_texts(list)?;
    let texts = texts.iter().flat_map(|text| text.split(',')).map(str::trim).filter(|text| !text.is_empty());
    let found: Vec<Allowance> = texts.map(str::parse).collect::<Result<_, _>>().map_err(wrong)?;
    let said = fields.parse::<Stance>(key)?.or((!found.is_empty()).then_some(Stance::Deny));
    *stance = (*stance).max(said);
    allow.extend(found);
    Ok(())
}
