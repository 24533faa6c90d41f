//! Variables of a container: `$(NAME)` in command, args and values, and facts about the pod.
//!
//! Owns the expansion rules of Kubernetes. Refuses to know where the facts come from.

use std::net::IpAddr;

use crate::pod::{Container, EnvValue, FieldRef, Pod};

/// What is known of a pod only once its sandbox is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The pod's address; the host's for a pod on the host's network.
    pub pod_ip: IpAddr,
    /// The host's address.
    pub host_ip: IpAddr,
    /// The host's name.
    pub node_name: String,
}

/// What a container is started with, all references resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// The entrypoint; the image's when empty.
    pub command: Vec<String>,
    /// The arguments.
    pub args: Vec<String>,
    /// Names and values, each name once, in the order of first mention.
    pub env: Vec<(String, String)>,
}

/// Resolves a container's variables, then its command and arguments.
///
/// A value may refer to variables above it; command and arguments to all of them. A reference to anything else stays as written.
pub fn resolve(pod: &Pod, container: &Container, facts: &Facts) -> Resolved {
    let mut env: Vec<(String, String)> = Vec::with_capacity(container.env.len());
    for variable in &container.env {
        let value = match &variable.value {
            EnvValue::Value(text) => expand(text, |name| lookup(&env, name)),
            EnvValue::ValueFrom(field) => field_value(pod, field, facts),
        };
        match env.iter_mut().find(|(name, _)| *name == variable.name) {
            Some((_, earlier)) => *earlier = value,
            None => env.push((variable.name.clone(), value)),
        }
    }
    let all = |texts: &[String]| {
        texts
            .iter()
            .map(|text| expand(text, |name| lookup(&env, name)))
            .collect()
    };
    let (command, args) = (all(&container.command), all(&container.args));
    Resolved { command, args, env }
}

fn lookup<'e>(env: &'e [(String, String)], name: &str) -> Option<&'e str> {
    env.iter()
        .find(|(known, _)| known == name)
        .map(|(_, value)| value.as_str())
}

/// The value of a field reference. A label or annotation that is not there is empty, as in Kubernetes; the manifest reader warns.
fn field_value(pod: &Pod, field: &FieldRef, facts: &Facts) -> String {
    let metadata = &pod.metadata;
    match field {
        FieldRef::Name => metadata.name.clone(),
        FieldRef::Namespace => metadata.namespace.clone(),
        FieldRef::Uid => metadata.uid.to_string(),
        FieldRef::Label(key) => metadata.labels.get(key).cloned().unwrap_or_default(),
        FieldRef::Annotation(key) => metadata.annotations.get(key).cloned().unwrap_or_default(),
        FieldRef::NodeName => facts.node_name.clone(),
        FieldRef::PodIp => facts.pod_ip.to_string(),
        FieldRef::HostIp => facts.host_ip.to_string(),
    }
}

/// Replaces `$(NAME)` by the variable's value.
///
/// `$$` is a literal `$`, so `$$(NAME)` is `$(NAME)`. A reference to an unknown name, and a `$` before anything else, stay as
/// written. Values are not expanded again.
pub fn expand<'v>(text: &str, lookup: impl Fn(&str) -> Option<&'v str>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(dollar) = rest.find('$') {
        out.push_str(&rest[..dollar]);
        rest = &rest[dollar + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) = rest
            .strip_prefix('(')
            .and_then(|inner| inner.split_once(')'))
        {
            match lookup(name) {
                Some(value) => out.push_str(value),
                None => {
                    out.push_str("$(");
                    out.push_str(name);
                    out.push(')');
                }
            }
            rest = after;
        } else {
            out.push('$');
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn known(name: &str) -> Option<&'static str> {
        match name {
            "A" => Some("1"),
            "EMPTY" => Some(""),
            "REF" => Some("$(A)"),
            _ => None,
        }
    }

    #[test]
    fn references_are_replaced_and_everything_else_stays() {
        for (text, expanded) in [
            ("", ""),
            ("$(A)", "1"),
            ("x$(A)y$(A)z", "x1y1z"),
            ("$(EMPTY)", ""),
            ("$(NOPE)", "$(NOPE)"),
            ("$$(A)", "$(A)"),
            ("$$$(A)", "$1"),
            ("$$$$(A)", "$$(A)"),
            ("$$", "$"),
            ("$", "$"),
            ("$A", "$A"),
            ("$(A", "$(A"),
            ("$()", "$()"),
            ("$($(A))", "$($(A))"),
            ("$(REF)", "$(A)"),
            ("ä$(A)ö", "ä1ö"),
        ] {
            assert_eq!(expand(text, known), expanded, "{text}");
        }
    }

    proptest! {
        #[test]
        fn text_without_a_dollar_is_unchanged(text in "[^$]*") {
            prop_assert_eq!(expand(&text, known), text);
        }

        #[test]
        fn doubled_dollars_protect_any_text(text in "[$()A-C]{0,30}") {
            prop_assert_eq!(expand(&text.replace('$', "$$"), known), text);
        }
    }
}
