//! Owns credentials as Kubernetes and Docker hand them over (`AuthConfig`), and what they amount to. Pure.

use std::fmt;

use super::{Credentials, decode};
use crate::config_file::AuthEntry;

/// Credentials in the fields of an `AuthConfig`, each of which may be empty. `Debug` shows who and where, never a secret.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct AuthConfig {
    /// The user.
    pub username: String,
    /// Their password or access token.
    pub password: String,
    /// Both of them: base64 of `user:password`. Read when there is no user name.
    pub auth: String,
    /// The registry they are for.
    pub server_address: String,
    /// An identity (OAuth refresh) token.
    pub identity_token: String,
    /// A bearer token.
    pub registry_token: String,
}

/// An `auth` that cannot be read. It repeats nothing of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the credentials for the registry cannot be read: the entry {0}")]
pub struct BadAuth(&'static str);

impl AuthConfig {
    /// What a registry is given; `None` when nothing is, so that the call is anonymous.
    ///
    /// # Errors
    /// When there is no user name, and `auth` is not `user:password` in base64.
    pub fn credentials(self) -> Result<Option<Credentials>, BadAuth> {
        let auth = if self.username.is_empty() {
            self.auth
        } else {
            String::new()
        };
        let credentials = decode(&AuthEntry {
            auth,
            username: self.username,
            password: self.password,
            identity_token: self.identity_token,
            registry_token: self.registry_token,
        })
        .map_err(BadAuth)?
        .for_server(self.server_address);
        Ok(Some(credentials).filter(|credentials| !credentials.is_empty()))
    }
}

impl fmt::Debug for AuthConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("AuthConfig");
        shown
            .field("username", &self.username)
            .field("server_address", &self.server_address);
        for (name, secret) in [
            ("password", &self.password),
            ("auth", &self.auth),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn config(fields: &[(&str, &str)]) -> AuthConfig {
        let mut config = AuthConfig::default();
        for (field, value) in fields {
            let place = match *field {
                "username" => &mut config.username,
                "password" => &mut config.password,
                "auth" => &mut config.auth,
                "server" => &mut config.server_address,
                "identity" => &mut config.identity_token,
                "registry" => &mut config.registry_token,
                other => panic!("{other}"),
            };
            (*value).clone_into(place);
        }
        config
    }

    fn credentials(fields: &[(&str, &str)]) -> Option<Credentials> {
        config(fields)
            .credentials()
            .unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn every_form_amounts_to_credentials() {
        let pair = Credentials::password("me", "se:cret");
        // echo -n me:se:cret | base64
        for fields in [
            &[("username", "me"), ("password", "se:cret")][..],
            &[("auth", "bWU6c2U6Y3JldA==")],
            &[("auth", "bWU6c2U6Y3JldA")],
            &[("username", "me"), ("password", "se:cret"), ("auth", "!")],
        ] {
            assert_eq!(credentials(fields), Some(pair.clone()), "{fields:?}");
        }
        assert_eq!(
            credentials(&[("identity", "t")]),
            Some(Credentials::identity_token("t"))
        );
        assert_eq!(
            credentials(&[("registry", "t"), ("server", "r.io")]),
            Some(Credentials::registry_token("t").for_server("r.io"))
        );
        assert_eq!(credentials(&[]), None);
        assert_eq!(credentials(&[("server", "r.io")]), None);
    }

    #[test]
    fn a_pair_that_cannot_be_read_is_an_error_that_repeats_nothing() {
        for auth in ["c2VjcmV0", "s3cret!", "OnNlY3JldA=="] {
            let error = config(&[("auth", auth)]).credentials().unwrap_err();
            assert!(!format!("{error} {error:?}").contains(auth), "{error}");
        }
    }

    #[test]
    fn debug_shows_no_secret() {
        let shown = format!(
            "{:?}",
            config(&[
                ("username", "me"),
                ("password", "hidden1"),
                ("auth", "hidden2"),
                ("identity", "hidden3"),
                ("registry", "hidden4"),
            ])
        );
        assert!(shown.contains("me") && !shown.contains("hidden"), "{shown}");
    }

    #[test]
    fn credentials_are_for_the_registry_they_name() {
        let named = |server: &str| Credentials::password("me", "x").for_server(server);
        for (server, image, expected) in [
            ("", "anything.example/a", true),
            ("r.io", "r.io/a", true),
            ("https://r.io/v2/", "r.io/a", true),
            ("r.io/team", "r.io/team/a:1", true),
            ("r.io/team", "r.io/other/a", false),
            ("r.io", "r.io:5000/a", false),
            ("r.io", "evil.example/r.io/a", false),
            ("https://index.docker.io/v1/", "busybox", true),
            ("docker.io", "quay.io/busybox", false),
        ] {
            let image = image.parse().unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(named(server).are_for(&image), expected, "{server} {image}");
        }
    }
}
