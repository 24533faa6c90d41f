//! The run of one exec or attach session, whatever the protocol: moves bytes between the client and the handler, and ends both in the
//! right order.
//!
//! ```text
//!   opening ──all streams──► running ──outcome──► flushing ──► lingering ──► closed
//!      │ 30 s                   │ client gone        (status)     (late streams refused)
//!      ▼                        ▼
//!   dropped                 handler dropped
//! ```
//!
//! Everything happens in one future: dropping it drops the handler's and closes the connection. Refuses to know how events are encoded.

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::AsyncWriteExt as _;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::link::{Link, Lost, OUTPUT_FULL, later};
use crate::resize;
use crate::session::{
    BoxFuture, Channel, Ends, Outcome, Run, StdinWriter, Streams, Verb, Wanted, streams,
};
use crate::spdy;
use crate::spdy::frame::GoAway;
use crate::status;
use crate::upgrade::Timeouts;
use crate::{ProtocolError, websocket};

/// How often a client is sent a sign of life while its connection is not read because its input is not taken. Go clients give up a
/// WebSocket after 61 seconds without one.
const PROBE: Duration = Duration::from_secs(15);

/// How long the handler may go on after a client left that could not end its input in another way.
const LEAVE: Duration = Duration::from_secs(10);

/// What a client does in a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// All streams are there; the process can start.
    Ready,
    /// Bytes for the process.
    Stdin(Bytes),
    /// No more bytes for the process.
    StdinEnd,
    /// The input was cut off.
    StdinLost,
    /// A piece of the terminal's sizes.
    Resize(Bytes),
    /// The client closed the session in good order. What it sent before is to be used if `ends_input`.
    Left {
        /// Leaving was the only way to end the input.
        ends_input: bool,
    },
}

/// The protocol of one session.
pub(crate) enum Wire {
    Spdy(Box<spdy::process::Process>),
    WebSocket(websocket::process::Process),
}

impl Wire {
    fn receive(
        &mut self,
        input: &mut BytesMut,
        out: &mut BytesMut,
    ) -> Result<Option<Event>, ProtocolError> {
        match self {
            Wire::Spdy(process) => process.receive(input, out),
            Wire::WebSocket(process) => process.receive(input, out),
        }
    }

    fn output(&mut self, channel: Channel, bytes: &Bytes, out: &mut BytesMut) {
        match self {
            Wire::Spdy(process) => process.output(channel, bytes, out),
            Wire::WebSocket(process) => process.output(channel, bytes, out),
        }
    }

    fn finish(&mut self, outcome: &Outcome, verb: Verb, out: &mut BytesMut) {
        let json = match self {
            Wire::Spdy(process) => process.version() >= spdy::process::Version::V4,
            Wire::WebSocket(process) => process.protocol().status_is_json(),
        };
        let status = if json {
            status::json(outcome, verb)
        } else {
            status::text(outcome, verb)
        };
        match self {
            Wire::Spdy(process) => process.finish(&status, out),
            Wire::WebSocket(process) => process.finish(&status, out),
        }
    }

    fn has_sizes(&self) -> bool {
        match self {
            Wire::Spdy(process) => process.version() >= spdy::process::Version::V3,
            Wire::WebSocket(_) => true,
        }
    }

    fn probe(&mut self, out: &mut BytesMut) {
        match self {
            Wire::Spdy(process) => process.ping(out),
            Wire::WebSocket(process) => process.pong(out),
        }
    }

    /// How long to wait for the client to end the connection first.
    fn linger(&self) -> Duration {
        match self {
            // Streams that come late are refused for as long.
            Wire::Spdy(_) => Duration::from_secs(1),
            // It has been asked to close, and answers.
            Wire::WebSocket(_) => Duration::from_secs(5),
        }
    }

