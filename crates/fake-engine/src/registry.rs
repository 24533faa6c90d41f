//! Owns how registries behave towards this engine: what they refuse, how fast they are, whom they know. Sends nothing.

use std::net::Ipv4Addr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use hyper::StatusCode;
use serde::{Deserialize, Serialize};

use crate::http::{ApiError, Call};
use crate::reference::Reference;
use crate::script::glob;

/// How registries behave. By default they have every image, at once, for everyone, and keep what is pushed to them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RegistryBehaviour {
    /// The first rule that fits a reference counts.
    pub rules: Vec<RegistryRule>,
    /// Bytes per second of downloads and uploads, on the engine's clock; without it they take no time.
    pub bytes_per_second: Option<u64>,
}

impl RegistryBehaviour {
    /// Adds a rule for the references that fit a pattern (`example.com/private/*`).
    #[must_use]
    pub fn rule(mut self, reference: impl Into<String>, then: RegistryAnswer) -> Self {
        self.rules.push(RegistryRule {
            reference: reference.into(),
            then,
        });
        self
    }

    /// Sets the speed of downloads and uploads.
    #[must_use]
    pub fn speed(mut self, bytes_per_second: u64) -> Self {
        self.bytes_per_second = Some(bytes_per_second);
        self
    }
}

/// How a registry answers for some references.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegistryRule {
    /// The references, as people write them with their tag (`busybox:latest`); `*` stands for any characters.
    pub reference: String,
    /// The answer.
    pub then: RegistryAnswer,
}

/// How a registry answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum RegistryAnswer {
    /// It has the image: what was pushed to it, and made up for all other references.
    Serve,
    /// It has what was pushed to it and nothing else: status 404 for all other references.
    Pushed,
    /// There is no such repository, or it is not for this user: status 404.
    Denied,
    /// The repository has no such tag: status 404.
    ManifestUnknown,
    /// It wants credentials and got none: status 500 with the text of a 401.
    Unauthorized,
    /// It answers with this HTTP status: status 500 with that text.
    Status(u16),
    /// Its name does not resolve, or nothing listens at its address: status 500, also for a login.
    Unreachable,
    /// It has the image for this user only; others get [`Unauthorized`](Self::Unauthorized).
    Credentials {
        /// The user name.
        username: String,
        /// The password.
        password: String,
    },
    /// The download of the first layer fails half-way, inside the 200 stream.
    FailMidway {
        /// The message.
        message: String,
    },
    /// The download of the first layer stops half-way for ever.
    StallMidway,
}

/// What a client sends in `X-Registry-Auth`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct Credentials {
    username: String,
    password: String,
}

/// The credentials of a request. As in the engine, a header that cannot be read counts as none.
pub(crate) fn credentials(call: &Call) -> Credentials {
    let header = call
        .headers
        .get("x-registry-auth")
        .map(|value| value.as_bytes())
        .unwrap_or_default();
    // The engine takes URL-safe base64 with padding, nothing else.
    URL_SAFE
        .decode(header)
        .ok()
        .and_then(|json| serde_json::from_slice(&json).ok())
        .unwrap_or_default()
}

/// A registry that let a request in.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Admission {
    pub(crate) transfer: Transfer,
    /// It has nothing but what was pushed to it.
    pub(crate) pushed_only: bool,
}

impl From<Transfer> for Admission {
    fn from(transfer: Transfer) -> Self {
        Self {
            transfer,
            pushed_only: false,
        }
    }
}

/// What happens after a registry let a request in.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Transfer {
    Whole,
    FailMidway(String),
    StallMidway,
}

pub(crate) fn manifest_unknown(reference: &Reference) -> ApiError {
    ApiError::not_found(format!(
        "manifest for {} not found: manifest unknown: manifest unknown",
        reference.familiar()
    ))
}

