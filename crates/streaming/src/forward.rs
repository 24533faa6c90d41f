//! The run of one port-forward session, whatever the protocol: a task for each forwarded connection, and one future that owns them and
//! moves their bytes to and from the client.
//!
//! ```text
//!   Opened ──Connect──► connecting ──► both ways ──End (client)───► to the client only ──► gone
//!      │ 30 s               │ refused     └──end of the port's side──► to the port only ──┘
//!      └────────────────────┴──► gone, with a message; the session goes on
//! ```
//!
//! Neither protocol has flow control for each connection: one whose port takes nothing holds up the session once 256 KiB wait.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep_until, timeout};

use crate::link::{Link, Lost, OUTPUT_FULL, later};
use crate::session::{Connect, INPUT_BUFFER};
use crate::spdy;
use crate::spdy::frame::GoAway;
use crate::upgrade::Timeouts;
use crate::{ProtocolError, websocket};

/// How often a client is sent a sign of life while its connection is not read because a port takes nothing.
const PROBE: Duration = Duration::from_secs(15);

/// How long to wait for a WebSocket client to agree to the end.
const LINGER: Duration = Duration::from_secs(5);

/// Bytes read from a port at a time.
const READ: usize = 16 * 1024;

/// Pieces from all ports on the way to a client that reads too slowly: 128 KiB at most.
const PIECES: usize = 8;

/// What a client does in a session. A connection has an id of its protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// There is a connection, which may get data before it has a port.
    Opened {
        /// The connection.
        id: u32,
    },
    /// Half a connection waits for the other. Tell the protocol when that has been too long.
    Waiting {
        /// By which the protocol knows it.
        serial: u64,
    },
    /// A connection has a port.
    Connect {
        /// The connection.
        id: u32,
        /// The port.
        port: u16,
    },
    /// Bytes for the port.
    Data {
        /// The connection.
        id: u32,
        /// The bytes.
        bytes: Bytes,
    },
    /// No more bytes for the port.
    End {
        /// The connection.
        id: u32,
    },
    /// The client gave a connection up.
    Lost {
        /// The connection.
        id: u32,
    },
    /// The client closed the session in good order.
    Left,
}

/// The protocol of one session.
pub(crate) enum Wire {
    Spdy(Box<spdy::forward::Forward>),
    WebSocket(websocket::forward::Forward),
}

impl Wire {
    fn receive(
        &mut self,
        input: &mut BytesMut,
        out: &mut BytesMut,
    ) -> Result<Option<Event>, ProtocolError> {
        match self {
            Wire::Spdy(forward) => forward.receive(input, out),
            Wire::WebSocket(forward) => forward.receive(input, out),
        }
    }

    fn send(&mut self, id: u32, bytes: &[u8], out: &mut BytesMut) {
        match self {
            Wire::Spdy(forward) => forward.send(id, bytes, out),
            Wire::WebSocket(forward) => forward.send(id, bytes, out),
        }
    }

    fn close(&mut self, id: u32, out: &mut BytesMut) {
        match self {
            Wire::Spdy(forward) => forward.close(id, out),
            Wire::WebSocket(forward) => forward.close(),
        }
    }

    fn fail(&mut self, id: u32, what: &str, out: &mut BytesMut) {
        match self {
            Wire::Spdy(forward) => forward.fail(id, what, out),
            Wire::WebSocket(forward) => forward.fail(id, what, out),
        }
    }

    fn is_over(&self) -> bool {
        match self {
            // The client can always ask for another connection.
            Wire::Spdy(_) => false,
            Wire::WebSocket(forward) => forward.is_over(),
        }
    }

    fn probe(&mut self, out: &mut BytesMut) {
        match self {
            Wire::Spdy(forward) => forward.ping(out),
            Wire::WebSocket(forward) => forward.pong(out),
        }
    }

    fn last_word(&mut self, broken: bool, out: &mut BytesMut) {
        match self {
            Wire::Spdy(forward) if broken => forward.go_away(GoAway::ProtocolError, out),
            Wire::Spdy(forward) => forward.go_away(GoAway::Ok, out),
            Wire::WebSocket(forward) if broken => forward.refuse(out),
            Wire::WebSocket(forward) => forward.finish(out),
        }
    }
}

/// What a connection's task sends.
enum Piece {
    Data(Bytes),
    /// The port's side sends nothing more.
    End,
    /// Both directions are over.
    Done,
    /// There is no connection to the port.
    Failed(String),
    /// There was one, and it broke.
    Broken(String),
}

