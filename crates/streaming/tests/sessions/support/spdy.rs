//! A small SPDY client in the manner of Go's: what the upstream kubelet, crictl and kubectl send. It shares no code with the server but
//! the dictionary.

use std::collections::BTreeMap;

use berth_streaming::spdy::dictionary::DICTIONARY;
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use tokio::io::{
    AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, Join, ReadHalf, Sink, WriteHalf,
};

use super::http::{self, Reply};

pub(crate) const V4: &[&str] = &[
    "v5.channel.k8s.io",
    "v4.channel.k8s.io",
    "v3.channel.k8s.io",
    "v2.channel.k8s.io",
    "channel.k8s.io",
];

/// What has come for a stream.
#[derive(Debug, Default, Clone)]
pub(crate) struct Stream {
    pub(crate) data: Vec<u8>,
    pub(crate) replied: bool,
    pub(crate) fin: bool,
    pub(crate) reset: Option<u32>,
}

impl Stream {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.data).unwrap()
    }
}

/// A frame as it came, for the tests of their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Seen {
    Reply(u32),
    Data(u32, usize),
    Fin(u32),
    Reset(u32, u32),
    Ping(u32),
    GoAway(u32),
}

pub(crate) struct Client<S> {
    pub(crate) io: S,
    deflate: Compress,
    inflate: Decompress,
    next: u32,
    pub(crate) streams: BTreeMap<u32, Stream>,
    pub(crate) seen: Vec<Seen>,
    /// The server closed its half of the connection.
    pub(crate) closed: bool,
    /// A frame of which a part has been read.
    partial: Vec<u8>,
}

