//! Owns a connection that has left HTTP: attach and exec streams, multiplexed frames or raw, with stdin and the keys that
//! detach. Knows no containers.

use std::io;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

use crate::log::StreamId;
use crate::pipes::{Chunk, Pipes};

/// One multiplexed frame: stream number, three zeros, big-endian length, payload.
pub(crate) fn frame(stream: StreamId, payload: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(8 + payload.len());
    frame_into(&mut out, stream, payload);
    out.freeze()
}

pub(crate) fn frame_into(out: &mut BytesMut, stream: StreamId, payload: &[u8]) {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&[stream as u8, 0, 0, 0]);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(payload);
}

/// What goes over a hijacked connection.
pub(crate) struct Session {
    /// The head sent first, up to and including the blank line.
    pub(crate) head: String,
    /// Multiplexed frames, or raw bytes.
    pub(crate) framed: bool,
    pub(crate) stdout: bool,
    pub(crate) stderr: bool,
    /// Sent before anything live.
    pub(crate) earlier: Vec<Chunk>,
    pub(crate) output: Option<mpsc::Receiver<Chunk>>,
    pub(crate) input: Option<Input>,
    /// The keys that end the session without ending the process; empty where there are none.
    pub(crate) detach_keys: Vec<u8>,
    pub(crate) on_detach: Option<Box<dyn FnOnce() -> Detached + Send + Sync>>,
    /// Called for each interrupt character on a terminal.
    pub(crate) on_interrupt: Option<Box<dyn Fn() + Send + Sync>>,
}

/// What is left of a session after the detach keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Detached {
    /// The output is for others.
    Leave,
    /// The output comes to its end, which the client gets.
    ReadOn,
}

/// Where the client's bytes go.
pub(crate) struct Input {
    pub(crate) sender: mpsc::Sender<Bytes>,
    /// The container whose stdin closes with the client's (`StdinOnce`).
    pub(crate) closes: Option<Arc<Pipes>>,
    /// Whether the end of the client's input ends the output too: of a terminal, and of a stdin that stays open for the next client.
    pub(crate) ends_output: bool,
}

/// The head of a reply that turns into a stream.
pub(crate) fn head(upgrade: bool, framed_type: bool, extra: &str) -> String {
    let media = if framed_type {
        "application/vnd.docker.multiplexed-stream"
    } else {
        "application/vnd.docker.raw-stream"
    };
    if upgrade {
        format!(
            "HTTP/1.1 101 UPGRADED\r\nContent-Type: {media}\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n{extra}\r\n"
        )
    } else {
        format!("HTTP/1.1 200 OK\r\nContent-Type: {media}\r\n{extra}\r\n")
    }
}

impl Session {
    /// Runs until the output ends, the client is gone, or the detach keys come. `read` holds bytes already read.
    pub(crate) async fn run(
        mut self,
        io: &mut (impl tokio::io::AsyncRead + AsyncWrite + Unpin),
        read: Bytes,
    ) {
        let head = std::mem::take(&mut self.head);
        if io.write_all(head.as_bytes()).await.is_err() {
            return;
        }
        let (reader, writer) = tokio::io::split(io);
        let waits_for_output = self.output.is_some() || self.input.is_none();
        let input = self.input.take();
        let ends_output = input.as_ref().is_some_and(|input| input.ends_output);
        let keys = std::mem::take(&mut self.detach_keys);
        let interrupt = self.on_interrupt.take();
        let pump_in = pump_in(reader, read, input, &keys, interrupt.as_deref());
        let pump_out = pump_out(
            writer,
            Outgoing {
                framed: self.framed,
                stdout: self.stdout,
                stderr: self.stderr,
                earlier: std::mem::take(&mut self.earlier),
                output: self.output.take(),
            },
        );
        tokio::pin!(pump_in, pump_out);
        let mut detached = false;
        tokio::select! {
            result = &mut pump_out, if waits_for_output => drop(result),
            end = &mut pump_in => match end {
                InputEnd::Detached => detached = true,
                // The client will send no more; it may still read.
                InputEnd::Closed if !ends_output => drop((&mut pump_out).await),
                InputEnd::Closed => {}
            },
        }
        if detached
            && let Some(on_detach) = self.on_detach.take()
            && on_detach() == Detached::ReadOn
        {
            // The client may be gone.
            drop(pump_out.await);
        }
    }
}

struct Outgoing {
    framed: bool,
    stdout: bool,
    stderr: bool,
    earlier: Vec<Chunk>,
    output: Option<mpsc::Receiver<Chunk>>,
}

