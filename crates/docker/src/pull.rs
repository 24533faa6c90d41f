//! Pulling an image: the request, the progress of its layers, and noticing that it has come to a halt.
//!
//! Owns what a pull is made of ([`PullProgress`]), what of it counts as progress, and how long none is accepted. A pull
//! has no total deadline: a large image over a slow line is fine as long as something moves.

use std::collections::HashMap;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

use crate::api::ProgressStream;
use crate::auth::Credentials;
use crate::client::Docker;
use crate::error::{Error, Phase};
use crate::model::ProgressMessage;
use crate::reference::{Cut, cut};
use crate::request::{Deadline, Method, Operation, Request};

/// How long a pull may make no progress: the kubelet's `--image-pull-progress-deadline`, 1 minute.
pub const DEFAULT_STUCK_AFTER: Duration = Duration::from_secs(60);

/// By how much that is longer while layers are unpacked. Docker's containerd image store says nothing, or only how many
/// seconds it has been at it, while it unpacks a layer; the classic store is silent while it writes a layer's files out
/// at its end. A large layer of many small files takes a slow disk tens of minutes, and a pull that is given up then would
/// be given up again the next time; by default it has an hour.
pub const EXTRACTING_FACTOR: u32 = 60;

/// How [`Docker::pull_image`] pulls.
#[derive(Clone, Copy, Debug)]
pub struct PullImage<'a> {
    /// `os[/arch[/variant]]` to take of an image for several; `None` for the Engine's.
    pub platform: Option<&'a str>,
    /// What the registry is told; `None` for nothing.
    pub credentials: Option<&'a Credentials>,
    /// How long there may be no progress before the pull has failed: [`DEFAULT_STUCK_AFTER`] unless set, and
    /// [`EXTRACTING_FACTOR`] times that while layers are unpacked. `None` for no limit: the caller has one.
    pub stuck_after: Option<Duration>,
}

impl Default for PullImage<'_> {
    fn default() -> Self {
        Self {
            platform: None,
            credentials: None,
            stuck_after: Some(DEFAULT_STUCK_AFTER),
        }
    }
}

impl Docker {
    /// Begins to pull an image; the rest is in the [`Pull`].
    ///
    /// A reference without tag and digest means `latest`. One with both is pulled by its digest.
    ///
    /// `POST /images/create?fromImage=…`. Deadline: [`PullImage::stuck_after`] without progress. Dropping the future or
    /// the [`Pull`] stops the Engine too, unless another client pulls the same; layers that are complete stay.
    ///
    /// # Errors
    /// 404 when the registry has no such image, or none for that platform; 401, 403 or 500 for what else it says. What
    /// goes wrong later is an error of the [`Pull`].
    pub async fn pull_image(&self, reference: &str, options: PullImage<'_>) -> Result<Pull, Error> {
        let operation = Operation::PULL_IMAGE;
        let (name, tag) = split_reference(operation, reference)?;
        let mut request = Request::new(operation, Method::Post, "/images/create")
            .query("fromImage", name)
            .query("tag", tag)
            .query_some("platform", options.platform)
            .about(reference)
            // The Engine answers once it has the image's manifest from the registry.
            .deadline(match options.stuck_after {
                Some(limit) => Deadline::Total(limit),
                None => Deadline::Stream { idle: None },
            });
        if let Some(credentials) = options.credentials {
            request = request.header("X-Registry-Auth", credentials.to_header());
        }
        let messages = ProgressStream::new(self.send_stream(request).await?);
        Ok(Pull {
            messages,
            progress: PullProgress::default(),
            places: HashMap::new(),
            last_change: Instant::now(),
            limit: options.stuck_after.map(|stuck_after| Limit {
                stuck_after,
                timer: Box::pin(tokio::time::sleep(stuck_after)),
            }),
        })
    }
}

/// A pull under way. Dropping it stops the pull.
#[derive(Debug)]
pub struct Pull {
    messages: ProgressStream,
    progress: PullProgress,
    /// Where each layer is in `progress`.
    places: HashMap<Box<str>, usize>,
    last_change: Instant,
    limit: Option<Limit>,
}

/// How long there may be no progress, and what wakes the pull then.
#[derive(Debug)]
struct Limit {
    stuck_after: Duration,
    timer: Pin<Box<Sleep>>,
}

impl Pull {
    /// How far the pull has come, each time that the Engine says something. `None` at the end: the image is there.
    ///
    /// Cancel safe: a dropped call loses nothing.
    ///
    /// # Errors
    /// Refused with status 200 when the Engine reports a failure; timed out when there is no progress for too long, with
    /// the last state of the pull in the error; as any stream when it is cut. After an error there is only `None`.
    pub async fn next(&mut self) -> Option<Result<&PullProgress, Error>> {
        match poll_fn(|cx| self.poll_progress(cx)).await {
            Some(Ok(())) => Some(Ok(&self.progress)),
            Some(Err(error)) => Some(Err(error)),
            None => None,
        }
    }

