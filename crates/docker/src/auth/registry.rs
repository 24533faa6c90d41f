//! Owns names: which registry an image is in, and which stored keys mean that registry. Pure.

use std::collections::BTreeMap;

use crate::config_error::ConfigError;
use crate::reference::{MAX_REFERENCE, cut, split_domain};

/// What Docker Hub's credentials are stored under, and what its helpers are asked for: the address of its first API.
const HUB_KEY: &str = "https://index.docker.io/v1/";

/// What Docker Hub is called in images.
const HUB: &str = "docker.io";

/// Other names of Docker Hub.
const HUB_ALIASES: [&str; 2] = ["index.docker.io", "registry-1.docker.io"];

/// The registry of an image, and the image's place in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Registry {
    /// In lower case, with the port if one is named; [`HUB`] for Docker Hub.
    host: String,
    /// Without tag and digest.
    repository: String,
}

impl Registry {
    /// As the engine reads an image; one that names no registry is on Docker Hub. Only what decides about credentials is checked.
    pub(super) fn of_image(image: &str) -> Result<Self, ConfigError> {
        let refuse = |rule: &str| Err(ConfigError::value("image", image, rule));
        if image.is_empty() || image.len() > MAX_REFERENCE {
            return refuse("must have from 1 to 1024 characters");
        }
        let (host, path) = split_domain(cut(image).name);
        let host = host.unwrap_or(HUB).to_ascii_lowercase();
        if !host
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-._:[]".contains(&b))
        {
            return refuse(
                "the registry must be a host name or an IP address, with or without a port",
            );
        }
        let host = hub_or(host);
        let repository = if host == HUB && !path.contains('/') {
            format!("library/{path}")
        } else {
            path.to_owned()
        };
        Ok(Self { host, repository })
    }

    /// What the docker command stores the registry's credentials under.
    pub(super) fn key(&self) -> &str {
        if self.host == HUB {
            HUB_KEY
        } else {
            &self.host
        }
    }

    /// What `docker login` takes.
    pub(super) fn name(&self) -> &str {
        if self.host == HUB { "" } else { &self.host }
    }

    /// The entry that means this registry most closely: the longest path that the image is below; of several, the key as the docker command
    /// writes it, then the first by name.
    pub(super) fn best_of<'a, T>(
        &self,
        entries: &'a BTreeMap<String, T>,
    ) -> Option<(&'a str, &'a T)> {
        let candidates = entries.iter().filter_map(|(key, value)| {
            Some(((self.closeness(key)?, key == self.key()), key, value))
        });
        // `max_by_key` takes the last of equals.
        candidates
            .rev()
            .max_by_key(|(rank, _, _)| *rank)
            .map(|(_, key, value)| (key.as_str(), value))
    }

    /// Whether `key` means this registry, or a part of it that the image is in.
    pub(super) fn is_meant_by(&self, key: &str) -> bool {
        self.closeness(key).is_some()
    }

    /// The length of the path in `key`, if it means this registry and image.
    fn closeness(&self, key: &str) -> Option<usize> {
        let address = strip_scheme(key);
        let (host, path) = address.split_once('/').unwrap_or((address, ""));
        if hub_or(host.to_ascii_lowercase()) != self.host {
            return None;
        }
        let path = path.trim_matches('/');
        match path {
            // The APIs' own paths say nothing about images.
            "" | "v1" | "v2" => Some(0),
            path => {
                let rest = self.repository.strip_prefix(path)?;
                (rest.is_empty() || rest.starts_with('/')).then_some(path.len())
            }
        }
    }
}

fn strip_scheme(key: &str) -> &str {
    match key.split_once("://") {
        Some((scheme, rest))
            if scheme.eq_ignore_ascii_case("https") || scheme.eq_ignore_ascii_case("http") =>
        {
            rest
        }
        _ => key,
    }
}

