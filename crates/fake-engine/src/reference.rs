//! Owns image references: parsing, the full and the familiar form. Knows no images.

use crate::http::ApiError;

/// A parsed reference. `domain` and `path` are never shortened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reference {
    pub(crate) domain: String,
    pub(crate) path: String,
    pub(crate) tag: Option<String>,
    pub(crate) digest: Option<String>,
}

impl Reference {
    /// Reads `busybox`, `localhost:5000/a/b:tag`, `x@sha256:…`; the error is the engine's.
    pub(crate) fn parse(text: &str) -> Result<Self, ApiError> {
        let invalid = || ApiError::bad("invalid reference format");
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) if is_digest(digest) => (rest, Some(digest.to_owned())),
            Some(_) => return Err(invalid()),
            None => (text, None),
        };
        let (name, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag.to_owned())),
            _ => (rest, None),
        };
        if tag.as_deref().is_some_and(|tag| !is_tag(tag)) {
            return Err(invalid());
        }
        if name.len() == 64
            && name
                .bytes()
                .all(|b| b.is_ascii_hexdigit() && !b.is_ascii_uppercase())
        {
            return Err(ApiError::bad(format!(
                "invalid repository name ({name}), cannot specify 64-byte hexadecimal strings"
            )));
        }
        let (domain, path) = match name.split_once('/') {
            Some((domain, path))
                if domain.contains(['.', ':'])
                    || domain == "localhost"
                    || domain.bytes().any(|b| b.is_ascii_uppercase()) =>
            {
                (
                    if domain == "index.docker.io" {
                        "docker.io"
                    } else {
                        domain
                    },
                    path.to_owned(),
                )
            }
            Some(_) => ("docker.io", name.to_owned()),
            None => ("docker.io", format!("library/{name}")),
        };
        let path = if domain == "docker.io" && !path.contains('/') {
            format!("library/{path}")
        } else {
            path
        };
        if path.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(ApiError::bad(
                "invalid reference format: repository name (".to_owned()
                    + &path
                    + ") must be lowercase",
            ));
        }
        if !is_domain(domain) || !path.split('/').all(is_path_part) || path.len() > 255 {
            return Err(invalid());
        }
        Ok(Self {
            domain: domain.to_owned(),
            path,
            tag,
            digest,
        })
    }

    /// With `latest` when neither tag nor digest is given.
    pub(crate) fn tagged(mut self) -> Self {
        if self.tag.is_none() && self.digest.is_none() {
            self.tag = Some("latest".to_owned());
        }
        self
    }

    /// The repository as people write it: `busybox`, `ghcr.io/a/b`.
    pub(crate) fn familiar_name(&self) -> String {
        match self.domain.as_str() {
            "docker.io" => self
                .path
                .strip_prefix("library/")
                .unwrap_or(&self.path)
                .to_owned(),
            domain => format!("{domain}/{}", self.path),
        }
    }

    /// The whole reference as people write it.
    pub(crate) fn familiar(&self) -> String {
        let mut text = self.familiar_name();
        if let Some(tag) = &self.tag {
            text = format!("{text}:{tag}");
        }
        if let Some(digest) = &self.digest {
            text = format!("{text}@{digest}");
        }
        text
    }

    /// What the tag or digest store files it under: the digest alone if there is one.
    pub(crate) fn key(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => format!("{}@{digest}", self.familiar_name()),
            (None, tag) => format!(
                "{}:{}",
                self.familiar_name(),
                tag.as_deref().unwrap_or("latest")
            ),
        }
    }
}

/// The part of a familiar reference before tag and digest.
pub(crate) fn strip_tag(text: &str) -> &str {
    let text = text.split('@').next().unwrap_or_default();
    match text.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => name,
        _ => text,
    }
}

fn is_digest(text: &str) -> bool {
    text.strip_prefix("sha256:").is_some_and(|hex| {
        hex.len() == 64
            && hex
                .bytes()
                .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    })
}

fn is_tag(tag: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    (1..=128).contains(&tag.len())
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|b| word(b) || b == b'.' || b == b'-')
}

fn is_domain(domain: &str) -> bool {
    let (host, port) = domain
        .split_once(':')
        .map_or((domain, None), |(host, port)| (host, Some(port)));
    !host.is_empty()
        && host
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'-')
        && port.is_none_or(|port| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()))
}

/// Lower-case letters and digits, joined by `.`, `_`, `__` or dashes.
fn is_path_part(part: &str) -> bool {
    let alnum = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let joints = part.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    part.bytes().next().is_some_and(alnum)
        && part.bytes().last().is_some_and(alnum)
        && joints
            .into_iter()
            .all(|joint| matches!(joint, "" | "." | "_" | "__") || joint.bytes().all(|b| b == b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_completed_and_shortened() {
        for (text, key) in [
            ("busybox", "busybox:latest"),
            ("docker.io/library/busybox:1", "busybox:1"),
            ("user/app", "user/app:latest"),
            ("localhost:5000/a/b", "localhost:5000/a/b:latest"),
            ("registry.k8s.io/pause:3.9", "registry.k8s.io/pause:3.9"),
        ] {
            assert_eq!(Reference::parse(text).unwrap().key(), key);
        }
    }

    #[test]
    fn nonsense_is_an_invalid_reference() {
        for text in [
            "",
            "Busybox",
            ":x",
            "a//b",
            "a:",
            "a@sha256:12",
            "-a",
            "a b",
            "a:t!",
            "a..b",
        ] {
            assert!(Reference::parse(text).is_err(), "{text}");
        }
    }
}
