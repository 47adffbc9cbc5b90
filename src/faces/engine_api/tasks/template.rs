//! Placeholders in a task's definition: `{{.Service.Name}}`, `{{.Task.Slot}}` and the like (swarmkit, template/context.go).

use std::collections::BTreeMap;

use crate::model::service::Service;

/// What placeholders stand for.
pub(in crate::faces::engine_api) struct Context(BTreeMap<&'static str, String>);

/// What a placeholder may be.
const KNOWN: &str = ".Service.ID, .Service.Name, .Node.ID, .Node.Hostname, .Node.Platform.OS, .Node.Platform.Architecture, \
                     .Task.ID, .Task.Name or .Task.Slot";

/// The node, as placeholders name it.
#[derive(Debug, Clone, Default)]
pub(in crate::faces::engine_api) struct Node {
    pub(in crate::faces::engine_api) id: String,
    pub(in crate::faces::engine_api) name: String,
    pub(in crate::faces::engine_api) architecture: String,
}

impl Context {
    /// For a task, with its id, name and slot.
    pub(super) fn new(service: &Service, node: &Node, task: &super::task::Made) -> Self {
        let slot = if task.slot == 0 { String::new() } else { task.slot.to_string() };
        Self(BTreeMap::from([
            (".Service.ID", service.id.to_string()),
            (".Service.Name", service.name.to_string()),
            (".Node.ID", node.id.clone()),
            (".Node.Hostname", node.name.clone()),
            (".Node.Platform.OS", "linux".to_owned()),
            (".Node.Platform.Architecture", node.architecture.clone()),
            (".Task.ID", task.id.clone()),
            (".Task.Name", task.name.clone()),
            (".Task.Slot", slot),
        ]))
    }

    /// Any, to look whether placeholders are known.
    pub(in crate::faces::engine_api) fn any() -> Self {
        let keys = KNOWN.split([',', ' ']).filter(|word| word.starts_with('.'));
        Self(keys.map(|key| (key, "x".to_owned())).collect())
    }

    /// The text with what its placeholders stand for; the error names one that is not known.
    pub(in crate::faces::engine_api) fn expand(&self, text: &str) -> Result<String, String> {
        let mut expanded = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{{") {
            let wrong = |what: &str| format!("netd does not know the placeholder {{{{{what}}}}}: use {KNOWN}");
            let (inner, after) = after.split_once("}}").ok_or_else(|| wrong(after))?;
            let trimmed = inner.trim_matches(|c: char| c == '-' || c.is_whitespace());
            expanded.push_str(before);
            expanded.push_str(self.0.get(trimmed).ok_or_else(|| wrong(inner))?);
            rest = after;
        }
        expanded.push_str(rest);
        Ok(expanded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_replaced_or_named() {
        let context = Context(BTreeMap::from([(".Task.Slot", "3".to_owned()), (".Service.Name", "web".to_owned())]));
        assert_eq!(context.expand("{{.Service.Name}}-{{ .Task.Slot }}.x"), Ok("web-3.x".into()));
        assert_eq!(context.expand("plain"), Ok("plain".into()));
        assert!(context.expand("{{.Nope}}").unwrap_err().contains("{{.Nope}}"));
        assert!(context.expand("{{.Task.Slot").is_err());
        assert_eq!(Context::any().expand("{{.Node.Platform.OS}}{{.Task.Slot}}"), Ok("xx".into()));
    }
}
