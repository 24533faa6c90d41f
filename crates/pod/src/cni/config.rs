//! A network as its administrator describes it: the files in `/etc/cni/net.d`, their versions and plugins. Pure.
//!
//! A file holds a list of plugins (`.conflist`), or one plugin by itself (`.conf`, `.json`); which of them is told by what is in it. What a
//! plugin's own keys mean is the plugin's to know: they are kept as they are. `disableCheck` and `disableGC` change nothing, since berth calls
//! neither `CHECK` nor `GC`.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::Deserialize;
use serde_json::{Map, Value};

/// The largest configuration that is read, in bytes. Real ones have one or two kilobytes.
pub const MAX_CONFIG: usize = 1 << 20;

/// The most plugins in one network: each is a program that runs for each pod.
const MAX_PLUGINS: usize = 64;

/// The longest name of a network or of a plugin, in bytes. With a sandbox's ID it has to fit into the name of a file.
const MAX_NAME: usize = 128;

/// A version of the CNI specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(u16, u16, u16);

impl Version {
    /// The first in which plugins form a chain and results list addresses.
    pub const OLDEST: Self = Self(0, 3, 0);
    /// The first that gives `DEL` the result of `ADD`.
    pub const RESULT_FOR_DEL: Self = Self(0, 4, 0);
    /// The newest that berth speaks.
    pub const NEWEST: Self = Self(1, 1, 0);
}

impl FromStr for Version {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut parts = text.split('.').map(|part| {
            let digits = part.bytes().all(|byte| byte.is_ascii_digit());
            part.parse().ok().filter(|_| digits).ok_or(())
        });
        // `1` and `1.0` are taken as 1.0.0, as the reference implementation does.
        let first = parts.next().ok_or(())??;
        let second = parts.next().unwrap_or(Ok(0))?;
        let third = parts.next().unwrap_or(Ok(0))?;
        parts.next().is_none().then_some(()).ok_or(())?;
        Ok(Self(first, second, third))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

/// What is wrong with a configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It is no JSON, or a key has a value of another type. The message has line and column.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    /// It breaks a rule of the specification.
    #[error("{0}")]
    Rule(String),
}

fn rule<T>(text: impl Into<String>) -> Result<T, ConfigError> {
    Err(ConfigError::Rule(text.into()))
}

/// One plugin of a network.
#[derive(Debug, Clone, PartialEq)]
pub struct Plugin {
    kind: String,
    capabilities: BTreeSet<String>,
    config: Map<String, Value>,
}

impl Plugin {
    /// Reads the configuration of one plugin.
    ///
    /// # Errors
    /// When it is no JSON object, or has no usable `type`.
    pub fn parse(bytes: &[u8]) -> Result<Self, ConfigError> {
        bounded(bytes)?;
        Self::of(serde_json::from_slice(bytes)?)
    }

    fn of(config: Map<String, Value>) -> Result<Self, ConfigError> {
        let kind = match config.get("type") {
            Some(Value::String(kind)) => kind.clone(),
            Some(_) => return rule("the type of a plugin is not a text"),
            None => return rule("a plugin has no type"),
        };
        // It becomes the name of a program in a directory of plugins, and must not lead out of it.
        let fine = |byte: u8| byte.is_ascii_graphic() && !b"/\\\"'".contains(&byte);
        if !(1..=MAX_NAME).contains(&kind.len()) || !kind.bytes().all(fine) || kind.starts_with('.')
        {
            return rule(format!(
                "{:?} cannot be the type of a plugin: it has to be the name of a program",
                kind.chars().take(MAX_NAME).collect::<String>()
            ));
        }
        let mut capabilities = BTreeSet::new();
        match config.get("capabilities") {
            None | Some(Value::Null) => {}
            Some(Value::Object(map)) => {
                for (name, wanted) in map {
                    match wanted {
                        Value::Bool(true) => _ = capabilities.insert(name.clone()),
                        Value::Bool(false) => {}
                        _ => {
                            return rule(format!(
                                "plugin {kind:?}: the capability {name:?} is neither true nor false"
                            ));
                        }
                    }
                }
            }
            Some(_) => return rule(format!("plugin {kind:?}: capabilities is not an object")),
        }
        Ok(Self {
            kind,
            capabilities,
            config,
        })
    }

