//! Owns references to images: how Docker and Kubernetes read them, complete them and shorten them. Pure.
//!
//! The rules are those of <https://github.com/distribution/reference>, which the Engine and the kubelet share. A text that is no reference is
//! refused with the rule it breaks, before anything is sent.

use std::fmt;
use std::str::FromStr;

/// The registry of names that do not say one.
const HUB: &str = "docker.io";

/// Docker Hub as it was called at first; read as [`HUB`].
const OLD_HUB: &str = "index.docker.io";

/// Where Docker Hub's own images are, whose names leave it out.
const OFFICIAL: &str = "library";

/// The tag of names that say neither tag nor digest.
const DEFAULT_TAG: &str = "latest";

/// The longest reference that is looked at, in bytes: a path, a tag and a digest at their longest, and a domain.
pub const MAX_REFERENCE: usize = 1024;

/// The longest path in a registry, in bytes (`RepositoryNameTotalLengthMax`).
const MAX_PATH: usize = 255;

/// The longest tag, in bytes.
const MAX_TAG: usize = 128;

/// What an error repeats of a reference, in characters.
const MAX_SHOWN: usize = 128;

/// Which image is meant: by its ID on the Engine, or by a name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ImageRef {
    /// An image ID: `sha256:` and 64 hexadecimal digits, also when it was written without `sha256:`.
    ///
    /// A beginning of an ID is a name: `beef` is Docker Hub's image of that name, whatever the IDs on the Engine are.
    Id(String),
    /// A name.
    Name(ImageName),
}

/// The name of an image, completed: `busybox`, `docker.io/busybox` and `index.docker.io/library/busybox:latest` are equal.
///
/// `Display` gives the whole name; [`familiar`](Self::familiar) the short one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ImageName {
    domain: String,
    path: String,
    tag: Option<String>,
    digest: Option<String>,
}

/// A text that is no reference to an image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not the name of an image: {rule}")]
pub struct BadReference {
    text: String,
    rule: &'static str,
}

impl BadReference {
    fn new(text: &str, rule: &'static str) -> Self {
        Self {
            text: text.chars().take(MAX_SHOWN).collect(),
            rule,
        }
    }

    /// The rule that the text breaks.
    pub fn rule(&self) -> &'static str {
        self.rule
    }
}

impl FromStr for ImageRef {
    type Err = BadReference;

    fn from_str(text: &str) -> Result<Self, BadReference> {
        match id_of(text) {
            Some(id) => Ok(Self::Id(id)),
            None => text.parse().map(Self::Name),
        }
    }
}

impl From<ImageName> for ImageRef {
    fn from(name: ImageName) -> Self {
        Self::Name(name)
    }
}

impl fmt::Display for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => f.write_str(id),
            Self::Name(name) => name.fmt(f),
        }
    }
}

impl FromStr for ImageName {
    type Err = BadReference;

    fn from_str(text: &str) -> Result<Self, BadReference> {
        let refuse = |rule| Err(BadReference::new(text, rule));
        if text.is_empty() {
            return refuse("it is empty");
        }
        if text.len() > MAX_REFERENCE {
            return refuse("it is longer than 1024 bytes");
        }
        if text.contains("://") {
            return refuse("it has no scheme: leave out everything up to \"://\"");
        }
        if id_of(text).is_some() {
            return refuse("it is an image ID");
        }
        let Cut { name, tag, digest } = cut(text);
        let (domain, path) = split_domain(name);
        let domain = match domain {
            None | Some(OLD_HUB) => HUB,
            Some(domain) => domain,
        };
        if !is_domain(domain) {
            return refuse(
                "what precedes the first slash must be the registry's host name or address, with or without a port",
            );
        }
        if path.is_empty() {
            return refuse("there is no name before the tag or digest");
        }
        if path.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return refuse("the repository must be in lower case");
        }
        if !path.split('/').all(is_path_component) {
            return refuse(
                "each part of the repository must be lower-case letters and digits, joined by a dot, one or two underscores, or dashes",
            );
        }
        let path = if domain == HUB && !path.contains('/') {
            format!("{OFFICIAL}/{path}")
        } else {
            path.to_owned()
        };
        if path.len() > MAX_PATH {
            return refuse("the repository is longer than 255 bytes");
        }
        if !tag.is_none_or(is_tag) {
            return refuse(
                "the tag must be up to 128 letters, digits, underscores, dots and dashes, and not begin with a dot or dash",
            );
        }
        if !digest.is_none_or(is_digest) {
            return refuse(
                "the digest must be sha256, sha384 or sha512, a colon, and as many lower-case hexadecimal digits as that has",
            );
        }
        let tag = match (tag, digest) {
            (None, None) => Some(DEFAULT_TAG),
            (tag, _) => tag,
        };
        Ok(Self {
            domain: domain.to_owned(),
            path,
            tag: tag.map(str::to_owned),
            digest: digest.map(str::to_owned),
        })
    }
}