    fn last_word(&mut self, broken: bool, out: &mut BytesMut) {
        match self {
            Wire::Spdy(process) if broken => process.go_away(GoAway::ProtocolError, out),
            Wire::Spdy(process) => process.go_away(GoAway::Ok, out),
            Wire::WebSocket(process) if broken => process.refuse(out),
            // The close frame was the last.
            Wire::WebSocket(_) => {}
        }
    }
}

struct Process {
    link: Link,
    wire: Wire,
    ends: Ends,
    sizes: resize::Decoder,
    /// Input that the process has not taken. While there is some, the connection is not read.
    held: Bytes,
    /// When the next sign of life is due, while the connection is not read.
    probe: Option<Instant>,
    /// No more output will come.
    output_ended: bool,
}

/// What a step of a session brought.
enum Step {
    Progress,
    Ready,
    Left { ends_input: bool },
}

/// Runs a session until it is over.
///
/// # Errors
/// Why the client did not get an outcome.
pub(crate) async fn serve(
    link: Link,
    wire: Wire,
    (verb, wanted, run): (Verb, Wanted, Run),
    timeouts: Timeouts,
    mut stop: Pin<&mut (impl Future<Output = ()> + Send)>,
) -> Result<(), Lost> {
    let (streams, mut ends) = streams(wanted);
    if !wire.has_sizes() {
        ends.resizes = None;
    }
    let mut process = Process {
        link,
        wire,
        ends,
        sizes: resize::Decoder::default(),
        held: Bytes::new(),
        probe: None,
        output_ended: false,
    };
    let lost = {
        let outcome = async {
            tokio::select! {
                opened = timeout(timeouts.streams, process.open()) => {
                    opened.map_err(|_| Lost::Streams(timeouts.streams))??;
                }
                () = &mut stop => return Err(Lost::Stopped),
            }
            process.run(guarded(run, streams), stop).await
        };
        match outcome.await {
            Ok(Some(outcome)) => process.finish(&outcome, verb).await,
            Ok(None) => Ok(()),
            Err(lost) => Err(lost),
        }
    };
    let Process {
        mut link, mut wire, ..
    } = process;
    match &lost {
        Err(Lost::Failed(_) | Lost::Closed) => return lost,
        Err(Lost::Protocol(_)) => wire.last_word(true, &mut link.output),
        Err(_) | Ok(()) => wire.last_word(false, &mut link.output),
    }
    link.close().await;
    lost
}

impl Process {
    /// Waits until the client's streams are all there.
    async fn open(&mut self) -> Result<(), Lost> {
        loop {
            match self.step().await? {
                Step::Ready => return Ok(()),
                Step::Left { .. } => return Err(Lost::Closed),
                Step::Progress => {}
            }
        }
    }

    /// Runs the handler. `None` if the client left first.
    async fn run(
        &mut self,
        mut handler: BoxFuture<Outcome>,
        mut stop: Pin<&mut (impl Future<Output = ()> + Send)>,
    ) -> Result<Option<Outcome>, Lost> {
        loop {
            tokio::select! {
                outcome = &mut handler => return Ok(Some(outcome)),
                step = self.step() => if let Step::Left { ends_input } = step? {
                    if ends_input && self.ends.stdin.is_some() {
                        self.leave(handler).await;
                    }
                    return Ok(None);
                },
                () = &mut stop => {
                    return Ok(Some(Outcome::Failed("the server is shutting down".to_owned())));
                }
            }
        }
    }

    /// Lets the handler come to its end after a client left to end its input. Nobody reads the output.
    async fn leave(&mut self, mut handler: BoxFuture<Outcome>) {
        self.end_input();
        let mut deaf = false;
        let limit = sleep(LEAVE);
        tokio::pin!(limit);
        loop {
            tokio::select! {
                _ = &mut handler => return,
                chunk = self.ends.output.recv(), if !self.output_ended => {
                    self.output_ended = chunk.is_none();
                }
                // The answer to the client's goodbye.
                turn = self.link.turn(false), if !deaf => deaf = turn.is_err(),
                () = &mut limit => return,
            }
        }
    }

