//! Processes made up for the tests.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use berth_streaming::{Outcome, Streams, Wanted};
use bytes::Bytes;
use tokio::io::AsyncReadExt as _;

pub(crate) const ALL: Wanted = Wanted {
    stdin: true,
    stdout: true,
    stderr: true,
    tty: false,
};

pub(crate) const OUTPUT: Wanted = Wanted {
    stdin: false,
    stdout: true,
    stderr: true,
    tty: false,
};

pub(crate) const TTY: Wanted = Wanted {
    stdin: true,
    stdout: true,
    stderr: false,
    tty: true,
};

/// `cat`: what comes in goes out, until it ends.
pub(crate) async fn cat(streams: Streams) -> Outcome {
    let (mut stdin, mut stdout) = (streams.stdin.unwrap(), streams.stdout.unwrap());
    match tokio::io::copy(&mut stdin, &mut stdout).await {
        Ok(_) => Outcome::Success,
        Err(error) => Outcome::Failed(error.to_string()),
    }
}

/// Writes to both outputs, then exits.
pub(crate) async fn both(streams: Streams, code: u8) -> Outcome {
    let (mut stdout, mut stderr) = (streams.stdout.unwrap(), streams.stderr.unwrap());
    stdout.send(Bytes::from_static(b"to stdout")).await.unwrap();
    stderr.send(Bytes::from_static(b"to stderr")).await.unwrap();
    Outcome::Exited(code)
}

/// Says when it is dropped.
#[derive(Clone, Default)]
pub(crate) struct Dropped(Arc<AtomicBool>);

pub(crate) struct Guard(Arc<AtomicBool>);

impl Dropped {
    pub(crate) fn guard(&self) -> Guard {
        Guard(self.0.clone())
    }

    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// All of a reader.
pub(crate) async fn read_all(reader: &mut (impl tokio::io::AsyncRead + Unpin)) -> Vec<u8> {
    let mut all = Vec::new();
    reader.read_to_end(&mut all).await.unwrap();
    all
}

/// Bytes that a mistake in order or length would change.
pub(crate) fn pattern(length: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[0]
        })
        .collect()
}
