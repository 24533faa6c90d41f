//! Pulling: equal pulls joined, progress, and what a failure means.

use std::time::Duration;

use berth_docker::auth::Credentials;
use berth_docker::pull::{PullImage, PullProgress};
use berth_docker::reference::ImageName;
use berth_docker::{Docker, ErrorKind};
use tokio::sync::watch;

use super::Images;
use super::flights::Flights;

/// A pull as it is wished. Equal wishes at one time are one pull.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PullRequest {
    /// The image.
    pub name: ImageName,
    /// What the registry is told; `None` for nothing. Credentials that name another registry than the image's are not shown to this one.
    pub credentials: Option<Credentials>,
    /// How long there may be no progress, and sixty times as long while layers are unpacked; `None` for no limit.
    pub stuck_after: Option<Duration>,
}

/// Why a pull failed.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{error}")]
pub struct PullError {
    failure: PullFailure,
    error: berth_docker::Error,
}

/// What kind of failure it is, as far as the engine's words tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PullFailure {
    /// The registry cannot be reached, does not answer in time, or is not well: trying again later may help.
    RegistryUnavailable,
    /// The image is not signed as somebody demands.
    SignatureValidationFailed,
    /// The registry wants other credentials. Most say so as well of what they do not have.
    Denied,
    /// The registry has no such image, or none for this platform.
    NotFound,
    /// There was no progress for too long.
    Stuck,
    /// Anything else: the engine, its disk, or words that are not known.
    Other,
}

impl PullError {
    /// What kind of failure it is.
    pub fn failure(&self) -> PullFailure {
        self.failure
    }

    /// The failed call.
    pub fn docker(&self) -> &berth_docker::Error {
        &self.error
    }
}

impl From<berth_docker::Error> for PullError {
    fn from(error: berth_docker::Error) -> Self {
        let failure = match error.kind() {
            ErrorKind::Refused { status, message } => classify(*status, message),
            ErrorKind::TimedOut { .. } if !error.is_connect() => PullFailure::Stuck,
            _ => PullFailure::Other,
        };
        Self { failure, error }
    }
}

/// A pull under way.
#[derive(Debug)]
pub(super) struct UnderWay {
    request: PullRequest,
    progress: watch::Receiver<PullProgress>,
}

/// The pulls under way.
pub(super) type Pulls = Flights<UnderWay, Result<String, PullError>>;

impl Images {
    /// Pulls an image and gives its ID. `progress` is called each time that there is news, with the last of it; it should be quick.
    ///
    /// A caller that wishes for the same as others is given theirs. Dropping the future leaves the pull to them; with the last of them the
    /// engine stops pulling, and keeps the layers that are complete.
    ///
    /// # Errors
    /// When the registry or the engine refuses, and when there is no progress for too long.
    pub async fn pull(
        &self,
        mut request: PullRequest,
        mut progress: impl FnMut(&PullProgress),
    ) -> Result<String, PullError> {
        let fits = |credentials: &Credentials| {
            let fits = credentials.are_for(&request.name);
            if !fits {
                tracing::warn!(
                    image = %request.name,
                    server = credentials.server_address(),
                    "pulling without the credentials given: they are for another registry"
                );
            }
            fits
        };
        request.credentials = request.credentials.take().filter(fits);
        let (under_way, mut flight) = self.pulls.join(
            |under_way| under_way.request == request,
            || {
                let (tell, news) = watch::channel(PullProgress::default());
                let pull = carry_out(self.docker.clone(), request.clone(), tell);
                let under_way = UnderWay {
                    request: request.clone(),
                    progress: news,
                };
                (under_way, pull)
            },
        );
        let mut news = under_way.progress.clone();
        drop(under_way);
        loop {
            tokio::select! {
                biased;
                changed = news.changed() => match changed {
                    Ok(()) => progress(&news.borrow_and_update()),
                    // The pull has ended.
                    Err(_) => return flight.await,
                },
                result = &mut flight => {
                    if news.has_changed().unwrap_or(true) {
                        progress(&news.borrow_and_update());
                    }
                    return result;
                }
            }
        }
    }
}

