//! Owns registry credentials: where the docker command keeps them, which of them an image needs, and how they are written for the engine.
//! It talks to no registry and to no engine.
//!
//! A secret is in no `Debug`, `Display`, error or log of this module.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, URL_SAFE};
use base64::{Engine as _, alphabet};

use crate::config_error::ConfigError;
use crate::config_file::{AuthEntry, ConfigFile, Entries, JsonFault, read_json};
use crate::environment::Environment;
use crate::reference::ImageName;
use registry::Registry;

mod config;
mod helper;
mod registry;

pub use config::{AuthConfig, BadAuth};

/// How long a credential helper may take unless said otherwise. One that asks a cloud needs a second or two; one that waits for somebody
/// to unlock a key ring would hold a pull up for ever.
pub const DEFAULT_HELPER_DEADLINE: Duration = Duration::from_secs(10);

/// Standard base64, its padding as it comes: tools other than the docker command leave it out.
const STORED: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What a registry is given to let a user in. `Debug` shows who and where, never the secret.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Credentials {
    username: String,
    password: String,
    server_address: String,
    identity_token: String,
    registry_token: String,
}

impl Credentials {
    /// A user and a password or access token.
    pub fn password(username: impl Into<String>, password: impl Into<String>) -> Self {
        Self {
            username: username.into(),
            password: password.into(),
            ..Self::default()
        }
    }

    /// An identity (OAuth refresh) token, which the engine trades for an access token.
    pub fn identity_token(token: impl Into<String>) -> Self {
        Self {
            identity_token: token.into(),
            ..Self::default()
        }
    }

    /// A bearer token that is sent to the registry as it is.
    pub fn registry_token(token: impl Into<String>) -> Self {
        Self {
            registry_token: token.into(),
            ..Self::default()
        }
    }

    /// Names the registry they are for, such as `registry.example.com:5000` or `https://index.docker.io/v1/`. The engine needs it to check
    /// credentials; to pull and push it goes by the image.
    #[must_use]
    pub fn for_server(mut self, address: impl Into<String>) -> Self {
        self.server_address = address.into();
        self
    }

    /// The user; empty for tokens.
    pub fn username(&self) -> &str {
        &self.username
    }

    /// The registry they are for; empty when not said.
    pub fn server_address(&self) -> &str {
        &self.server_address
    }

    /// Whether they may be shown to the registry that `image` is in: they name no registry, or that one.
    pub fn are_for(&self, image: &ImageName) -> bool {
        self.server_address.is_empty()
            || Registry::of_image(&image.to_string())
                .is_ok_and(|registry| registry.is_meant_by(&self.server_address))
    }

    /// The value of the `X-Registry-Auth` field: JSON in URL-safe base64 with padding (RFC 4648, section 5). An engine treats what it cannot
    /// decode, standard base64 included, as no credentials at all.
    pub fn to_header(&self) -> String {
        // A map from text to text cannot fail to be written.
        URL_SAFE.encode(serde_json::to_vec(&self.to_fields()).unwrap_or_default())
    }

    /// The engine's `AuthConfig`, as the body of `POST /auth` is. The values are the secrets themselves.
    pub(crate) fn to_fields(&self) -> BTreeMap<&'static str, &str> {
        let Self {
            username,
            password,
            server_address,
            identity_token,
            registry_token,
        } = self;
        [
            ("username", username),
            ("password", password),
            ("serveraddress", server_address),
            ("identitytoken", identity_token),
            ("registrytoken", registry_token),
        ]
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| (name, value.as_str()))
        .collect()
    }

    fn is_empty(&self) -> bool {
        let Self {
            username,
            password,
            identity_token,
            registry_token,
            server_address: _,
        } = self;
        [username, password, identity_token, registry_token]
            .iter()
            .all(|field| field.is_empty())
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Credentials");
        shown
            .field("username", &self.username)
            .field("server_address", &self.server_address);
        for (name, secret) in [
            ("password", &self.password),
            ("identity_token", &self.identity_token),
            ("registry_token", &self.registry_token),
        ] {
            if !secret.is_empty() {
                shown.field(name, &format_args!("[redacted]"));
            }
        }
        shown.finish()
    }
}

/// The credentials that the docker command would use.
///
/// They are looked for in this order; a place that has none for the registry passes it on:
/// 1. `DOCKER_AUTH_CONFIG`, the `auths` of a `config.json` in a variable,
/// 2. the registry's helper (`credHelpers` of `config.json`),
/// 3. the store (`credsStore`), unless `credHelpers` has an empty name for the registry,
/// 4. `auths` of `config.json`.
///
/// Credentials that a user gives by hand go before all of them and are not the keychain's affair. In `auths` and `credHelpers` a registry is
/// written as `host`, `host:port` or a URL of it, Docker Hub as `https://index.docker.io/v1/` or `docker.io`. An entry with a path counts for
/// the images below it alone, and goes before one without.
///
/// What a helper answers is not kept: tokens of clouds live for minutes.
#[derive(Clone)]
pub struct Keychain {
    variable: Auths,
    file: Auths,
    store: String,
    helpers: BTreeMap<String, String>,
    search_path: Option<OsString>,
    deadline: Duration,
}

/// Stored entries and where they are from.
#[derive(Clone)]
struct Auths {
    origin: Origin,
    entries: BTreeMap<String, AuthEntry>,
}

#[derive(Clone)]
enum Origin {
    Variable,
    File(PathBuf),
}