impl ImageName {
    /// The registry, with its port if one is named: `docker.io` unless said otherwise.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The place in the registry, such as `library/busybox`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The tag. `None` only when there is a digest; beside a digest it has no meaning, as the Engine and the kubelet go by the digest.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest.
    pub fn digest(&self) -> Option<&str> {
        self.digest.as_deref()
    }

    /// As Docker writes it: without `docker.io/library/` where it can be left out. It reads back as the same name.
    pub fn familiar(&self) -> String {
        self.shortened(self.tag(), self.digest())
    }

    /// As [`familiar`](Self::familiar), without the tag beside a digest: what the Engine looks images up by.
    pub fn lookup(&self) -> String {
        match &self.digest {
            Some(digest) => self.shortened(None, Some(digest)),
            None => self.familiar(),
        }
    }

    /// Whether this is a name of the image that `other`, one of the names it is stored under, stands for: the same digest of the same
    /// repository, or without a digest the same tag.
    pub fn is_found_under(&self, other: &Self) -> bool {
        (&self.domain, &self.path) == (&other.domain, &other.path)
            && match &self.digest {
                Some(digest) => other.digest.as_ref() == Some(digest),
                None => other.digest.is_none() && self.tag == other.tag,
            }
    }

    fn shortened(&self, tag: Option<&str>, digest: Option<&str>) -> String {
        let whole = Self {
            tag: tag.map(str::to_owned),
            digest: digest.map(str::to_owned),
            ..self.clone()
        };
        let text = whole.to_string();
        // What is left could be read as another registry (`docker.io/host.example/app`) or as an ID.
        let reads_back =
            |short: &&str| short.parse().as_ref() == Ok(&ImageRef::Name(whole.clone()));
        let without_domain = text.strip_prefix("docker.io/");
        without_domain
            .and_then(|rest| rest.strip_prefix("library/"))
            .filter(reads_back)
            .or_else(|| without_domain.filter(reads_back))
            .unwrap_or(&text)
            .to_owned()
    }
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.domain, self.path)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

/// A reference cut up, nothing of it checked.
pub(crate) struct Cut<'a> {
    /// What precedes tag and digest.
    pub(crate) name: &'a str,
    pub(crate) tag: Option<&'a str>,
    pub(crate) digest: Option<&'a str>,
}

/// Cuts a reference at its tag and digest.
pub(crate) fn cut(reference: &str) -> Cut<'_> {
    let (name, digest) = match reference.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (reference, None),
    };
    // A colon before the last slash belongs to the port of the registry.
    let last = name.rfind('/').map_or(0, |slash| slash + 1);
    let (name, tag) = match name[last..].find(':') {
        Some(colon) => (&name[..last + colon], Some(&name[last + colon + 1..])),
        None => (name, None),
    };
    Cut { name, tag, digest }
}

/// The registry that a name says, and the rest. What precedes the first slash is a registry if it has a dot, a colon or an upper-case letter,
/// or is `localhost`.
pub(crate) fn split_domain(name: &str) -> (Option<&str>, &str) {
    match name.split_once('/') {
        Some((first, rest))
            if first.contains(['.', ':'])
                || first == "localhost"
                || first.chars().any(char::is_uppercase) =>
        {
            (Some(first), rest)
        }
        _ => (None, name),
    }
}

/// The ID that a text is.
fn id_of(text: &str) -> Option<String> {
    let digits = text.strip_prefix("sha256:").unwrap_or(text);
    is_hex(digits, 64).then(|| format!("sha256:{digits}"))
}

fn is_hex(text: &str, length: usize) -> bool {
    text.len() == length
        && text
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// A host name or an IP address, that of version 6 in brackets, with or without a port.
fn is_domain(domain: &str) -> bool {
    let (host, port) = match domain.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, after)) if !address.is_empty() => {
                if !address
                    .bytes()
                    .all(|byte| byte.is_ascii_hexdigit() || byte == b':')
                {
                    return false;
                }
                match after.strip_prefix(':') {
                    None => return after.is_empty(),
                    port => (None, port),
                }
            }
            _ => return false,
        },
        None => match domain.split_once(':') {
            Some((host, port)) => (Some(host), Some(port)),
            None => (Some(domain), None),
        },
    };
    host.is_none_or(|host| host.split('.').all(is_label))
        && port
            .is_none_or(|port| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()))
}

/// One part of a host name.
fn is_label(label: &str) -> bool {
    !label.is_empty()
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

fn is_path_component(part: &str) -> bool {
    let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    part.starts_with(is_word)
        && part.ends_with(is_word)
        && part.split(is_word).all(|joint| {
            matches!(joint, "" | "." | "_" | "__") || joint.bytes().all(|byte| byte == b'-')
        })
}

fn is_tag(tag: &str) -> bool {
    (1..=MAX_TAG).contains(&tag.len())
        && !tag.starts_with(['.', '-'])
        && tag
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
}

fn is_digest(digest: &str) -> bool {
    digest.split_once(':').is_some_and(|(algorithm, digits)| {
        let length = match algorithm {
            "sha256" => 64,
            "sha384" => 96,
            "sha512" => 128,
            _ => return false,
        };
        is_hex(digits, length)
    })
}

#[cfg(test)]
mod tests;