async fn carry_out(
    docker: Docker,
    request: PullRequest,
    tell: watch::Sender<PullProgress>,
) -> Result<String, PullError> {
    let options = PullImage {
        credentials: request.credentials.as_ref(),
        stuck_after: request.stuck_after,
        ..PullImage::default()
    };
    let mut pull = docker.pull_image(&request.name.familiar(), options).await?;
    while let Some(step) = pull.next().await {
        tell.send_replace(step?.clone());
    }
    // The engine tells the digest in the registry, which is the ID with the containerd image store alone.
    Ok(docker.inspect_image(&request.name.lookup()).await?.id)
}

/// What is wrong on this host, whatever else the words remind of.
const LOCAL: &[&str] = &[
    "no space left on device",
    "failed to register layer",
    "failed to extract layer",
    "read-only file system",
];

/// Signature policies: the kubelet's own word, containerd's image verifiers, and the policies of containers/image.
const SIGNATURE: &[&str] = &[
    "signature validation failed",
    "signature verification failed",
    "signaturevalidationfailed",
    "image verifier ",
    "source image rejected",
    "a signature was required",
    "required signing policy",
];

/// Go's words for a network that does not work, and registries' for not being well.
const UNAVAILABLE: &[&str] = &[
    "dial tcp",
    "no such host",
    "server misbehaving",
    "temporary failure in name resolution",
    "connection refused",
    "connection reset by peer",
    "no route to host",
    "network is unreachable",
    "host is down",
    "i/o timeout",
    "tls handshake timeout",
    "timeout exceeded",
    "timeout awaiting response headers",
    "context deadline exceeded",
    "request canceled",
    "server closed idle connection",
    "proxyconnect",
    "broken pipe",
    "unexpected eof",
    ": eof",
];

/// Registries' words for what is not there.
const UNKNOWN: &[&str] = &["manifest unknown", "name unknown"];

/// Registries' words for who may not.
const DENIED: &[&str] = &[
    "unauthorized",
    "denied",
    "authentication required",
    "no basic auth credentials",
    "authorization failed",
    "insufficient_scope",
    "incorrect username or password",
];

/// Other words for what is not there.
const NOT_FOUND: &[&str] = &[
    "not found",
    "no matching manifest",
    "does not match the specified platform",
];

/// The kind of a refusal, by its words: the engine's own status is 500 for nearly everything that a registry does.
fn classify(status: u16, message: &str) -> PullFailure {
    let words = words_alone(message);
    let says = |texts: &[&str]| texts.iter().any(|text| words.contains(text));
    let told = told_status(&words);
    let code = told.unwrap_or(status);
    if says(LOCAL) {
        PullFailure::Other
    } else if says(SIGNATURE) {
        PullFailure::SignatureValidationFailed
    } else if says(UNAVAILABLE) || words == "eof" || told >= Some(500) {
        PullFailure::RegistryUnavailable
    } else if says(UNKNOWN) {
        PullFailure::NotFound
    } else if says(DENIED) || matches!(code, 401 | 403) {
        PullFailure::Denied
    } else if says(NOT_FOUND) || code == 404 {
        PullFailure::NotFound
    } else {
        PullFailure::Other
    }
}

/// A message in lower case without what is quoted and without addresses: names of images and hosts may hold any word.
fn words_alone(message: &str) -> String {
    let unquoted: String = message.split('"').step_by(2).collect();
    let words: Vec<&str> = unquoted
        .split_whitespace()
        .map(|word| match word {
            "i/o" => word,
            _ if !word.contains('/') => word,
            _ if word.ends_with(':') => "…:",
            _ => "…",
        })
        .collect();
    words.join(" ").to_ascii_lowercase()
}

