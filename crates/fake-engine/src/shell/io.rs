//! Owns where the built-in shell's commands read and write: the process' streams, pipes between commands, files, memory.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use tokio::sync::mpsc;

use crate::clock::Nanos;
use crate::files::View;
use crate::log::StreamId;
use crate::pipes::{Chunk, Pipes};

/// A command substitution that grows beyond this is cut off, as by a closed pipe.
const SUBSTITUTION_LIMIT: usize = 16 << 20;

/// Where a process' output goes.
#[derive(Clone, Debug)]
pub(crate) enum Output {
    /// A container's first process: to its log, if it has one, and to everyone attached.
    Container {
        pipes: Arc<Pipes>,
        logged: bool,
        tty: bool,
    },
    /// An exec: to the one client that started it.
    Client {
        sender: mpsc::Sender<Chunk>,
        tty: bool,
    },
    /// A health check: kept.
    Memory(Arc<Mutex<Vec<u8>>>),
    Nowhere,
}

impl Output {
    pub(crate) fn tty(&self) -> bool {
        matches!(
            self,
            Self::Container { tty: true, .. } | Self::Client { tty: true, .. }
        )
    }

    /// Writes; waits while the reader lags.
    pub(crate) async fn write(&self, time: Nanos, stream: StreamId, data: Bytes) {
        let (stream, data) = if self.tty() {
            (StreamId::Stdout, terminal_newlines(&data))
        } else {
            (stream, data)
        };
        match self {
            Self::Container { pipes, logged, .. } => pipes.write(time, stream, data, *logged).await,
            // A client that went away leaves the exec running without a reader.
            Self::Client { sender, .. } => drop(sender.send((stream, data)).await),
            Self::Memory(buffer) => buffer
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .extend_from_slice(&data),
            Self::Nowhere => {}
        }
    }
}

/// A terminal shows each newline as carriage return and newline.
fn terminal_newlines(data: &Bytes) -> Bytes {
    if !data.contains(&b'\n') {
        return data.clone();
    }
    let mut out = Vec::with_capacity(data.len() + 8);
    for byte in data {
        if *byte == b'\n' && out.last() != Some(&b'\r') {
            out.push(b'\r');
        }
        out.push(*byte);
    }
    out.into()
}

/// Where a command writes one of its streams.
#[derive(Clone, Debug)]
pub(crate) enum Sink {
    Process(Output, StreamId),
    Pipe(mpsc::Sender<Bytes>),
    Memory(Arc<Mutex<Vec<u8>>>),
    File(View, String),
    Null,
}

impl Sink {
    /// Writes; false if nobody can read it any more.
    pub(crate) async fn write(&self, time: Nanos, data: impl Into<Bytes> + Send) -> bool {
        let data = data.into();
        if data.is_empty() {
            return true;
        }
        match self {
            Self::Process(output, stream) => output.write(time, *stream, data).await,
            Self::Pipe(sender) => return sender.send(data).await.is_ok(),
            Self::Memory(buffer) => {
                let mut buffer = buffer.lock().unwrap_or_else(PoisonError::into_inner);
                buffer.extend_from_slice(&data);
                return buffer.len() <= SUBSTITUTION_LIMIT;
            }
            Self::File(view, path) => return view.write(path, &data, true, time).is_ok(),
            Self::Null => {}
        }
        true
    }
}

/// Where a command reads. Clones share what was not read yet.
#[derive(Clone, Debug)]
pub(crate) struct Source(Arc<tokio::sync::Mutex<Reader>>);

#[derive(Debug, Default)]
struct Reader {
    buffer: Bytes,
    input: Option<mpsc::Receiver<Bytes>>,
    terminal: Option<Terminal>,
}

/// A terminal between the client and the process: lines, echo, erase, end of file.
#[derive(Debug)]
struct Terminal {
    echo: Output,
    line: BytesMut,
}