/// The streams of an exec.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Ids {
    pub(crate) error: u32,
    pub(crate) stdin: u32,
    pub(crate) stdout: u32,
    pub(crate) stderr: u32,
    pub(crate) resize: u32,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// Upgrades, with one line per protocol as Go does.
    pub(crate) async fn connect(
        mut io: S,
        path: &str,
        protocols: &[&str],
    ) -> Result<(Client<S>, Reply), Reply> {
        let mut fields = vec![("Connection", "Upgrade"), ("Upgrade", "SPDY/3.1")];
        fields.extend(
            protocols
                .iter()
                .map(|name| ("X-Stream-Protocol-Version", *name)),
        );
        let reply = http::ask(&mut io, "POST", path, &fields).await;
        if reply.status != 101 {
            return Err(reply);
        }
        Ok((Client::over(io), reply))
    }

    /// A client on a connection that has been upgraded.
    pub(crate) fn over(io: S) -> Client<S> {
        let mut deflate = Compress::new(Compression::best(), true);
        deflate.set_dictionary(DICTIONARY).unwrap();
        Client {
            io,
            deflate,
            inflate: Decompress::new(true),
            next: 1,
            streams: BTreeMap::new(),
            seen: Vec::new(),
            closed: false,
            partial: Vec::new(),
        }
    }

    pub(crate) async fn exec(io: S) -> Client<S> {
        Client::connect(io, "/exec", V4)
            .await
            .expect("an upgrade")
            .0
    }

    pub(crate) async fn port_forward(io: S) -> Client<S> {
        Client::connect(io, "/portforward", &["portforward.k8s.io"])
            .await
            .expect("an upgrade")
            .0
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        self.io.write_all(bytes).await.unwrap();
    }

    /// Opens a stream without waiting for the answer.
    pub(crate) async fn syn(&mut self, headers: &[(&str, &str)]) -> u32 {
        let id = self.next;
        self.next += 2;
        let frame = self.syn_frame(id, headers);
        self.write(&frame).await;
        id
    }

    pub(crate) fn syn_frame(&mut self, id: u32, headers: &[(&str, &str)]) -> Vec<u8> {
        let mut block = u32::try_from(headers.len()).unwrap().to_be_bytes().to_vec();
        for text in headers.iter().flat_map(|(name, value)| [name, value]) {
            block.extend_from_slice(&u32::try_from(text.len()).unwrap().to_be_bytes());
            block.extend_from_slice(text.as_bytes());
        }
        let mut payload = Vec::with_capacity(block.len() + 1024);
        payload.extend_from_slice(&id.to_be_bytes());
        payload.extend_from_slice(&[0; 6]);
        self.deflate
            .compress_vec(&block, &mut payload, FlushCompress::Sync)
            .unwrap();
        let mut frame = vec![0x80, 3, 0, 1, 0];
        frame.extend_from_slice(&u32::try_from(payload.len()).unwrap().to_be_bytes()[1..]);
        frame.extend_from_slice(&payload);
        self.streams.entry(id).or_default();
        frame
    }

    /// Opens a stream and waits for the answer, as Go does.
    pub(crate) async fn open(&mut self, headers: &[(&str, &str)]) -> u32 {
        let id = self.syn(headers).await;
        self.until(|client| client.streams[&id].replied || client.streams[&id].reset.is_some())
            .await;
        id
    }

    /// Opens the streams of an exec in Go's order.
    pub(crate) async fn open_exec(&mut self, kinds: &[&str]) -> Ids {
        let mut ids = Ids::default();
        for kind in kinds {
            let id = self.open(&[("streamtype", kind)]).await;
            match *kind {
                "error" => ids.error = id,
                "stdin" => ids.stdin = id,
                "stdout" => ids.stdout = id,
                "stderr" => ids.stderr = id,
                "resize" => ids.resize = id,
                other => panic!("{other}"),
            }
        }
        ids
    }

    pub(crate) async fn send(&mut self, id: u32, bytes: &[u8], fin: bool) {
        let frame = data_frame(id, bytes, fin);
        self.write(&frame).await;
    }

    pub(crate) async fn ping(&mut self, id: u32) {
        let mut frame = vec![0x80, 3, 0, 6, 0, 0, 0, 4];
        frame.extend_from_slice(&id.to_be_bytes());
        self.write(&frame).await;
    }

    pub(crate) async fn reset(&mut self, id: u32, status: u32) {
        let mut frame = vec![0x80, 3, 0, 3, 0, 0, 0, 8];
        frame.extend_from_slice(&id.to_be_bytes());
        frame.extend_from_slice(&status.to_be_bytes());
        self.write(&frame).await;
    }

    /// Reads frames until `done`. Fails when the server closes before.
    pub(crate) async fn until(&mut self, done: impl Fn(&Client<S>) -> bool) {
        while !done(self) {
            assert!(
                self.read_frame().await,
                "the server closed; seen {:?}",
                self.seen
            );
        }
    }

    /// Reads frames until the server closes.
    pub(crate) async fn until_closed(&mut self) {
        while self.read_frame().await {}
    }

    /// Waits for the end of a session as a client does: of the output, then of the status.
    pub(crate) async fn finish(&mut self, ids: Ids) -> String {
        self.until(|client| {
            [ids.stdout, ids.stderr, ids.error]
                .iter()
                .all(|id| *id == 0 || client.streams[id].fin)
        })
        .await;
        self.streams[&ids.error].text().to_owned()
    }

    /// Reads bytes until there is a frame of `length`. Cancel safe. False when the connection has ended before a frame.
    async fn fill(&mut self, length: usize) -> bool {
        while self.partial.len() < length {
            let missing = length - self.partial.len();
            let mut chunk = vec![0; missing.min(64 * 1024)];
            match self.io.read(&mut chunk).await {
                Ok(0) | Err(_) => {
                    assert!(self.partial.is_empty(), "a frame is cut");
                    self.closed = true;
                    return false;
                }
                Ok(read) => self.partial.extend_from_slice(&chunk[..read]),
            }
        }
        true
    }

    /// Reads one frame. False when the server has closed. Cancel safe.
    pub(crate) async fn read_frame(&mut self) -> bool {
        if !self.fill(8).await {
            return false;
        }
        let length = u32::from_be_bytes([0, self.partial[5], self.partial[6], self.partial[7]]);
        if !self.fill(8 + length as usize).await {
            return false;
        }
        let frame = std::mem::take(&mut self.partial);
        let word = |at: usize| u32::from_be_bytes(frame[at..at + 4].try_into().unwrap());
        if frame[0] & 0x80 == 0 {
            let (id, payload) = (word(0), &frame[8..]);
            assert!(payload.len() <= 32 * 1024, "a frame of {}", payload.len());
            let stream = self.streams.get_mut(&id).expect("a known stream");
            // Go drops such data without a word.
            assert!(stream.replied, "data before the reply");
            assert!(!stream.fin && stream.reset.is_none(), "data after the end");
            stream.data.extend_from_slice(payload);
            if !payload.is_empty() {
                self.seen.push(Seen::Data(id, payload.len()));
            }
            if frame[4] & 1 != 0 {
                stream.fin = true;
                self.seen.push(Seen::Fin(id));
            }
            return true;
        }
        assert_eq!(frame[..2], [0x80, 3]);
        match frame[3] {
            2 => {
                let id = word(8);
                assert_eq!(self.inflate(&frame[12..]), [0; 4], "no headers");
                self.streams.get_mut(&id).unwrap().replied = true;
                self.seen.push(Seen::Reply(id));
            }
            3 => {
                let (id, status) = (word(8), word(12));
                self.streams.entry(id).or_default().reset = Some(status);
                self.seen.push(Seen::Reset(id, status));
            }
            6 => self.seen.push(Seen::Ping(word(8))),
            7 => self.seen.push(Seen::GoAway(word(12))),
            other => panic!("a frame of type {other}"),
        }
        true
    }

    fn inflate(&mut self, block: &[u8]) -> Vec<u8> {
        let mut out = vec![0; 1024];
        let (before_in, before_out) = (self.inflate.total_in(), self.inflate.total_out());
        let first = self
            .inflate
            .decompress(block, &mut out, FlushDecompress::Sync);
        if first.is_err_and(|error| error.needs_dictionary().is_some()) {
            self.inflate.set_dictionary(DICTIONARY).unwrap();
            let at = usize::try_from(self.inflate.total_in() - before_in).unwrap();
            self.inflate
                .decompress(&block[at..], &mut out, FlushDecompress::Sync)
                .unwrap();
        }
        assert_eq!(
            self.inflate.total_in() - before_in,
            block.len() as u64,
            "Go wants the whole payload consumed"
        );
        out.truncate(usize::try_from(self.inflate.total_out() - before_out).unwrap());
        out
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// Reads with the one and writes with the other, at the same time.
    pub(crate) fn split(self) -> (Client<Join<ReadHalf<S>, Sink>>, WriteHalf<S>) {
        let (read, write) = tokio::io::split(self.io);
        let client = Client {
            io: tokio::io::join(read, tokio::io::sink()),
            deflate: self.deflate,
            inflate: self.inflate,
            next: self.next,
            streams: self.streams,
            seen: self.seen,
            closed: self.closed,
            partial: self.partial,
        };
        (client, write)
    }
}

/// The frames that carry `bytes` as Go cuts them.
pub(crate) fn data_frames(id: u32, bytes: &[u8]) -> Vec<u8> {
    bytes
        .chunks(32 * 1024)
        .flat_map(|chunk| data_frame(id, chunk, false))
        .collect()
}

pub(crate) fn data_frame(id: u32, bytes: &[u8], fin: bool) -> Vec<u8> {
    let mut frame = id.to_be_bytes().to_vec();
    frame.push(u8::from(fin));
    frame.extend_from_slice(&u32::try_from(bytes.len()).unwrap().to_be_bytes()[1..]);
    frame.extend_from_slice(bytes);
    frame
}