    /// How far the pull has come.
    #[must_use]
    pub fn progress(&self) -> &PullProgress {
        &self.progress
    }

    /// Waits until the image is there, and gives the last state.
    ///
    /// Dropping the future stops the pull.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    pub async fn wait(mut self) -> Result<PullProgress, Error> {
        while let Some(step) = self.next().await {
            step?;
        }
        Ok(self.progress)
    }

    fn poll_progress(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<(), Error>>> {
        match self.messages.poll_message(cx) {
            Poll::Ready(Some(Ok(message))) => {
                if self.progress.apply(&message, &mut self.places) {
                    self.last_change = Instant::now();
                }
                return Poll::Ready(Some(Ok(())));
            }
            Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
            Poll::Ready(None) => return Poll::Ready(None),
            Poll::Pending => {}
        }
        let Some(limit) = &mut self.limit else {
            return Poll::Pending;
        };
        let allowance = if self.progress.is_unpacking() {
            limit.stuck_after.saturating_mul(EXTRACTING_FACTOR)
        } else {
            limit.stuck_after
        };
        loop {
            // A limit beyond the end of time is none.
            let Some(deadline) = self.last_change.checked_add(allowance) else {
                return Poll::Pending;
            };
            if limit.timer.deadline() != deadline {
                limit.timer.as_mut().reset(deadline);
            }
            std::task::ready!(limit.timer.as_mut().poll(cx));
            if Instant::now() >= deadline {
                let error = Error::timed_out(self.messages.operation(), Phase::Body, allowance)
                    .last_seen(self.progress.to_string());
                return Poll::Ready(Some(Err(self.messages.fail(error))));
            }
        }
    }
}

/// How far a pull has come.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PullProgress {
    /// The layers, in the order in which the Engine named them.
    pub layers: Vec<LayerProgress>,
    /// What the Engine last said about the image as a whole, such as `Pulling from library/nginx`.
    pub status: String,
    /// The digest of the image, once the Engine has told it.
    pub digest: Option<String>,
}

/// How far one layer has come.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LayerProgress {
    /// The first 12 digits of its digest.
    pub id: String,
    /// What is being done.
    pub phase: LayerPhase,
    /// Bytes that have been downloaded.
    pub downloaded: u64,
    /// Bytes that have been unpacked; 0 where the Engine does not tell.
    pub extracted: u64,
    /// Bytes of the packed layer; 0 until the Engine tells.
    pub total: u64,
}

/// What is being done with a layer.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum LayerPhase {
    /// Nothing yet.
    #[default]
    Waiting,
    /// The download failed and will be tried again.
    Retrying,
    /// It is being downloaded.
    Downloading,
    /// Its digest is being checked.
    Verifying,
    /// It has been downloaded.
    Downloaded,
    /// It is being unpacked.
    Extracting,
    /// It is there.
    Complete,
    /// It was there before.
    Exists,
}

impl LayerPhase {
    /// The phase that the Engine's words for a layer stand for.
    fn of(status: &str) -> Option<Self> {
        Some(match status {
            "Pulling fs layer" | "Waiting" | "Preparing" => Self::Waiting,
            "Downloading" => Self::Downloading,
            "Verifying Checksum" => Self::Verifying,
            "Download complete" => Self::Downloaded,
            "Extracting" => Self::Extracting,
            "Pull complete" => Self::Complete,
            "Already exists" => Self::Exists,
            _ if status.starts_with("Retrying in") => Self::Retrying,
            _ => return None,
        })
    }

    /// Whether nothing more has to be done.
    const fn is_over(self) -> bool {
        matches!(self, Self::Complete | Self::Exists)
    }
}

impl PullProgress {
    /// Bytes downloaded of all layers whose size is known.
    #[must_use]
    pub fn downloaded(&self) -> u64 {
        self.layers
            .iter()
            .fold(0, |sum, layer| sum.saturating_add(layer.downloaded))
    }