    /// Its `type`: the name of its program.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// What it wants to be told for each pod.
    pub fn capabilities(&self) -> &BTreeSet<String> {
        &self.capabilities
    }

    /// Its configuration, as it was written.
    pub fn config(&self) -> &Map<String, Value> {
        &self.config
    }
}

/// A network: a chain of plugins.
#[derive(Debug, Clone, PartialEq)]
pub struct Network {
    name: String,
    /// Those of the configuration that berth speaks, newest first; never empty.
    versions: Vec<Version>,
    plugins: Vec<Plugin>,
    only_inlined: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    name: Option<String>,
    cni_version: Option<String>,
    cni_versions: Option<Vec<String>>,
    load_only_inlined_plugins: Option<Value>,
    plugins: Option<Vec<Map<String, Value>>>,
    r#type: Option<Value>,
}

impl Network {
    /// Reads a configuration, of a list of plugins or of one. A list without plugins is fine if they may come from elsewhere
    /// ([`Self::may_have_more`]).
    ///
    /// # Errors
    /// When it is no JSON or breaks a rule of the specification, or when berth speaks none of its versions.
    pub fn parse(bytes: &[u8]) -> Result<Self, ConfigError> {
        bounded(bytes)?;
        // An object first of all: serde would take a list of the fields, too.
        let config: Map<String, Value> = serde_json::from_slice(bytes)?;
        let raw: Raw = serde_json::from_slice(bytes)?;
        let Some(name) = raw.name else {
            return rule("the network has no name");
        };
        let fine = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
        if !(1..=MAX_NAME).contains(&name.len())
            || !name.bytes().all(fine)
            || !name.starts_with(|first: char| first.is_ascii_alphanumeric())
        {
            return rule(format!(
                "{:?} cannot be the name of a network: it has to be 1 to {MAX_NAME} letters, digits, `_`, `.` and `-`, first a letter or digit",
                name.chars().take(MAX_NAME).collect::<String>()
            ));
        }
        let only_inlined = match raw.load_only_inlined_plugins {
            None | Some(Value::Null) => false,
            Some(Value::Bool(only)) => only,
            // The reference implementation takes texts too.
            Some(Value::String(text)) if text.eq_ignore_ascii_case("true") => true,
            Some(Value::String(text)) if text.eq_ignore_ascii_case("false") => false,
            Some(_) => return rule("loadOnlyInlinedPlugins is neither true nor false"),
        };
        let (plugins, only_inlined) = match (raw.plugins, raw.r#type) {
            (Some(plugins), _) => (plugins, only_inlined),
            (None, Some(_)) => (vec![config], true),
            (None, None) => (Vec::new(), only_inlined),
        };
        let plugins: Vec<Plugin> = plugins
            .into_iter()
            .map(Plugin::of)
            .collect::<Result<_, _>>()?;
        if plugins.is_empty() && only_inlined {
            return rule("the network has no plugins");
        }
        let mut network = Self {
            name,
            versions: versions(raw.cni_version, raw.cni_versions)?,
            plugins: Vec::new(),
            only_inlined,
        };
        network.append(plugins)?;
        Ok(network)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The version to speak: the newest of those that are left.
    pub fn version(&self) -> Version {
        self.versions.first().copied().unwrap_or(Version::NEWEST)
    }

    /// Its plugins, in the order in which they add to a pod.
    pub fn plugins(&self) -> &[Plugin] {
        &self.plugins
    }

    /// Whether plugins may be added to it from a directory of its name, beside its file.
    pub fn may_have_more(&self) -> bool {
        !self.only_inlined
    }

    /// Adds plugins behind those it has.
    ///
    /// # Errors
    /// When they are too many.
    pub fn append(&mut self, plugins: Vec<Plugin>) -> Result<(), ConfigError> {
        self.plugins.extend(plugins);
        if self.plugins.len() > MAX_PLUGINS {
            return rule(format!(
                "the network has {} plugins; at most {MAX_PLUGINS} are run for a pod",
                self.plugins.len()
            ));
        }
        Ok(())
    }

    /// Keeps only the versions that `spoken` has too. False, and nothing has changed, if none would be left.
    pub fn keep_versions(&mut self, spoken: &[Version]) -> bool {
        let kept: Vec<Version> = self
            .versions
            .iter()
            .copied()
            .filter(|version| spoken.contains(version))
            .collect();
        let any = !kept.is_empty();
        if any {
            self.versions = kept;
        }
        any
    }

    /// The network as one configuration, with its plugins inlined and its version decided: reads as the same network again.
    pub fn to_json(&self) -> Value {
        let plugins: Vec<&Map<String, Value>> =
            self.plugins.iter().map(|plugin| &plugin.config).collect();
        serde_json::json!({
            "cniVersion": self.version().to_string(),
            "name": self.name,
            "loadOnlyInlinedPlugins": true,
            "plugins": plugins,
        })
    }
}

fn bounded(bytes: &[u8]) -> Result<(), ConfigError> {
    if bytes.len() > MAX_CONFIG {
        return rule(format!("it is longer than {MAX_CONFIG} bytes"));
    }
    Ok(())
}

fn versions(one: Option<String>, many: Option<Vec<String>>) -> Result<Vec<Version>, ConfigError> {
    let given: Vec<String> = many.into_iter().flatten().chain(one).collect();
    if given.is_empty() {
        return rule(format!(
            "cniVersion is missing; set it to what the plugins speak, of {} to {}",
            Version::OLDEST,
            Version::NEWEST
        ));
    }
    let mut versions = Vec::new();
    for text in &given {
        let Ok(version) = text.parse::<Version>() else {
            let text: String = text.chars().take(MAX_NAME).collect();
            return rule(format!(
                "cniVersion {text:?} is not a version such as 1.0.0"
            ));
        };
        if (Version::OLDEST..=Version::NEWEST).contains(&version) {
            versions.push(version);
        }
    }
    if versions.is_empty() {
        let given: Vec<String> = given.into_iter().take(8).collect();
        return rule(format!(
            "cniVersion is {}; berth speaks {} to {}",
            given.join(", "),
            Version::OLDEST,
            Version::NEWEST
        ));
    }
    versions.sort_unstable_by(|one, other| other.cmp(one));
    versions.dedup();
    Ok(versions)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(text: &str) -> String {
        Network::parse(text.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn a_list_is_read_and_reads_the_same_when_written() {
        let network = Network::parse(
            br#"{
                "cniVersion": "0.4.0", "cniVersions": ["0.3.1", "1.0.0", "1.7.0"], "name": "dbnet",
                "disableCheck": true, "disableGC": "yes",
                "plugins": [
                    {"type": "bridge", "bridge": "cni0", "mtu": 1400, "ipam": {"type": "host-local"}},
                    {"type": "portmap", "capabilities": {"portMappings": true, "mac": false}}
                ]
            }"#,
        )
        .unwrap();
        assert_eq!(network.name(), "dbnet");
        assert_eq!(network.version().to_string(), "1.0.0");
        let kinds: Vec<&str> = network.plugins().iter().map(Plugin::kind).collect();
        assert_eq!(kinds, ["bridge", "portmap"]);
        let wanted: Vec<&String> = network.plugins()[1].capabilities().iter().collect();
        assert_eq!(wanted, ["portMappings"]);
        assert_eq!(network.plugins()[0].config()["mtu"], 1400);

        let again = Network::parse(network.to_json().to_string().as_bytes()).unwrap();
        assert_eq!(again.plugins(), network.plugins());
        assert_eq!(again.version(), network.version());
        assert!(!again.may_have_more());
    }

    #[test]
    fn one_plugin_by_itself_is_a_network_whatever_the_file_is_called() {
        let network = Network::parse(
            br#"{"cniVersion": "0.3.1", "name": "lone", "type": "ptp", "ipam": {}}"#,
        )
        .unwrap();
        assert_eq!(network.plugins().len(), 1);
        assert_eq!(network.plugins()[0].kind(), "ptp");
        assert!(!network.may_have_more());
    }

    #[test]
    fn plugins_may_come_from_beside_the_file_unless_that_is_ruled_out() {
        let mut network = Network::parse(br#"{"cniVersion": "1.1.0", "name": "n"}"#).unwrap();
        assert!(network.may_have_more() && network.plugins().is_empty());
        let plugin = Plugin::parse(br#"{"type": "tuning"}"#).unwrap();
        network.append(vec![plugin.clone()]).unwrap();
        assert_eq!(network.plugins(), std::slice::from_ref(&plugin));
        assert!(network.append(vec![plugin; MAX_PLUGINS]).is_err());
        assert_eq!(
            problem(r#"{"cniVersion": "1.1.0", "name": "n", "loadOnlyInlinedPlugins": "True"}"#),
            "the network has no plugins"
        );
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        assert_eq!(
            problem("{\n  \"name\": \"n\"\n  \"plugins\": []\n}"),
            "expected `,` or `}` at line 3 column 3"
        );
        assert!(problem(r#"{"name": 7}"#).ends_with("expected a string at line 1 column 10"));
        assert!(problem(r#"{"name": "n", "plugins": {}}"#).contains("line 1 column"));
        assert_eq!(problem("{}"), "the network has no name");
        assert!(problem("").contains("EOF"));
        assert!(problem("[]").contains("expected a map at line 1"));
        assert!(problem(&format!("{{\"name\":{}", "[".repeat(1000))).contains("line 1"));
        assert!(problem(r#"{"name": "../up"}"#).contains("cannot be the name"));
        assert!(problem(r#"{"name": "n"}"#).starts_with("cniVersion is missing"));
        let versioned = |rest: &str| format!(r#"{{"name": "n", "cniVersion": "1.0.0", {rest}}}"#);
        for (rest, words) in [
            (r#""plugins": [{}]"#, "a plugin has no type"),
            (r#""plugins": [{"type": 1}]"#, "not a text"),
            (r#""plugins": [{"type": "../sh"}]"#, "cannot be the type"),
            (r#""plugins": [{"type": ""}]"#, "cannot be the type"),
            (
                r#""plugins": [{"type": "a", "capabilities": []}]"#,
                "not an object",
            ),
            (
                r#""plugins": [{"type": "a", "capabilities": {"x": 1}}]"#,
                "neither",
            ),
            (
                r#""type": "a", "name": "again""#,
                "duplicate field `name` at line 1",
            ),
        ] {
            assert!(problem(&versioned(rest)).contains(words), "{rest}");
        }
        let long = format!("{{\"name\": \"{}\"}}", "a".repeat(MAX_CONFIG));
        assert_eq!(problem(&long), "it is longer than 1048576 bytes");
    }

    #[test]
    fn versions_that_berth_does_not_speak_are_named() {
        let with = |version: &str| {
            problem(&format!(
                r#"{{"name": "n", "type": "a", "cniVersion": "{version}"}}"#
            ))
        };
        assert_eq!(
            with("0.2.0"),
            "cniVersion is 0.2.0; berth speaks 0.3.0 to 1.1.0"
        );
        assert_eq!(
            with("1.2.0"),
            "cniVersion is 1.2.0; berth speaks 0.3.0 to 1.1.0"
        );
        for text in ["", "x", "1.0.0.0", "1..0", "+1.0.0", "1.99999.0"] {
            assert!(with(text).contains("is not a version"), "{text}");
        }
    }

    #[test]
    fn the_newest_version_that_all_speak_is_chosen() {
        let mut network = Network::parse(
            br#"{"name": "n", "type": "a", "cniVersions": ["0.4.0", "1.1.0", "1.0.0"]}"#,
        )
        .unwrap();
        let versions = |texts: &[&str]| -> Vec<Version> {
            texts.iter().map(|text| text.parse().unwrap()).collect()
        };
        assert_eq!(network.version().to_string(), "1.1.0");
        assert!(!network.keep_versions(&versions(&["0.3.1"])));
        assert!(network.keep_versions(&versions(&["0.3.1", "0.4.0", "1.0.0"])));
        assert_eq!(network.version().to_string(), "1.0.0");
    }
}
