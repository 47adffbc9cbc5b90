//! The labels of a container, which decide of which services it is a member: those of the configuration, those in its
//! `args`, and those that a pod's annotations give. Of several values of one label the last in this order counts.

use std::collections::BTreeMap;

use serde_json::Value;

use super::fields::Fields;
use crate::faces::cni::failure::Failure;

/// Under this key containerd and CRI-O send a pod's annotations to a plugin that has this capability. Neither sends a
/// pod's labels.
pub(super) const ANNOTATIONS: &str = "io.kubernetes.cri.pod-annotations";
/// The annotation that gives labels: `LABEL=VALUE`, joined by commas.
const ANNOTATION: &str = "netd.label";

/// The labels.
pub(super) fn labels(root: &Fields<'_>, runtime: Option<&Fields<'_>>) -> Result<BTreeMap<String, String>, Failure> {
    let mut labels = listed(root)?;
    if let Some(args) = root.object("args")? {
        labels.extend(listed(&args)?);
        if let Some(cni) = args.object("cni")? {
            labels.extend(listed(&cni)?);
        }
    }
    let annotations = runtime.map(|runtime| runtime.object(ANNOTATIONS)).transpose()?.flatten();
    if let Some(annotations) = annotations
        && let Some(text) = annotations.text(ANNOTATION)?
    {
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let pair = part.split_once('=').filter(|(key, _)| !key.is_empty());
            let (key, value) =
                pair.ok_or_else(|| annotations.wrong(ANNOTATION, "use LABEL=VALUE, joined by commas"))?;
            labels.insert(key.to_owned(), value.to_owned());
        }
    }
    Ok(labels)
}

/// The key `labels`: a list of `{"key", "value"}` (CNI's CONVENTIONS.md), or an object.
fn listed(fields: &Fields<'_>) -> Result<BTreeMap<String, String>, Failure> {
    match fields.get("labels") {
        Some(Value::Object(map)) => {
            let wrong = || fields.wrong("labels", "the value of a label is a string");
            let pairs = map.iter().filter(|(_, value)| !value.is_null());
            let pair = |(key, value): (&String, &Value)| Some((key.clone(), value.as_str()?.to_owned()));
            pairs.map(|one| pair(one).ok_or_else(wrong)).collect()
        }
        _ => {
            let pair = |label: Fields<'_>| {
                let key = label.text("key")?.ok_or_else(|| label.wrong("key", "a label needs a key"))?;
                Ok((key.to_owned(), label.text("value")?.unwrap_or_default().to_owned()))
            };
            fields.objects("labels")?.into_iter().map(pair).collect()
        }
    }
}