fn unreachable(domain: &str) -> ApiError {
    let host = domain.rsplit_once(':').map_or(domain, |(host, _)| host);
    // What is on this host is spoken to without TLS.
    ApiError::internal(match host.parse::<Ipv4Addr>() {
        Ok(address) if address.is_loopback() => {
            format!("Get \"http://{domain}/v2/\": dial tcp {domain}: connect: connection refused")
        }
        Ok(_) => {
            format!("Get \"https://{domain}/v2/\": dial tcp {domain}: connect: connection refused")
        }
        Err(_) => {
            format!("Get \"https://{domain}/v2/\": dial tcp: lookup {domain}: no such host")
        }
    })
}

impl RegistryBehaviour {
    fn answer(&self, reference: &Reference) -> RegistryAnswer {
        let text = reference.familiar();
        self.rules
            .iter()
            .find(|rule| glob(&rule.reference, &text))
            .map_or(RegistryAnswer::Serve, |rule| rule.then.clone())
    }

    /// Lets a request for a reference in, or refuses it as the engine words it.
    pub(crate) fn admit(
        &self,
        reference: &Reference,
        credentials: &Credentials,
    ) -> Result<Admission, ApiError> {
        let name = reference.familiar_name();
        let domain = if reference.domain == "docker.io" {
            "registry-1.docker.io"
        } else {
            &reference.domain
        };
        let version = reference
            .digest
            .as_deref()
            .or(reference.tag.as_deref())
            .unwrap_or("latest");
        let manifest = format!("https://{domain}/v2/{}/manifests/{version}", reference.path);
        let unauthorized = || {
            Err(ApiError::internal(format!(
                "Head \"{manifest}\": no basic auth credentials"
            )))
        };
        match self.answer(reference) {
            RegistryAnswer::Serve => Ok(Transfer::Whole.into()),
            RegistryAnswer::Pushed => Ok(Admission {
                transfer: Transfer::Whole,
                pushed_only: true,
            }),
            RegistryAnswer::FailMidway { message } => Ok(Transfer::FailMidway(message).into()),
            RegistryAnswer::StallMidway => Ok(Transfer::StallMidway.into()),
            RegistryAnswer::Denied => Err(ApiError::not_found(format!(
                "pull access denied for {name}, repository does not exist or may require 'docker login': denied: requested access to the resource is denied"
            ))),
            RegistryAnswer::ManifestUnknown => Err(manifest_unknown(reference)),
            RegistryAnswer::Unauthorized => unauthorized(),
            RegistryAnswer::Status(code) => {
                let reason = StatusCode::from_u16(code)
                    .ok()
                    .and_then(|s| s.canonical_reason())
                    .unwrap_or_default();
                Err(ApiError::internal(format!(
                    "received unexpected HTTP status: {code} {reason}"
                )))
            }
            RegistryAnswer::Unreachable => Err(unreachable(domain)),
            RegistryAnswer::Credentials { username, password } => {
                if credentials.username == username && credentials.password == password {
                    Ok(Transfer::Whole.into())
                } else if credentials.username.is_empty() {
                    unauthorized()
                } else {
                    Err(ApiError::internal(format!(
                        "Head \"{manifest}\": unauthorized: incorrect username or password"
                    )))
                }
            }
        }
    }

    /// Refuses a login at a registry that cannot be reached.
    pub(crate) fn reach(&self, server: &str) -> Result<(), ApiError> {
        let domain = server
            .trim_start_matches("https://")
            .trim_start_matches("http://");
        let domain = domain.split('/').next().unwrap_or_default();
        let first = self.rules.iter().find(|rule| {
            let of = rule.reference.split_once('/').map(|(of, _)| of);
            of.is_some_and(|of| glob(of, domain))
        });
        match first {
            Some(rule) if rule.then == RegistryAnswer::Unreachable => Err(unreachable(domain)),
            _ => Ok(()),
        }
    }

    /// Whether a login is right for some registry that wants one; without such a registry every login is.
    pub(crate) fn knows(&self, user: &str, secret: &str) -> bool {
        let mut wants = self.rules.iter().filter_map(|rule| match &rule.then {
            RegistryAnswer::Credentials { username, password } => Some((username, password)),
            _ => None,
        });
        let mut any = false;
        wants.any(|(username, password)| {
            any = true;
            username == user && password == secret
        }) || !any
    }
}