/// The registry's status that words tell, as in `503 Service Unavailable` and `HTTP status: 500`.
fn told_status(words: &str) -> Option<u16> {
    let words: Vec<&str> = words
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty())
        .collect();
    words.iter().enumerate().find_map(|(at, word)| {
        let status = word
            .parse::<u16>()
            .ok()
            .filter(|status| (400..600).contains(status))?;
        let before = at.checked_sub(1).and_then(|at| words.get(at)).copied();
        let reason = match status {
            401 => "unauthorized",
            403 => "forbidden",
            404 => "not",
            500 => "internal",
            502 => "bad",
            503 => "service",
            504 => "gateway",
            _ => "",
        };
        let is_told = matches!(before, Some("status" | "http" | "code"))
            || words.get(at + 1).copied() == Some(reason);
        is_told.then_some(status)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    use PullFailure::{Denied, NotFound, Other, RegistryUnavailable, SignatureValidationFailed};

    #[rustfmt::skip]
    const WORDS: &[(u16, &str, PullFailure)] = &[
        // Docker 20.10.24, each got from it.
        (500, r#"Get "http://127.0.0.1:1/v2/": dial tcp 127.0.0.1:1: connect: connection refused"#, RegistryUnavailable),
        (500, r#"Get "https://no-such-host.invalid/v2/": dial tcp: lookup no-such-host.invalid on 10.255.255.53:53: no such host"#, RegistryUnavailable),
        (500, r#"Head "http://127.0.0.1:5097/v2/denied/manifests/latest": EOF"#, RegistryUnavailable),
        (500, "received unexpected HTTP status: 500 Internal Server Error", RegistryUnavailable),
        (500, "received unexpected HTTP status: 502 Bad Gateway", RegistryUnavailable),
        (500, "received unexpected HTTP status: 503 Service Unavailable", RegistryUnavailable),
        (500, "unauthorized", Denied),
        (500, "denied", Denied),
        (500, r#"error parsing HTTP 403 response body: invalid character '<' looking for beginning of value: "<html>no</html>""#, Denied),
        (500, "name unknown", NotFound),
        (404, "manifest for 127.0.0.1:5000/denied:none not found: manifest unknown: manifest unknown", NotFound),
        (500, "toomanyrequests: You have reached your pull rate limit.", Other),
        (400, "invalid reference format: repository name must be lowercase", Other),
        // The same engine's, by its sources.
        (404, "manifest for denied:latest not found: manifest unknown: manifest unknown", NotFound),
        (404, "pull access denied for nope, repository does not exist or may require 'docker login': denied: requested access to the resource is denied", Denied),
        (500, r#"Head "https://registry-1.docker.io/v2/a/b/manifests/1": no basic auth credentials"#, Denied),
        (500, r#"Get "https://r.example/v2/": net/http: request canceled while waiting for connection (Client.Timeout exceeded while awaiting headers)"#, RegistryUnavailable),
        (500, r#"Get "https://r.example/v2/": net/http: TLS handshake timeout"#, RegistryUnavailable),
        (500, r#"Get "https://r.example/v2/": x509: certificate signed by unknown authority"#, Other),
        (500, r#"Get "https://r.example/v2/": http: server gave HTTP response to HTTPS client"#, Other),
        (200, "unexpected EOF", RegistryUnavailable),
        (200, "failed to register layer: Error processing tar file(exit status 1): unexpected EOF", Other),
        (200, "write /var/lib/docker/tmp/GetImageBlob1: no space left on device", Other),
        (404, "no matching manifest for linux/amd64 in the manifest list entries", NotFound),
        // Docker 29.7.2 with the containerd image store, each got from it.
        (500, r#"failed to resolve reference "127.0.0.1:1/a:x": failed to do request: Head "https://127.0.0.1:1/v2/a/manifests/x": dial tcp 127.0.0.1:1: connect: connection refused"#, RegistryUnavailable),
        (500, r#"failed to resolve reference "127.0.0.1:5097/a:1": failed to do request: Head "https://127.0.0.1:5097/v2/a/manifests/1": EOF"#, RegistryUnavailable),
        (500, r#"unknown: failed to resolve reference "127.0.0.1:5097/a:1": unexpected status from HEAD request to http://127.0.0.1:5097/v2/a/manifests/1: 500 Internal Server Error"#, RegistryUnavailable),
        (500, r#"unknown: failed to resolve reference "127.0.0.1:5097/a:1": unexpected status from HEAD request to http://127.0.0.1:5097/v2/a/manifests/1: 502 Bad Gateway"#, RegistryUnavailable),
        (500, r#"unknown: failed to resolve reference "127.0.0.1:5097/a:1": unexpected status from HEAD request to http://127.0.0.1:5097/v2/a/manifests/1: 503 Service Unavailable"#, RegistryUnavailable),
        (500, r#"failed to resolve reference "127.0.0.1:5097/a:1": pull access denied, repository does not exist or may require authorization: authorization failed: no basic auth credentials"#, Denied),
        (500, "error from registry: denied\ndenied", Denied),
        (500, r#"unknown: failed to resolve reference "127.0.0.1:5097/a:1": unexpected status from HEAD request to http://127.0.0.1:5097/v2/a/manifests/1: 403 Forbidden"#, Denied),
        (404, r#"failed to resolve reference "127.0.0.1:5000/a:none": 127.0.0.1:5000/a:none: not found"#, NotFound),
        (500, r#"unknown: failed to resolve reference "127.0.0.1:5097/a:1": unexpected status from HEAD request to http://127.0.0.1:5097/v2/a/manifests/1: 429 Too Many Requests"#, Other),
        (500, r#"failed to resolve reference "127.0.0.1:5097/a:1": failed to do request: Head "https://127.0.0.1:5097/v2/a/manifests/1": tls: first record does not look like a TLS handshake"#, Other),
        // The same store, by its sources and what its users report.
        (500, r#"failed to resolve reference "localhost:5001/unauthorized/a:1": failed to do request: Head "https://localhost:5001/v2/unauthorized/a/manifests/1": dial tcp [::1]:5001: i/o timeout"#, RegistryUnavailable),
        (500, r#"failed to resolve reference "r.example/a:1": failed to authorize: failed to fetch anonymous token: unexpected status: 503 Service Unavailable"#, RegistryUnavailable),
        (500, r#"failed to resolve reference "r.example/a:1": failed to authorize: failed to fetch oauth token: unexpected status from GET request to https://r.example/token?service=x: 401 Unauthorized"#, Denied),
        (500, r#"failed to resolve reference "docker.io/library/nope:latest": pull access denied, repository does not exist or may require authorization: server message: insufficient_scope: authorization failed"#, Denied),
        (200, "failed to copy: httpReadSeeker: failed open: unexpected status code https://r.example/v2/a/blobs/sha256:00: 403 Forbidden", Denied),
        (200, "failed to copy: httpReadSeeker: failed open: unexpected status code https://r.example/v2/a/blobs/sha256:00: 429 Too Many Requests", Other),
        (200, r#"failed to extract layer (application/vnd.oci.image.layer.v1.tar+gzip sha256:00) to overlayfs as "extract-1": write: no space left on device"#, Other),
        (404, "no matching manifest for linux/arm64/v8 in the manifest list entries: no match for platform in manifest: not found", NotFound),
        // Who checks signatures: containerd's verifiers, and Podman behind Docker's API.
        (500, "image verifier cosign blocked pull of r.example/a:1 with digest sha256:00 for reason: dial tcp: i/o timeout", SignatureValidationFailed),
        (500, "Source image rejected: A signature was required, but no signature exists", SignatureValidationFailed),
        (500, r#"Get "https://r.example/v2/": tls: invalid signature by the server certificate"#, Other),
        // Nothing to tell by.
        (503, "service unavailable, without a reason", Other),
        (401, "", Denied),
        (404, "", NotFound),
        (500, "", Other),
    ];

    #[test]
    fn failures_are_told_apart_by_the_engines_words() {
        for (status, message, failure) in WORDS {
            assert_eq!(classify(*status, message), *failure, "{message}");
        }
    }
}
