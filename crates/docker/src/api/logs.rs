//! What containers have written.

use std::time::Duration;

use super::exec::content_framing;
use super::{about, flag};
use crate::client::{Docker, FrameStream};
use crate::error::Error;
use crate::model::Timestamp;
use crate::request::{Deadline, Method, Operation};

/// The longest silence while the Engine reads a log that it does not follow.
const READ_IDLE: Duration = Duration::from_secs(60);

/// Which part of a log [`Docker::logs`] gives.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LogsOptions {
    /// What was written to standard output.
    pub stdout: bool,
    /// What was written to standard error.
    pub stderr: bool,
    /// Only what was written at this time or later, to the nanosecond.
    pub since: Option<Timestamp>,
    /// Only what was written before this time, to the nanosecond.
    pub until: Option<Timestamp>,
    /// Each line with its time in front: RFC 3339 with nanoseconds, and a blank.
    pub timestamps: bool,
    /// Only so many of the last lines; `None` for all.
    pub tail: Option<u64>,
    /// Also what will be written, until the container ends.
    pub follow: bool,
    /// Whether the container has a terminal, if that is known. `None` asks the Engine when its reply does not say.
    pub tty: Option<bool>,
    /// The longest silence that is accepted. `None` is no limit for a follow, and 60 s otherwise.
    pub idle: Option<Duration>,
}

impl Default for LogsOptions {
    /// Everything that was written.
    fn default() -> Self {
        Self {
            stdout: true,
            stderr: true,
            since: None,
            until: None,
            timestamps: false,
            tail: None,
            follow: false,
            tty: None,
            idle: None,
        }
    }
}

impl Docker {
    /// Reads a container's log, and follows it if asked to.
    ///
    /// Output of a container with a terminal comes as standard output. Lines longer than 16 KiB come in parts; see
    /// [`FrameStream::lines`]. To go on after a lost connection ask with `timestamps` and `since` the last one seen.
    ///
    /// `GET /containers/{id}/logs`. Deadline: [`LogsOptions::idle`]. Cancel safe; dropping the stream ends it in the
    /// Engine too.
    ///
    /// # Errors
    /// 404 when there is no such container; 400 when neither output is asked for; 500 or 501 when its log driver can't be
    /// read.
    pub async fn logs(&self, container: &str, options: &LogsOptions) -> Result<FrameStream, Error> {
        let idle = options.idle.or((!options.follow).then_some(READ_IDLE));
        let request = about(
            Operation::LOGS,
            Method::Get,
            "/containers",
            container,
            "/logs",
        )?
        .query_some("stdout", flag(options.stdout))
        .query_some("stderr", flag(options.stderr))
        .query_some("since", options.since.map(Timestamp::to_query))
        .query_some("until", options.until.map(Timestamp::to_query))
        .query_some("timestamps", flag(options.timestamps))
        .query_some("tail", options.tail)
        .query_some("follow", flag(options.follow))
        .deadline(Deadline::Stream { idle });
        let stream = self.send_stream(request).await?;
        let framing = match content_framing(stream.headers()) {
            Some(framing) => framing,
            None => {
                self.framing_of(Operation::LOGS, container, options.tty)
                    .await?
            }
        };
        Ok(stream.frames(framing))
    }
}