impl Source {
    pub(crate) fn empty() -> Self {
        Self::bytes(Bytes::new())
    }

    pub(crate) fn bytes(buffer: Bytes) -> Self {
        Self(Arc::new(tokio::sync::Mutex::new(Reader {
            buffer,
            ..Reader::default()
        })))
    }

    pub(crate) fn channel(input: mpsc::Receiver<Bytes>) -> Self {
        Self(Arc::new(tokio::sync::Mutex::new(Reader {
            input: Some(input),
            ..Reader::default()
        })))
    }

    pub(crate) fn terminal(input: mpsc::Receiver<Bytes>, echo: Output) -> Self {
        let terminal = Some(Terminal {
            echo,
            line: BytesMut::new(),
        });
        Self(Arc::new(tokio::sync::Mutex::new(Reader {
            input: Some(input),
            terminal,
            ..Reader::default()
        })))
    }

    /// The next bytes; empty at the end.
    pub(crate) async fn read(&self) -> Bytes {
        let mut reader = self.0.lock().await;
        reader.fill().await;
        std::mem::take(&mut reader.buffer)
    }

    /// At most `limit` of the next bytes; empty at the end.
    pub(crate) async fn read_at_most(&self, limit: usize) -> Bytes {
        let mut reader = self.0.lock().await;
        reader.fill().await;
        let take = limit.min(reader.buffer.len());
        reader.buffer.split_to(take)
    }

    /// The next line with its newline, or what is left before the end.
    pub(crate) async fn line(&self) -> Bytes {
        let mut reader = self.0.lock().await;
        let mut line = BytesMut::new();
        loop {
            reader.fill().await;
            if reader.buffer.is_empty() {
                return line.freeze();
            }
            let end = reader
                .buffer
                .iter()
                .position(|b| *b == b'\n')
                .map(|at| at + 1);
            let take = end.unwrap_or(reader.buffer.len());
            line.extend_from_slice(&reader.buffer.split_to(take));
            if end.is_some() {
                return line.freeze();
            }
        }
    }
}

impl Reader {
    /// Waits until there is something to read or the end is reached.
    async fn fill(&mut self) {
        while self.buffer.is_empty() {
            let Some(input) = &mut self.input else { return };
            match (input.recv().await, &mut self.terminal) {
                (Some(data), None) => self.buffer = data,
                (Some(data), Some(terminal)) => {
                    let (cooked, end) = terminal.cook(&data).await;
                    self.buffer = cooked;
                    if end && self.buffer.is_empty() {
                        return;
                    }
                }
                (None, terminal) => {
                    self.input = None;
                    if let Some(terminal) = terminal {
                        self.buffer = terminal.line.split().freeze();
                    }
                }
            }
        }
    }
}

impl Terminal {
    /// Turns keys into finished lines; true if Ctrl-D asked for the end of file.
    async fn cook(&mut self, keys: &[u8]) -> (Bytes, bool) {
        let (mut done, mut echo, mut end) = (BytesMut::new(), Vec::new(), false);
        for key in keys {
            match key {
                b'\r' | b'\n' => {
                    self.line.extend_from_slice(b"\n");
                    echo.extend_from_slice(b"\r\n");
                    done.extend_from_slice(&self.line.split());
                }
                0x03 => {
                    self.line.clear();
                    echo.extend_from_slice(b"^C\r\n");
                    done.extend_from_slice(b"\n");
                }
                0x04 if self.line.is_empty() => end = true,
                0x04 => done.extend_from_slice(&self.line.split()),
                0x7f | 0x08 => {
                    if !self.line.is_empty() {
                        self.line.truncate(self.line.len() - 1);
                        echo.extend_from_slice(b"\x08 \x08");
                    }
                }
                key => {
                    self.line.extend_from_slice(&[*key]);
                    echo.push(*key);
                }
            }
        }
        self.echo.write(0, StreamId::Stdout, echo.into()).await;
        (done.freeze(), end)
    }
}