struct Pair {
    /// To the connection's task. `None` when the client has ended, or the port takes nothing more.
    input: Option<DuplexStream>,
    /// The task's end, until there is a task.
    other: Option<DuplexStream>,
    task: Option<AbortHandle>,
}

struct Forward {
    link: Link,
    wire: Wire,
    connect: Connect,
    timeouts: Timeouts,
    pairs: HashMap<u32, Pair>,
    tasks: JoinSet<()>,
    sender: mpsc::Sender<(u32, Piece)>,
    pieces: mpsc::Receiver<(u32, Piece)>,
    /// Bytes that a port has not taken. While there are some, the connection is not read.
    held: Option<(u32, Bytes)>,
    /// When the next sign of life is due, while the connection is not read.
    probe: Option<Instant>,
    /// Halves of connections, and how long they may wait.
    waiting: VecDeque<(Instant, u64)>,
}

enum Step {
    Progress,
    Left,
}

/// Runs a session until its client ends it or all its connections are over.
///
/// # Errors
/// Why it ended otherwise.
pub(crate) async fn serve(
    link: Link,
    wire: Wire,
    connect: Connect,
    timeouts: Timeouts,
    mut stop: Pin<&mut (impl Future<Output = ()> + Send)>,
) -> Result<(), Lost> {
    let (sender, pieces) = mpsc::channel(PIECES);
    let mut forward = Forward {
        link,
        wire,
        connect,
        timeouts,
        pairs: HashMap::new(),
        tasks: JoinSet::new(),
        sender,
        pieces,
        held: None,
        probe: None,
        waiting: VecDeque::new(),
    };
    let end = loop {
        tokio::select! {
            step = forward.step() => match step {
                Ok(Step::Left) => break Ok(()),
                Ok(Step::Progress) if forward.wire.is_over() => {
                    break forward.finish().await;
                }
                Ok(Step::Progress) => {}
                Err(lost) => break Err(lost),
            },
            () = &mut stop => break Err(Lost::Stopped),
        }
    };
    let Forward {
        mut link,
        mut wire,
        mut tasks,
        ..
    } = forward;
    tasks.abort_all();
    match &end {
        Err(Lost::Failed(_) | Lost::Closed) => return end,
        Err(Lost::Protocol(_)) => wire.last_word(true, &mut link.output),
        Err(_) | Ok(()) => wire.last_word(false, &mut link.output),
    }
    link.close().await;
    end
}

impl Forward {
    /// Says goodbye to a client that has nothing more to come.
    async fn finish(&mut self) -> Result<(), Lost> {
        self.wire.last_word(false, &mut self.link.output);
        while !self.link.is_flushed() {
            self.step().await?;
        }
        let gone = async { while let Ok(Step::Progress) = self.step().await {} };
        // It has been told; that it is gone, or stays, is no failure.
        let _ = timeout(LINGER, gone).await;
        Ok(())
    }

    /// Waits for the next thing to happen, and does it.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing: each branch waits on something that is only taken when it returns.
    async fn step(&mut self) -> Result<Step, Lost> {
        let read = self.held.is_none() && !self.link.is_clogged();
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
        let expiry = self.waiting.front().map_or(probe, |(at, _)| *at);
        let room = self.link.output.len() < OUTPUT_FULL;
        tokio::select! {
            turn = self.link.turn(read) => turn?,
            written = write(&mut self.pairs, self.held.as_ref()), if self.held.is_some() => {
                self.on_written(written);
            }
            Some((id, piece)) = self.pieces.recv(), if room => self.on_piece(id, piece),
            Some(ended) = self.tasks.join_next_with_id(), if !self.tasks.is_empty() => {
                if let Err(error) = ended {
                    self.on_lost_task(&error);
                }
            }
            () = sleep_until(expiry), if !self.waiting.is_empty() => {
                if let Some((_, serial)) = self.waiting.pop_front()
                    && let Wire::Spdy(forward) = &mut self.wire
                    && let Some(id) = forward.expire(serial, &mut self.link.output)
                {
                    self.forget(id);
                }
            }
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
            Event::Opened { id } => {
                let (input, other) = tokio::io::duplex(INPUT_BUFFER);
                let pair = Pair {
                    input: Some(input),
                    other: Some(other),
                    task: None,
                };
                self.pairs.insert(id, pair);
            }
            Event::Waiting { serial } => {
                let until = later(Instant::now(), self.timeouts.streams);
                self.waiting.push_back((until, serial));
            }
            Event::Connect { id, port } => {
                if let Some(pair) = self.pairs.get_mut(&id)
                    && let Some(input) = pair.other.take()
                {
                    let (connect, sender) = (self.connect.clone(), self.sender.clone());
                    let task = self.tasks.spawn(async move {
                        let last = carry(id, port, connect, input, &sender).await;
                        // Nobody listens when the session is over.
                        let _ = sender.send((id, last)).await;
                    });
                    pair.task = Some(task);
                }
            }
            Event::Data { id, bytes } => {
                if self.pairs.get(&id).is_some_and(|pair| pair.input.is_some()) {
                    self.held = Some((id, bytes));
                }
            }
            Event::End { id } => {
                if let Some(pair) = self.pairs.get_mut(&id) {
                    pair.input = None;
                }
            }
            Event::Lost { id } => self.forget(id),
            Event::Left => return Step::Left,
        }
        Step::Progress
    }