/// Sends the output and then the end of it.
async fn pump_out(mut writer: impl AsyncWrite + Unpin, mut out: Outgoing) -> io::Result<()> {
    let wanted = |stream| match stream {
        StreamId::Stdout => out.stdout,
        StreamId::Stderr => out.stderr,
    };
    let encode = |(stream, data): Chunk| {
        if out.framed {
            frame(stream, &data)
        } else {
            data
        }
    };
    for chunk in std::mem::take(&mut out.earlier) {
        if wanted(chunk.0) {
            writer.write_all(&encode(chunk)).await?;
        }
    }
    while let Some(output) = &mut out.output
        && let Some(chunk) = output.recv().await
    {
        if wanted(chunk.0) {
            writer.write_all(&encode(chunk)).await?;
            writer.flush().await?;
        }
    }
    writer.shutdown().await
}

enum InputEnd {
    Closed,
    Detached,
}

async fn pump_in(
    mut reader: impl tokio::io::AsyncRead + Unpin,
    already: Bytes,
    input: Option<Input>,
    keys: &[u8],
    interrupt: Option<&(dyn Fn() + Send + Sync)>,
) -> InputEnd {
    let mut buffer = BytesMut::from(&already[..]);
    let mut input = input;
    let mut matched = 0;
    loop {
        if buffer.is_empty() {
            match reader.read_buf(&mut buffer).await {
                Ok(0) | Err(_) => break,
                Ok(_) => {}
            }
        }
        let mut data = buffer.split().freeze();
        if !keys.is_empty() {
            match strip_keys(&data, keys, &mut matched) {
                Some(passed) => data = passed,
                None => return InputEnd::Detached,
            }
        }
        if let Some(interrupt) = interrupt {
            for _ in data.iter().filter(|byte| **byte == 0x03) {
                interrupt();
            }
        }
        if let Some(open) = &input
            && !data.is_empty()
            && open.sender.send(data).await.is_err()
        {
            // Nobody reads stdin any more: the rest is read and dropped, as from a closed pipe.
            input = None;
        }
        buffer.reserve(8 * 1024);
    }
    if let Some(Input { sender, closes, .. }) = input {
        drop(sender);
        if let Some(pipes) = closes {
            pipes.lock().close_stdin();
        }
    }
    InputEnd::Closed
}

/// Passes on what is not part of the detach keys; `None` once all of them came in a row.
fn strip_keys(data: &[u8], keys: &[u8], matched: &mut usize) -> Option<Bytes> {
    let mut out = Vec::with_capacity(data.len());
    for byte in data {
        if *byte == keys[*matched] {
            *matched += 1;
            if *matched == keys.len() {
                return None;
            }
            continue;
        }
        out.extend_from_slice(&keys[..*matched]);
        *matched = usize::from(*byte == keys[0]);
        if *matched == 0 {
            out.push(*byte);
        }
    }
    Some(out.into())
}

/// `ctrl-p,ctrl-q` as bytes; `None` if a key is neither one character nor `ctrl-` and a letter or one of `@[\]^_`.
pub(crate) fn parse_detach_keys(text: &str) -> Option<Vec<u8>> {
    let text = if text.is_empty() {
        "ctrl-p,ctrl-q"
    } else {
        text
    };
    let key = |key: &str| match (key.strip_prefix("ctrl-"), key.as_bytes()) {
        (Some(letter), _) => match letter.as_bytes() {
            [c @ b'a'..=b'z'] => Some(c - b'a' + 1),
            [c @ b'@'..=b'_'] => Some(c - b'@'),
            _ => None,
        },
        (None, [c]) if c.is_ascii() => Some(*c),
        _ => None,
    };
    text.split(',').map(key).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn detach_keys_are_found_across_reads_and_other_bytes_pass() {
        let keys = parse_detach_keys("").unwrap();
        assert_eq!(keys, [0x10, 0x11]);
        let mut matched = 0;
        assert_eq!(strip_keys(b"a\x10", &keys, &mut matched).unwrap(), "a");
        assert_eq!(strip_keys(b"b", &keys, &mut matched).unwrap(), "\x10b");
        assert_eq!(strip_keys(b"\x10", &keys, &mut matched).unwrap(), "");
        assert_eq!(strip_keys(b"\x11", &keys, &mut matched), None);
    }

    #[test]
    fn a_bad_detach_key_is_refused() {
        assert_eq!(parse_detach_keys("ctrl-"), None);
        assert_eq!(parse_detach_keys("a,ctrl-["), Some(vec![b'a', 0x1b]));
    }
}
