//! Owns the docker command's `config.json` as it is read: JSON as Go reads it (the case of field names does not matter, `null` is nothing),
//! and errors that name a line and a column but repeat nothing of the file, because it holds passwords.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::de::{DeserializeOwned, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::config_error::ConfigError;
use crate::environment::{Environment, read_file};

/// A struct that is read from JSON as Go's `encoding/json` does: field names in any case, the last of several wins, unknown ones and `null`
/// are passed over. It has no `Debug`, as secrets are read by it.
macro_rules! from_go_json {
    ($(#[$meta:meta])* $vis:vis struct $name:ident { $($(#[$field_meta:meta])* $field_vis:vis $field:ident: $type:ty = $key:literal,)* }) => {
        $(#[$meta])*
        #[derive(Default)]
        $vis struct $name { $($(#[$field_meta])* $field_vis $field: $type,)* }

        impl<'de> ::serde::Deserialize<'de> for $name {
            fn deserialize<D: ::serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Fields;
                impl<'de> ::serde::de::Visitor<'de> for Fields {
                    type Value = $name;
                    fn expecting(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                        f.write_str("an object")
                    }
                    fn visit_map<A: ::serde::de::MapAccess<'de>>(self, mut map: A) -> Result<$name, A::Error> {
                        let mut read = $name::default();
                        while let Some(key) = map.next_key::<String>()? {
                            match key.to_ascii_lowercase().as_str() {
                                $($key => read.$field = map.next_value::<Option<$type>>()?.unwrap_or_default(),)*
                                _ => { map.next_value::<::serde::de::IgnoredAny>()?; }
                            }
                        }
                        Ok(read)
                    }
                }
                deserializer.deserialize_map(Fields)
            }
        }
    };
}
pub(crate) use from_go_json;

from_go_json! {
    /// What is read of `config.json`.
    pub(crate) struct ConfigFile {
        pub(crate) auths: Entries<AuthEntry> = "auths",
        /// The credential helper of all registries that have no other; may be empty.
        pub(crate) creds_store: String = "credsstore",
        /// Registry → credential helper. An empty helper keeps the store away from the registry.
        pub(crate) cred_helpers: Entries<String> = "credhelpers",
        pub(crate) headers: Entries<String> = "httpheaders",
        pub(crate) current_context: String = "currentcontext",
    }
}

from_go_json! {
    /// What is stored for one registry.
    #[derive(Clone)]
    pub(crate) struct AuthEntry {
        /// Base64 of `user:password`; goes before the two fields below.
        pub(crate) auth: String = "auth",
        pub(crate) username: String = "username",
        pub(crate) password: String = "password",
        pub(crate) identity_token: String = "identitytoken",
        pub(crate) registry_token: String = "registrytoken",
    }
}

/// A JSON object as a map; a value that is `null` is the default one.
pub(crate) struct Entries<T>(pub(crate) BTreeMap<String, T>);

impl<T> Default for Entries<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<'de, T: Deserialize<'de> + Default> Deserialize<'de> for Entries<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let read: BTreeMap<String, Option<T>> = BTreeMap::deserialize(deserializer)?;
        Ok(Self(
            read.into_iter()
                .map(|(key, value)| (key, value.unwrap_or_default()))
                .collect(),
        ))
    }
}

/// The names of a JSON object, without their values.
#[derive(Default)]
pub(crate) struct Names(pub(crate) Vec<String>);

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Keys;
        impl<'de> Visitor<'de> for Keys {
            type Value = Names;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Names, A::Error> {
                let mut names = Vec::new();
                while let Some((name, IgnoredAny)) = map.next_entry()? {
                    names.push(name);
                }
                Ok(Names(names))
            }
        }
        deserializer.deserialize_map(Keys)
    }
}

impl ConfigFile {
    /// Where the file is in `environment`, if it has a place.
    pub(crate) fn path(environment: &Environment) -> Option<PathBuf> {
        Some(environment.config_dir()?.join("config.json"))
    }

    /// Reads the file; one that is absent or empty says nothing.
    pub(crate) fn load(environment: &Environment) -> Result<Self, ConfigError> {
        match Self::path(environment) {
            None => Ok(Self::default()),
            Some(path) => match read_file(&path)? {
                None => Ok(Self::default()),
                Some(bytes) => read_json_file(&path, &bytes),
            },
        }
    }
}

/// Where JSON is broken, and how, in words that repeat none of it.
pub(crate) struct JsonFault {
    pub(crate) line: usize,
    pub(crate) column: usize,
    pub(crate) rule: String,
}