fn hub_or(host: String) -> String {
    if HUB_ALIASES.contains(&host.as_str()) {
        HUB.to_owned()
    } else {
        host
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parts(image: &str) -> (String, String) {
        match Registry::of_image(image) {
            Ok(registry) => (registry.host, registry.repository),
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn images_are_read_as_the_engine_reads_them() {
        for (image, host, repository) in [
            ("nginx", "docker.io", "library/nginx"),
            ("nginx:1.27", "docker.io", "library/nginx"),
            ("me/app@sha256:00", "docker.io", "me/app"),
            ("docker.io/nginx", "docker.io", "library/nginx"),
            ("index.docker.io/me/app:1", "docker.io", "me/app"),
            ("localhost/app", "localhost", "app"),
            ("localhost:5000/app:1@sha256:00", "localhost:5000", "app"),
            (
                "registry.example.com/team/app:1",
                "registry.example.com",
                "team/app",
            ),
            (
                "Registry.Example.COM:443/team/app",
                "registry.example.com:443",
                "team/app",
            ),
            ("HOST/app", "host", "app"),
            ("host/app", "docker.io", "host/app"),
            ("[::1]:5000/app", "[::1]:5000", "app"),
        ] {
            assert_eq!(
                parts(image),
                (host.to_owned(), repository.to_owned()),
                "{image}"
            );
        }
    }

    #[test]
    fn an_image_that_names_no_host_is_refused() {
        for image in [
            "",
            "a.b\n/x",
            "a.b c/x",
            "ä.de/x",
            "a.b%2f/x",
            &"a".repeat(1025),
        ] {
            assert!(Registry::of_image(image).is_err(), "{image:?}");
        }
    }

    fn best(image: &str, keys: &[&str]) -> Option<String> {
        let entries: BTreeMap<String, ()> =
            keys.iter().map(|key| ((*key).to_owned(), ())).collect();
        let registry = Registry::of_image(image).unwrap_or_else(|error| panic!("{error}"));
        registry.best_of(&entries).map(|(key, ())| key.to_owned())
    }

    #[test]
    fn docker_hub_has_one_key_and_several_names() {
        assert_eq!(
            Registry::of_image("nginx").map(|registry| registry.key().to_owned()),
            Ok("https://index.docker.io/v1/".into())
        );
        for key in [
            "https://index.docker.io/v1/",
            "docker.io",
            "index.docker.io",
            "https://registry-1.docker.io/v2/",
            "http://docker.io/",
        ] {
            assert_eq!(best("nginx", &["quay.io", key]).as_deref(), Some(key));
        }
        assert_eq!(
            best("nginx", &["docker.io", "https://index.docker.io/v1/"]).as_deref(),
            Some("https://index.docker.io/v1/")
        );
        // Docker Desktop keeps tokens of its own beside the credentials.
        assert_eq!(
            best("nginx", &["https://index.docker.io/v1/access-token"]),
            None
        );
    }

    #[test]
    fn a_key_may_be_a_host_or_a_url_of_it_but_the_port_counts() {
        for key in [
            "r.io",
            "https://r.io",
            "http://R.IO/v1/",
            "HTTPS://r.io/v2/",
            "r.io/",
        ] {
            assert_eq!(best("r.io/app", &[key]).as_deref(), Some(key));
        }
        for key in [
            "r.io:443",
            "https://r.io:5000",
            "r.io.evil",
            "evil/r.io",
            "ftp://r.io",
            "xr.io",
            "",
        ] {
            assert_eq!(best("r.io/app", &[key]), None, "{key}");
        }
        assert_eq!(
            best("r.io:5000/app", &["r.io", "http://r.io:5000"]).as_deref(),
            Some("http://r.io:5000")
        );
        assert_eq!(
            best("[::1]:5000/app", &["https://[::1]:5000/v1/"]).as_deref(),
            Some("https://[::1]:5000/v1/")
        );
    }

    #[test]
    fn the_longest_path_above_the_image_wins() {
        let keys = ["r.io", "r.io/team", "r.io/team/app", "https://r.io/v1/"];
        assert_eq!(
            best("r.io/team/app:1", &keys).as_deref(),
            Some("r.io/team/app")
        );
        assert_eq!(best("r.io/team/other", &keys).as_deref(), Some("r.io/team"));
        assert_eq!(best("r.io/team2/app", &keys).as_deref(), Some("r.io"));
        assert_eq!(
            best("r.io/x", &["https://r.io", "http://r.io"]).as_deref(),
            Some("http://r.io")
        );
        assert_eq!(best("r.io/x", &["r.io/team"]), None);
    }

    proptest! {
        #[test]
        fn any_image_and_key_are_matched_without_a_panic(image: String, key: String) {
            if let Ok(registry) = Registry::of_image(&image) {
                registry.best_of(&BTreeMap::from([(key, ())]));
                prop_assert!(registry.key().bytes().all(|b| b.is_ascii_graphic()));
            }
        }

        #[test]
        fn a_registry_is_found_by_its_own_key(image in "([a-zA-Z0-9.:]{1,8}/)?[a-z]{1,4}(/[a-z]{1,4})?(:[a-z0-9]{1,3})?") {
            if let Ok(registry) = Registry::of_image(&image) {
                let entries = BTreeMap::from([(registry.key().to_owned(), ())]);
                prop_assert!(registry.best_of(&entries).is_some());
            }
        }
    }
}