impl Keychain {
    /// Reads what this process's environment names.
    ///
    /// # Errors
    /// As for [`load`](Self::load).
    pub fn from_env() -> Result<Self, ConfigError> {
        Self::load(&Environment::of_process())
    }

    /// Reads `config.json` and `DOCKER_AUTH_CONFIG`. Helpers are run by the look-ups.
    ///
    /// # Errors
    /// When either is no JSON of the expected shape. A bad entry for one registry is an error when that registry is asked for.
    pub fn load(environment: &Environment) -> Result<Self, ConfigError> {
        let file = ConfigFile::load(environment)?;
        let variable = match environment.text("DOCKER_AUTH_CONFIG")? {
            Some(text) => read_variable(text)?,
            None => Entries::default(),
        };
        Ok(Self {
            variable: Auths {
                origin: Origin::Variable,
                entries: variable.0,
            },
            file: Auths {
                origin: Origin::File(ConfigFile::path(environment).unwrap_or_default()),
                entries: file.auths.0,
            },
            store: file.creds_store,
            helpers: file.cred_helpers.0,
            search_path: environment.os("PATH").map(OsString::from),
            deadline: DEFAULT_HELPER_DEADLINE,
        })
    }

    /// Gives each run of a helper `deadline`; [`DEFAULT_HELPER_DEADLINE`] unless set.
    #[must_use]
    pub fn helper_deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// The credentials for pulling or pushing `image`; `None` when none are kept, so that the call is anonymous.
    ///
    /// Cancel safe: when the future is dropped, a running helper and its children are killed.
    ///
    /// # Errors
    /// When the image names no registry, the entry cannot be read, or a helper fails; that it has no credentials is no failure.
    pub async fn for_image(&self, image: &str) -> Result<Option<Credentials>, ConfigError> {
        let registry = Registry::of_image(image)?;
        if let Some(found) = self.variable.find(&registry)? {
            return Ok(Some(found));
        }
        for helper in self.helpers_for(&registry) {
            if let Some(found) = helper::get(
                helper,
                registry.key(),
                self.search_path.as_deref(),
                self.deadline,
            )
            .await?
            {
                return Ok(Some(found));
            }
        }
        self.file.find(&registry)
    }

    /// The helpers to be asked, in their order.
    fn helpers_for(&self, registry: &Registry) -> impl Iterator<Item = &str> {
        let own = registry
            .best_of(&self.helpers)
            .map(|(_, helper)| helper.as_str());
        let store = if own == Some("") {
            ""
        } else {
            self.store.as_str()
        };
        let own = own.filter(|own| *own != store);
        own.into_iter()
            .chain([store])
            .filter(|helper| !helper.is_empty())
    }
}

impl fmt::Debug for Keychain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keychain")
            .field(
                "registries",
                &self
                    .variable
                    .entries
                    .keys()
                    .chain(self.file.entries.keys())
                    .collect::<Vec<_>>(),
            )
            .field("store", &self.store)
            .field("helpers", &self.helpers)
            .field("deadline", &self.deadline)
            .finish_non_exhaustive()
    }
}

fn read_variable(text: &str) -> Result<Entries<AuthEntry>, ConfigError> {
    const NAME: &str = "DOCKER_AUTH_CONFIG";
    let file: ConfigFile =
        read_json(text.as_bytes()).map_err(|JsonFault { line, column, rule }| {
            ConfigError::hidden(NAME, format!("line {line}, column {column}: {rule}"))
        })?;
    if !file.creds_store.is_empty() || !file.cred_helpers.0.is_empty() {
        return Err(ConfigError::hidden(NAME, "must have nothing but auths")
            .with_hint("name credential helpers in config.json"));
    }
    Ok(file.auths)
}

impl Auths {
    fn find(&self, registry: &Registry) -> Result<Option<Credentials>, ConfigError> {
        let Some((key, entry)) = registry.best_of(&self.entries) else {
            return Ok(None);
        };
        let credentials = decode(entry).map_err(|rule| {
            let rule = format!("the entry of {key:?} in auths {rule}");
            let error = match &self.origin {
                Origin::Variable => ConfigError::hidden("DOCKER_AUTH_CONFIG", rule),
                Origin::File(path) => ConfigError::file(path, rule),
            };
            error.with_hint(format!(
                "run `docker login {}` to write it anew",
                registry.name()
            ))
        })?;
        Ok(Some(credentials.for_server(key)).filter(|credentials| !credentials.is_empty()))
    }
}

/// The credentials of an entry, or the rule it breaks.
fn decode(entry: &AuthEntry) -> Result<Credentials, &'static str> {
    let AuthEntry {
        auth,
        username,
        password,
        identity_token,
        registry_token,
    } = entry.clone();
    let (username, password) = if auth.is_empty() {
        (username, password)
    } else {
        // Go's decoder passes line breaks over.
        let text: String = auth.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
        let bytes = STORED
            .decode(text)
            .map_err(|_| "has an auth that is not base64")?;
        let pair = String::from_utf8(bytes).map_err(|_| "has an auth that is not UTF-8")?;
        match pair.split_once(':') {
            // The docker command pads passwords with NUL bytes in some versions.
            Some((user, password)) if !user.is_empty() => {
                (user.to_owned(), password.trim_matches('\0').to_owned())
            }
            _ => return Err("has an auth that is not USER:PASSWORD in base64"),
        }
    };
    Ok(Credentials {
        username,
        password,
        identity_token,
        registry_token,
        server_address: String::new(),
    })
}

#[cfg(test)]
mod tests;