/// Reads JSON; nothing but white space, and `null`, are the default value.
pub(crate) fn read_json<T: DeserializeOwned + Default>(bytes: &[u8]) -> Result<T, JsonFault> {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(T::default());
    }
    match serde_json::from_slice::<Option<T>>(bytes) {
        Ok(read) => Ok(read.unwrap_or_default()),
        Err(error) => Err(JsonFault {
            line: error.line(),
            column: error.column(),
            rule: rule_of(&error),
        }),
    }
}

/// As [`read_json`], for the contents of `path`.
pub(crate) fn read_json_file<T: DeserializeOwned + Default>(
    path: &Path,
    bytes: &[u8],
) -> Result<T, ConfigError> {
    read_json(bytes).map_err(|JsonFault { line, column, rule }| ConfigError::File {
        path: path.to_owned(),
        position: Some((line, column)),
        rule,
        hint: None,
    })
}

/// What `error` says without the value it is about: in `invalid type: string "…", expected a map`, what is behind the last comma.
fn rule_of(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let text = text
        .rsplit_once(" at line ")
        .map_or(text.as_str(), |(text, _)| text);
    match text.rsplit_once(", expected ") {
        Some((_, expected)) if error.is_data() => format!("expected {expected}"),
        _ if error.is_data() => "a value of the wrong type".to_owned(),
        _ => format!("is not JSON: {text}"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Result<ConfigFile, (usize, usize, String)> {
        read_json(text.as_bytes()).map_err(|fault| (fault.line, fault.column, fault.rule))
    }

    fn fault(text: &str) -> (usize, usize, String) {
        read(text).err().unwrap_or_else(|| panic!("{text} is read"))
    }

    #[test]
    fn field_names_match_in_any_case_and_null_is_nothing() {
        let file = read(r#"{"AUTHS":{"r":{"Auth":"x","IdentityToken":"t","email":null},"q":null},"httpHeaders":{"A":"b"},"credsStore":null}"#)
            .unwrap_or_default();
        assert_eq!(file.auths.0["r"].auth, "x");
        assert_eq!(file.auths.0["r"].identity_token, "t");
        assert_eq!(file.auths.0["q"].auth, "");
        assert_eq!(file.headers.0["A"], "b");
        assert_eq!(file.creds_store, "");
    }

    #[test]
    fn fields_of_no_interest_may_have_any_shape() {
        assert_eq!(
            read(r#"{"plugins":[1,{"a":2}],"currentContext":"c","proxies":7}"#)
                .map(|file| file.current_context),
            Ok("c".into())
        );
    }

    #[test]
    fn nothing_and_null_are_an_empty_file() {
        for text in ["", " \n\t", "null", "{}"] {
            assert!(
                read(text).is_ok_and(|file| file.auths.0.is_empty()),
                "{text:?}"
            );
        }
    }

    #[test]
    fn broken_json_is_named_by_line_and_column() {
        assert_eq!(
            fault("{\n  \"auths\": {,}\n}"),
            (2, 13, "is not JSON: key must be a string".into())
        );
        assert_eq!(
            fault("{\"auths\": {"),
            (1, 11, "is not JSON: EOF while parsing an object".into())
        );
        assert_eq!(fault("{} x").2, "is not JSON: trailing characters");
        assert_eq!(fault("\u{feff}{}").2, "is not JSON: expected value");
    }

    #[test]
    fn a_value_of_the_wrong_type_is_named_by_place_and_not_repeated() {
        assert_eq!(
            fault(r#"{"auths":{"r":"hunter2, expected hunter2"}}"#),
            (1, 41, "expected an object".into())
        );
        assert_eq!(
            fault(r#"{"auths":{"r":{"auth":["hunter2"]}}}"#).2,
            "expected a string"
        );
        assert_eq!(fault(r#""hunter2 at line 7""#).2, "expected an object");
        assert_eq!(fault("[]").2, "expected an object");
        assert_eq!(fault(r#"{"credsStore":12345}"#).2, "expected a string");
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_file_or_a_fault(bytes: Vec<u8>) {
            let _ = read_json::<ConfigFile>(&bytes);
        }

        #[test]
        fn a_fault_never_repeats_the_file(secret in "hunter[0-9]{6}", cut in 0usize..90, junk in "[\\[\\]{}\",:]{0,3}") {
            let mut text = format!(r#"{{"auths":{{"r":{{"auth":"{secret}"}},"q":"{secret}"}},"credsStore":["{secret}"]}}"#);
            let at = cut.min(text.len());
            text.insert_str(at, &junk);
            if let Err(fault) = read_json::<ConfigFile>(text.as_bytes()) {
                prop_assert!(!fault.rule.contains("hunter"), "{}", fault.rule);
            }
        }
    }
}