    fn on_written(&mut self, written: Option<usize>) {
        let Some((id, bytes)) = &mut self.held else {
            return;
        };
        match written {
            Some(written) => bytes.advance(written),
            None => {
                // The port takes no more; the rest of what comes is thrown away.
                if let Some(pair) = self.pairs.get_mut(id) {
                    pair.input = None;
                }
                bytes.clear();
            }
        }
        if bytes.is_empty() {
            self.held = None;
        }
    }

    fn on_piece(&mut self, id: u32, piece: Piece) {
        // Of a connection that was given up while this was on its way.
        if !self.pairs.contains_key(&id) {
            return;
        }
        let out = &mut self.link.output;
        match (piece, &mut self.wire) {
            (Piece::Data(bytes), wire) => wire.send(id, &bytes, out),
            (Piece::End, Wire::Spdy(forward)) => forward.end(id, out),
            // Half of a connection cannot be closed here.
            (Piece::End, Wire::WebSocket(_)) | (Piece::Done, _) => {
                self.wire.close(id, out);
                self.forget(id);
            }
            (Piece::Broken(what), Wire::Spdy(forward)) => {
                tracing::debug!(%what, "a forwarded connection broke");
                forward.abort(id, out);
                self.forget(id);
            }
            (Piece::Failed(what) | Piece::Broken(what), wire) => {
                wire.fail(id, &what, out);
                self.forget(id);
            }
        }
    }

    /// A task that did not come to its end: it was aborted, or it panicked.
    fn on_lost_task(&mut self, error: &tokio::task::JoinError) {
        let id = self.pairs.iter().find_map(|(id, pair)| {
            (pair.task.as_ref().map(AbortHandle::id) == Some(error.id())).then_some(*id)
        });
        if let Some(id) = id {
            tracing::error!(%error, "the task of a forwarded connection is lost");
            self.wire.fail(id, "internal error", &mut self.link.output);
            self.forget(id);
        }
    }

    fn forget(&mut self, id: u32) {
        if let Some(task) = self.pairs.remove(&id).and_then(|pair| pair.task) {
            task.abort();
        }
        if self.held.as_ref().is_some_and(|(held, _)| *held == id) {
            self.held = None;
        }
    }
}

/// Writes to a port's task. `None` if it takes no more.
async fn write(pairs: &mut HashMap<u32, Pair>, held: Option<&(u32, Bytes)>) -> Option<usize> {
    let (id, bytes) = held?;
    match pairs.get_mut(id)?.input.as_mut()?.write(bytes).await {
        Ok(0) | Err(_) => None,
        Ok(written) => Some(written),
    }
}

/// Connects to a port and carries bytes both ways until both are over. Returns how it ended.
async fn carry(
    id: u32,
    port: u16,
    connect: Connect,
    mut input: DuplexStream,
    sender: &mpsc::Sender<(u32, Piece)>,
) -> Piece {
    let text = |error: std::io::Error| format!("error forwarding port {port} to pod: {error}");
    let target = match connect(port).await {
        Ok(target) => target,
        Err(error) => return Piece::Failed(text(error)),
    };
    let (mut read, mut write) = tokio::io::split(target);
    let to_port = async move {
        // A port that takes nothing more may still send; its failure shows there, if it is one.
        let _ = tokio::io::copy(&mut input, &mut write).await;
        let _ = write.shutdown().await;
        Ok(())
    };
    let to_client = async {
        let mut buffer = vec![0; READ];
        loop {
            let length = read.read(&mut buffer).await?;
            let piece = match length {
                0 => Piece::End,
                length => Piece::Data(Bytes::copy_from_slice(&buffer[..length])),
            };
            if sender.send((id, piece)).await.is_err() || length == 0 {
                return Ok(());
            }
        }
    };
    match tokio::try_join!(to_port, to_client) {
        Ok(((), ())) => Piece::Done,
        Err(error) => Piece::Broken(text(error)),
    }
}