    /// Tells the client how it ended, after all output.
    async fn finish(&mut self, outcome: &Outcome, verb: Verb) -> Result<(), Lost> {
        // The input has no reader any more.
        self.ends.stdin = None;
        self.held.clear();
        self.ends.output.close();
        while !self.output_ended {
            self.step().await?;
        }
        self.wire.finish(outcome, verb, &mut self.link.output);
        while !self.link.is_flushed() {
            self.step().await?;
        }
        let linger = self.wire.linger();
        let gone = async {
            loop {
                match self.step().await {
                    Ok(Step::Left { .. }) | Err(_) => return,
                    Ok(Step::Progress | Step::Ready) => {}
                }
            }
        };
        // The client has been told everything; that it is gone, or stays, is no failure.
        let _ = timeout(linger, gone).await;
        Ok(())
    }

    /// Waits for the next thing to happen, and does it.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing: each branch waits on something that is only taken when it returns.
    async fn step(&mut self) -> Result<Step, Lost> {
        let read = self.held.is_empty() && !self.link.is_clogged();
        if read {
            self.probe = None;
            let Link { input, output, .. } = &mut self.link;
            if let Some(event) = self.wire.receive(input, output)? {
                return Ok(self.on_event(event));
            }
        }
        let probe = *self
            .probe
            .get_or_insert_with(|| later(Instant::now(), PROBE));
        let output_room = self.link.output.len() < OUTPUT_FULL;
        tokio::select! {
            turn = self.link.turn(read) => turn?,
            written = write(&mut self.ends.stdin, &self.held), if !self.held.is_empty() => match written {
                Some(written) => self.held.advance(written),
                None => {
                    self.ends.stdin = None;
                    self.held.clear();
                }
            },
            chunk = self.ends.output.recv(), if !self.output_ended && output_room => match chunk {
                Some((channel, bytes)) => self.wire.output(channel, &bytes, &mut self.link.output),
                None => self.output_ended = true,
            },
            () = sleep_until(probe), if !read => {
                self.probe = None;
                // What waits to be written already shows whether the client is there.
                if self.link.is_flushed() {
                    self.wire.probe(&mut self.link.output);
                }
            }
        }
        Ok(Step::Progress)
    }

    fn on_event(&mut self, event: Event) -> Step {
        match event {
            Event::Ready => return Step::Ready,
            Event::Left { ends_input } => return Step::Left { ends_input },
            Event::Stdin(bytes) => {
                if self.ends.stdin.is_some() {
                    self.held = bytes;
                }
            }
            Event::StdinEnd => self.end_input(),
            Event::StdinLost => self.ends.stdin = None,
            Event::Resize(bytes) => {
                if let Some(sizes) = &self.ends.resizes
                    && let Some(size) = self.sizes.push(&bytes)
                {
                    sizes.send_replace(Some(size));
                }
            }
        }
        Step::Progress
    }

    fn end_input(&mut self) {
        if let Some(stdin) = self.ends.stdin.take() {
            stdin.finish();
        }
    }
}

/// The handler, whose panic is an outcome: a client that sees its connection break may take that for success.
fn guarded(run: Run, streams: Streams) -> BoxFuture<Outcome> {
    let mut handler = Box::pin(async move { run(streams).await });
    Box::pin(poll_fn(move |cx| {
        // After a panic the handler is not polled again, only dropped.
        let polled = catch_unwind(AssertUnwindSafe(|| handler.as_mut().poll(cx)));
        polled.unwrap_or_else(|_| {
            tracing::error!("a session's handler panicked");
            Poll::Ready(Outcome::Failed("the handler panicked".to_owned()))
        })
    }))
}

/// Writes input. `None` if the process takes no more.
async fn write(stdin: &mut Option<StdinWriter>, bytes: &[u8]) -> Option<usize> {
    match stdin.as_mut()?.pipe.write(bytes).await {
        Ok(0) | Err(_) => None,
        Ok(written) => Some(written),
    }
}
