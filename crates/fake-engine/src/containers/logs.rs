//! Owns `GET /containers/{id}/logs`: which records a client gets, framed, and how a follower waits for more.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use hyper::StatusCode;

use crate::clock::Nanos;
use crate::engine::Inner;
use crate::http::{Answer, ApiError, Call, streamed, typed};
use crate::log::{Record, StreamId};
use crate::pipes::Pipes;
use crate::session::frame_into;
use crate::time::{parse_unix, rfc3339_fixed};

/// Records sent in one piece at most, in bytes.
const BATCH: usize = 64 * 1024;

struct Follower {
    engine: Arc<Inner>,
    pipes: Arc<Pipes>,
    next: usize,
    /// The run whose end ends the stream; `None` when only what is there is wanted.
    run: Option<u64>,
    stdout: bool,
    stderr: bool,
    since: Nanos,
    until: Option<Nanos>,
    timestamps: bool,
    /// Attributes shown with `details`; empty without.
    details: String,
    framed: bool,
    done: bool,
}

/// `GET /containers/{id}/logs`
pub(crate) async fn logs(call: Call) -> Answer {
    let query = &call.query;
    let (stdout, stderr) = (query.flag("stdout"), query.flag("stderr"));
    if !stdout && !stderr {
        return Err(ApiError::bad(
            "Bad parameters: you must choose at least one stream",
        ));
    }
    let moment = |name: &str| match query
        .get(name)
        .filter(|text| !text.is_empty() && *text != "0")
    {
        None => Ok(None),
        Some(text) => parse_unix(text).map(Some).ok_or_else(|| {
            ApiError::bad(format!(
                "invalid value for {name:?}: {text:?} is not a Unix time"
            ))
        }),
    };
    let (since, until) = (moment("since")?.unwrap_or(0), moment("until")?);
    let tail = match query.get("tail").unwrap_or_default() {
        "" | "all" => None,
        // As the engine: what is no number, or a negative one, means all.
        text => text.parse::<usize>().ok(),
    };
    let state = call.engine.state();
    let container = state.container(&call.target)?;
    if container.host.acts.log_config.driver == "none" {
        return Err(ApiError::new(
            StatusCode::NOT_IMPLEMENTED,
            "configured logging driver does not support reading",
        ));
    }
    let pipes = Arc::clone(&container.pipes);
    let (tty, next, run) = {
        let inner = pipes.lock();
        let next = tail.map_or(0, |count| inner.log.tail(count));
        (
            container.config.tty,
            next,
            inner.run.filter(|_| query.flag("follow")),
        )
    };
    let details = if query.flag("details") {
        " ".to_owned()
    } else {
        String::new()
    };
    let timestamps = query.flag("timestamps");
    drop(state);
    let content_type = match (call.api.at_least(42), tty) {
        (true, true) | (false, _) => "application/vnd.docker.raw-stream",
        (true, false) => "application/vnd.docker.multiplexed-stream",
    };
    let engine = Arc::clone(&call.engine);
    let follower = Follower {
        engine,
        pipes,
        next,
        run,
        stdout,
        stderr,
        since,
        until,
        timestamps,
        details,
        framed: !tty,
        done: false,
    };
    let chunks = futures_util::stream::unfold(follower, |mut follower| async move {
        let chunk = follower.chunk().await?;
        Some((chunk, follower))
    });
    Ok(typed(content_type, streamed(chunks)).into())
}

impl Follower {
    /// The next records; waits for them while following.
    async fn chunk(&mut self) -> Option<Bytes> {
        let pipes = Arc::clone(&self.pipes);
        loop {
            if self.done {
                return None;
            }
            // Registered before looking, so that a change in between is not missed.
            let changed = pipes.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let batch = self.batch();
            if !batch.is_empty() {
                return Some(batch);
            }
            if self.done {
                return None;
            }
            match self.until {
                None => changed.await,
                Some(until) => tokio::select! {
                    () = changed => {}
                    _ = self.engine.clock.sleep_until(until) => self.done = true,
                },
            }
        }
    }

    fn batch(&mut self) -> Bytes {
        let pipes = Arc::clone(&self.pipes);
        let state = pipes.lock();
        let mut out = BytesMut::new();
        while let Some((number, record)) = state.log.get(self.next) {
            if out.len() >= BATCH {
                return out.freeze();
            }
            self.next = number + 1;
            if self.until.is_some_and(|until| record.time > until) {
                self.done = true;
                return out.freeze();
            }
            self.write(record, &mut out);
        }
        // All there is was sent: done unless the run being followed goes on.
        self.done = self.run.is_none() || state.run != self.run;
        out.freeze()
    }

    fn write(&self, record: &Record, out: &mut BytesMut) {
        let wanted = match record.stream {
            StreamId::Stdout => self.stdout,
            StreamId::Stderr => self.stderr,
        };
        if !wanted || record.time < self.since {
            return;
        }
        if !self.timestamps && self.details.is_empty() {
            return if self.framed {
                frame_into(out, record.stream, &record.text)
            } else {
                out.extend_from_slice(&record.text)
            };
        }
        let mut line = BytesMut::new();
        if self.timestamps {
            line.extend_from_slice(rfc3339_fixed(record.time).as_bytes());
            line.extend_from_slice(b" ");
        }
        line.extend_from_slice(self.details.as_bytes());
        line.extend_from_slice(&record.text);
        if self.framed {
            frame_into(out, record.stream, &line)
        } else {
            out.extend_from_slice(&line)
        }
    }
}