    /// Bytes of all layers whose size is known; layers that were there before don't count.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.layers
            .iter()
            .fold(0, |sum, layer| sum.saturating_add(layer.total))
    }

    /// How many layers are there.
    #[must_use]
    pub fn complete(&self) -> usize {
        self.layers
            .iter()
            .filter(|layer| layer.phase.is_over())
            .count()
    }

    /// Whether the Engine unpacks: some layer is at it, or all have been downloaded.
    #[must_use]
    pub fn is_unpacking(&self) -> bool {
        self.layers
            .iter()
            .any(|layer| layer.phase == LayerPhase::Extracting)
            || (!self.layers.is_empty()
                && self
                    .layers
                    .iter()
                    .all(|layer| layer.phase >= LayerPhase::Downloaded))
    }

    /// Takes a message in; says whether it is progress.
    ///
    /// Progress is a new layer, another phase, another number of bytes, or other words about the whole image. Repeating
    /// itself, counting down to a retry and counting the seconds of an unpacking are not.
    fn apply(&mut self, message: &ProgressMessage, places: &mut HashMap<Box<str>, usize>) -> bool {
        let phase = LayerPhase::of(&message.status);
        let place = match places.get(message.id.as_str()) {
            Some(&place) => place,
            None => match phase {
                // Words about something that is not a layer: the first message has the tag for an id.
                None => return self.say(&message.status),
                Some(_) if message.id.is_empty() => return self.say(&message.status),
                Some(phase) => {
                    places.insert(message.id.as_str().into(), self.layers.len());
                    let mut layer = LayerProgress {
                        id: message.id.clone(),
                        phase,
                        ..LayerProgress::default()
                    };
                    layer.count(message);
                    self.layers.push(layer);
                    return true;
                }
            },
        };
        let layer = &mut self.layers[place];
        let before = (layer.phase, layer.downloaded, layer.extracted, layer.total);
        layer.phase = phase.unwrap_or(layer.phase);
        layer.count(message);
        before != (layer.phase, layer.downloaded, layer.extracted, layer.total)
    }

    /// Notes words about the whole image; says whether they are other ones.
    fn say(&mut self, status: &str) -> bool {
        if let Some(digest) = status.strip_prefix("Digest: ") {
            self.digest = Some(digest.to_owned());
        }
        if status.is_empty() || self.status == status {
            return false;
        }
        status.clone_into(&mut self.status);
        true
    }
}

impl LayerProgress {
    /// Takes the numbers of a message in.
    fn count(&mut self, message: &ProgressMessage) {
        let detail = &message.progress_detail;
        let in_bytes = matches!(detail.units.as_str(), "" | "bytes" | "B");
        let current = u64::try_from(detail.current).unwrap_or(0);
        let total = u64::try_from(detail.total).unwrap_or(0);
        match self.phase {
            LayerPhase::Downloading if in_bytes => {
                // A download that starts over counts from 0 again.
                self.downloaded = current;
                self.total = self.total.max(total).max(current);
            }
            LayerPhase::Extracting if in_bytes => {
                self.extracted = current;
                self.total = self.total.max(total);
                self.downloaded = self.total;
            }
            LayerPhase::Downloaded => self.downloaded = self.total,
            LayerPhase::Complete => (self.downloaded, self.extracted) = (self.total, self.total),
            LayerPhase::Waiting | LayerPhase::Retrying => self.downloaded = 0,
            _ => {}
        }
    }
}

impl fmt::Display for PullProgress {
    /// One line: layers and bytes, and the first layer that is not complete.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.layers.is_empty() {
            return f.write_str(if self.status.is_empty() {
                "its very beginning"
            } else {
                &self.status
            });
        }
        write!(
            f,
            "{} of {} layers, {} of {} bytes downloaded",
            self.complete(),
            self.layers.len(),
            self.downloaded(),
            self.total()
        )?;
        match self.layers.iter().find(|layer| !layer.phase.is_over()) {
            Some(layer) => write!(f, "; layer {} {}", layer.id, layer.phase),
            None => write!(f, "; {}", self.status),
        }
    }
}

impl fmt::Display for LayerPhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Waiting => "is waiting",
            Self::Retrying => "is to be downloaded again",
            Self::Downloading => "is being downloaded",
            Self::Verifying => "is being verified",
            Self::Downloaded => "has been downloaded",
            Self::Extracting => "is being unpacked",
            Self::Complete => "is complete",
            Self::Exists => "was there",
        })
    }
}

/// A reference as the Engine takes it: the name, and the tag or digest. Whether they are well formed is left to the Engine.
///
/// A digest goes before a tag. Without both the tag is `latest`: the Engine would take all tags there are.
pub(crate) fn split_reference(
    operation: Operation,
    reference: &str,
) -> Result<(&str, &str), Error> {
    let Cut { name, tag, digest } = cut(reference);
    let tag = digest.or(tag).unwrap_or("latest");
    if name.is_empty() || name.ends_with('/') || tag.is_empty() {
        return Err(Error::invalid(
            operation,
            format!(
                "{reference:?} is not the name of an image, as in registry/name:tag or name@sha256:…"
            ),
        ));
    }
    Ok((name, tag))
}

#[cfg(test)]
mod tests;
