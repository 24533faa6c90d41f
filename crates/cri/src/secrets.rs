//! What messages with secrets show of themselves in logs and in failed tests: never the secret.

use std::fmt;

use crate::v1;

/// What stands in a secret's place.
struct Secret(bool);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0 { "none" } else { "hidden" })
    }
}

impl fmt::Debug for v1::AuthConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            username,
            password,
            auth,
            server_address,
            identity_token,
            registry_token,
        } = self;
        f.debug_struct("AuthConfig")
            .field("username", username)
            .field("password", &Secret(password.is_empty()))
            .field("auth", &Secret(auth.is_empty()))
            .field("server_address", server_address)
            .field("identity_token", &Secret(identity_token.is_empty()))
            .field("registry_token", &Secret(registry_token.is_empty()))
            .finish()
    }
}

/// An environment variable: passwords come in as these.
impl fmt::Debug for v1::KeyValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, value } = self;
        f.debug_struct("KeyValue")
            .field("key", key)
            .field("value", &Secret(value.is_empty()))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use crate::v1;

    #[test]
    fn no_secret_is_shown() {
        let secret = || "tell-nobody".to_owned();
        let pull = v1::PullImageRequest {
            auth: Some(v1::AuthConfig {
                username: "me".to_owned(),
                password: secret(),
                auth: secret(),
                server_address: "registry.example".to_owned(),
                identity_token: secret(),
                registry_token: String::new(),
            }),
            ..Default::default()
        };
        let create = v1::ContainerConfig {
            envs: vec![v1::KeyValue {
                key: "PASSWORD".to_owned(),
                value: secret().into(),
            }],
            ..Default::default()
        };
        let shown = format!("{pull:?} {create:#?}");
        assert!(!shown.contains("tell-nobody"), "{shown}");
        assert!(
            shown.contains("me")
                && shown.contains("PASSWORD")
                && shown.contains("registry_token: none"),
            "{shown}"
        );
    }
}
