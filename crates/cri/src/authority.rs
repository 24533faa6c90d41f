//! Lets clients in that name the server by its socket's path.
//!
//! Over a unix socket there is no host, and clients fill `:authority` as they like: `localhost` (the kubelet, `crictl`),
//! the path (grpc-java, older grpc-go), the path with `%2F` (gRPC for Python and C++), nothing at all. HTTP/2 here comes
//! from the `h2` crate, which resets a stream whose `:authority` is no host name, before anybody could step in. So
//! [`Tolerant`] sits between the socket and `h2` and makes a harmless name of such a one; nothing in CRI depends on it.
//!
//! It knows where frames begin and where fields of a header block begin, and no more of HTTP/2. A rewritten name is as
//! long as the one that came, so that both sides go on to agree on what is in the HPACK table. Whatever it does not
//! understand (a header block in several frames, a character outside the short codes) goes through as it came, and `h2`
//! says what it thinks of it.

use std::borrow::Cow;
use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::codegen::http::uri::Authority;

/// What a client sends first (RFC 9113, 3.4), here only its length.
const PREFACE: usize = 24;

/// The bytes in front of a frame's payload (RFC 9113, 4.1).
const FRAME_HEADER: usize = 9;

/// The largest payload that a client may send unless it was told otherwise, and ours are not (RFC 9113, 6.5.2).
const MAX_PAYLOAD: usize = 16_384;

const HEADERS: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;

/// How much is read from the socket at once.
const READ: usize = 8192;

/// A stream from an HTTP/2 client whose header blocks are read with tolerance. Writing goes straight through.
#[derive(Debug)]
pub(crate) struct Tolerant<S> {
    inner: S,
    frames: Frames,
    chunk: Box<[u8]>,
}

impl<S> Tolerant<S> {
    /// Begins before the first byte from the client.
    pub(crate) fn new(inner: S) -> Self {
        Self {
            inner,
            frames: Frames::default(),
            chunk: vec![0; READ].into(),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Tolerant<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while !this.frames.give(out) {
            let mut chunk = ReadBuf::new(&mut this.chunk);
            ready!(Pin::new(&mut this.inner).poll_read(cx, &mut chunk))?;
            if chunk.filled().is_empty() {
                this.frames.end();
                // What was held back, or nothing: the end.
                this.frames.give(out);
                break;
            }
            this.frames.take(chunk.filled());
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Tolerant<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

/// Splits what comes into frames. Only header blocks wait until they are whole.
#[derive(Debug)]
struct Frames {
    /// Came and not yet looked at: less than one frame of headers.
    held: Vec<u8>,
    /// How much of what comes next needs no look.
    pass: usize,
    /// To be read, from `given` on.
    ready: Vec<u8>,
    given: usize,
}

impl Default for Frames {
    fn default() -> Self {
        Self {
            held: Vec::new(),
            pass: PREFACE,
            ready: Vec::new(),
            given: 0,
        }
    }
}

impl Frames {
    /// Puts what is ready into `out`, as far as it goes; whether there was anything.
    fn give(&mut self, out: &mut ReadBuf<'_>) -> bool {
        let ready = &self.ready[self.given..];
        if ready.is_empty() {
            return false;
        }
        let n = ready.len().min(out.remaining());
        out.put_slice(&ready[..n]);
        self.given += n;
        if self.given == self.ready.len() {
            self.ready.clear();
            self.given = 0;
        }
        true
    }

    fn take(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.pass > 0 {
                let n = self.pass.min(bytes.len());
                self.ready.extend_from_slice(&bytes[..n]);
                self.pass -= n;
                bytes = &bytes[n..];
                continue;
            }
            let wanted = match self.held.first_chunk() {
                None => FRAME_HEADER,
                Some(head) => FRAME_HEADER + payload_len(head),
            };
            let n = (wanted - self.held.len()).min(bytes.len());
            self.held.extend_from_slice(&bytes[..n]);
            bytes = &bytes[n..];
            self.look();
        }
    }

    /// Lets go of what is held, unless it is the beginning of a header block.
    fn look(&mut self) {
        let Some(head) = self.held.first_chunk::<FRAME_HEADER>() else {
            return;
        };
        let (payload, kind, flags) = (payload_len(head), head[3], head[4]);
        if kind == HEADERS && flags & END_HEADERS != 0 && payload <= MAX_PAYLOAD {
            if self.held.len() < FRAME_HEADER + payload {
                return;
            }
            tolerate(&mut self.held);
        } else {
            self.pass = payload;
        }
        self.ready.append(&mut self.held);
    }

    fn end(&mut self) {
        self.ready.append(&mut self.held);
    }
}

fn payload_len(head: &[u8; FRAME_HEADER]) -> usize {
    usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2])
}

/// Makes a host name of the `:authority` in a frame of headers, if there is one that is none.
fn tolerate(frame: &mut Vec<u8>) {
    let Some(edit) = block(frame).and_then(|block| {
        let edit = authority(&frame[block.clone()])?;
        Some((block.start + edit.0.start..block.start + edit.0.end, edit.1))
    }) else {
        return;
    };
    let payload = frame.len() - FRAME_HEADER - edit.0.len() + edit.1.len();
    if payload > MAX_PAYLOAD {
        return;
    }
    frame.splice(edit.0, edit.1);
    // At most MAX_PAYLOAD: the first of four bytes is zero.
    if let [0, head @ ..] = u32::try_from(payload).unwrap_or(u32::MAX).to_be_bytes() {
        frame[..3].copy_from_slice(&head);
    }
}

/// Where the header block is in a frame of headers.
fn block(frame: &[u8]) -> Option<Range<usize>> {
    let flags = frame[4];
    let mut start = FRAME_HEADER;
    let mut end = frame.len();
    if flags & PADDED != 0 {
        end = end.checked_sub(usize::from(*frame.get(start)?))?;
        start += 1;
    }
    if flags & PRIORITY != 0 {
        start += 5;
    }
    (start <= end).then_some(start..end)
}

/// Which bytes of a header block to change, and to what (RFC 7541, 6).
fn authority(block: &[u8]) -> Option<(Range<usize>, Vec<u8>)> {
    let mut at = 0;
    while let Some(&first) = block.get(at) {
        let field = at;
        // A whole field from the tables. Number 1 is `:authority` with nothing in it.
        if first & 0x80 != 0 {
            if first == 0x81 {
                return Some((field..field + 1, Vec::new()));
            }
            integer(block, &mut at, 7)?;
            continue;
        }
        // A new size of the table.
        if first & 0xe0 == 0x20 {
            integer(block, &mut at, 5)?;
            continue;
        }
        // A value that comes along, with a name from the tables or one that comes along too; in the first form it is
        // put into the table.
        let remembered = first & 0xc0 == 0x40;
        let ours = match integer(block, &mut at, if remembered { 6 } else { 4 })? {
            0 => {
                let (coded, name) = string(block, &mut at)?;
                text(coded, name).is_some_and(|name| *name == *b":authority")
            }
            number => number == 1,
        };
        let value_at = at;
        let (coded, value) = string(block, &mut at)?;
        if !ours {
            continue;
        }
        if value.is_empty() {
            // One that is put into the table has to stay: nothing else would be as long there. Clients only do that
            // when somebody told them to use an empty name.
            return (!remembered).then(|| (field..at, Vec::new()));
        }
        let host = text(coded, value)?;
        if Authority::try_from(&*host).is_ok() {
            return None;
        }
        let mut replacement = Vec::with_capacity(host.len() + 3);
        put_length(&mut replacement, host.len());
        replacement.extend(host.iter().map(|byte| match byte {
            b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'.' | b'_' => *byte,
            _ => b'-',
        }));
        return Some((value_at..at, replacement));
    }
    None
}

/// An integer in the low `bits` of a byte and, where they are all ones, the bytes after it (RFC 7541, 5.1).
fn integer(block: &[u8], at: &mut usize, bits: u32) -> Option<usize> {
    let mask = (1 << bits) - 1;
    let mut value = usize::from(*block.get(*at)?) & mask;
    *at += 1;
    if value < mask {
        return Some(value);
    }
    // Three bytes reach beyond the largest block.
    for shift in [0, 7, 14] {
        let byte = *block.get(*at)?;
        *at += 1;
        value += usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// A string, and whether it is in Huffman's code (RFC 7541, 5.2).
fn string<'a>(block: &'a [u8], at: &mut usize) -> Option<(bool, &'a [u8])> {
    let coded = *block.get(*at)? & 0x80 != 0;
    let len = integer(block, at, 7)?;
    let value = block.get(*at..at.checked_add(len)?)?;
    *at += len;
    Some((coded, value))
}

/// What a string says.
fn text(coded: bool, string: &[u8]) -> Option<Cow<'_, [u8]>> {
    if coded {
        decode(string).map(Cow::Owned)
    } else {
        Some(Cow::Borrowed(string))
    }
}

/// The length of a string that is not in Huffman's code.
fn put_length(out: &mut Vec<u8>, len: usize) {
    if len < 0x7f {
        out.extend(u8::try_from(len));
        return;
    }
    out.push(0x7f);
    let mut rest = len - 0x7f;
    while rest >= 0x80 {
        out.extend(u8::try_from(rest & 0x7f).map(|low| low | 0x80));
        rest >>= 7;
    }
    out.extend(u8::try_from(rest));
}

/// The short codes of HPACK (RFC 7541, appendix B), by length: codes of one length follow each other. They have all that
/// paths are made of.
const CODES: [(u32, u32, &[u8]); 4] = [
    (5, 0x00, b"012aceiost"),
    (6, 0x14, b" %-./3456789=A_bdfghlmnpru"),
    (7, 0x5c, b":BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz"),
    (8, 0xf8, b"&*,;XZ"),
];

/// Text in Huffman's code, if it is made of the short codes alone.
fn decode(coded: &[u8]) -> Option<Vec<u8>> {
    let mut text = Vec::with_capacity(coded.len() * 8 / 5);
    let mut bytes = coded.iter();
    let (mut bits, mut have) = (0u32, 0u32);
    loop {
        while have < 8 {
            match bytes.next() {
                Some(byte) => {
                    bits = bits << 8 | u32::from(*byte);
                    have += 8;
                }
                // What is left is ones: the beginning of a code that does not end.
                None if have < 8 && bits == (1 << have) - 1 => return Some(text),
                None => break,
            }
        }
        let (len, byte) = CODES.iter().find_map(|(len, first, text)| {
            let code = bits >> have.checked_sub(*len)?;
            let index = usize::try_from(code.checked_sub(*first)?).ok()?;
            Some((*len, *text.get(index)?))
        })?;
        text.push(byte);
        have -= len;
        bits &= (1 << have) - 1;
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
        frame.extend([kind, flags, 0, 0, 0, 1]);
        frame.extend(payload);
        frame
    }

    fn headers(block: &[u8]) -> Vec<u8> {
        frame(HEADERS, END_HEADERS, block)
    }

    /// A literal that is put into the table, not in Huffman's code.
    fn literal(name: u8, value: &str) -> Vec<u8> {
        let mut field = vec![0x40 | name];
        put_length(&mut field, value.len());
        field.extend(value.bytes());
        field
    }

    /// `:method: POST`, `:scheme: http`, an authority, `te: trailers` with a name that comes along.
    fn block(authority: &[u8]) -> Vec<u8> {
        [&[0x83, 0x86], authority, b"\x40\x02te\x08trailers"].concat()
    }

    fn tolerated(mut frame: Vec<u8>) -> Vec<u8> {
        tolerate(&mut frame);
        frame
    }

    #[test]
    fn a_path_becomes_a_name_of_the_same_length() {
        for (sent, made) in [
            ("/run/berth/cri.sock", "-run-berth-cri.sock"),
            ("%2Frun%2Fberth%2Fcri.sock", "-2Frun-2Fberth-2Fcri.sock"),
            ("unix:///run/cri_1.sock", "unix----run-cri_1.sock"),
            ("/a b\u{e9}", "-a-b--"),
        ] {
            let got = tolerated(headers(&block(&literal(1, sent))));
            assert_eq!(got, headers(&block(&literal(1, made))), "{sent}");
        }
    }

    #[test]
    fn a_long_path_becomes_a_name_too() {
        for len in [126, 127, 128, 254, 255, 300] {
            let sent = "/".repeat(len);
            let got = tolerated(headers(&block(&literal(1, &sent))));
            assert_eq!(got, headers(&block(&literal(1, &"-".repeat(len)))), "{len}");
        }
    }

    #[test]
    fn a_path_in_huffmans_code_becomes_a_name() {
        // "/a.X": 011000 00011 010111 11111100, and ones to the end.
        let coded = [
            0x41,
            0x84,
            0b0110_0000,
            0b0110_1011,
            0b1111_1110,
            0b0111_1111,
        ];
        assert_eq!(decode(&coded[2..]).unwrap(), b"/a.X");
        let got = tolerated(headers(&block(&coded)));
        assert_eq!(got, headers(&block(&literal(1, "-a.X"))));
    }

    #[test]
    fn all_short_codes_are_known() {
        for (len, first, text) in CODES {
            for (code, byte) in (first..).zip(text) {
                let coded = code << (16 - len) | ((1 << (16 - len)) - 1);
                let first_byte = coded.to_be_bytes()[2];
                assert_eq!(
                    decode(&[first_byte]).unwrap(),
                    [*byte],
                    "{}",
                    char::from(*byte)
                );
            }
        }
    }

    #[test]
    fn a_long_code_or_wrong_padding_is_left_alone() {
        // "~" has 13 bits: 1111111111101, and three ones.
        assert_eq!(decode(&[0xff, 0xef]), None);
        // "a" and zeros.
        assert_eq!(decode(&[0b0001_1000]), None);
        let sent = headers(&block(&[0x41, 0x82, 0xff, 0xef]));
        assert_eq!(tolerated(sent.clone()), sent);
    }

    #[test]
    fn an_empty_authority_goes_away() {
        for empty in [&[0x81][..], &[0x01, 0x00], &[0x11, 0x00]] {
            let got = tolerated(headers(&block(empty)));
            assert_eq!(got, headers(&block(&[])), "{empty:x?}");
        }
    }

    #[test]
    fn a_host_name_is_left_as_it_came() {
        for host in [
            "localhost",
            "127.0.0.1:80",
            "[::1]:80",
            "user@host",
            "a-b_c.example",
        ] {
            let sent = headers(&block(&literal(1, host)));
            assert_eq!(tolerated(sent.clone()), sent, "{host}");
        }
        // One that is in the table already, and a table that changes its size.
        for field in [&[0xbe][..], &[0x3f, 0xe1, 0x1f], &[0xff, 0x80, 0x01]] {
            let sent = headers(&block(field));
            assert_eq!(tolerated(sent.clone()), sent, "{field:x?}");
        }
    }

    #[test]
    fn a_name_that_is_spelled_out_is_known_too() {
        let spelled = |value: &str| [b"\x40\x0a:authority", &literal(1, value)[1..]].concat();
        let got = tolerated(headers(&block(&spelled("run%2Fcri.sock"))));
        assert_eq!(got, headers(&block(&spelled("run-2Fcri.sock"))));
        let other = [b"\x40\x0auser-agent", &literal(1, "/x")[1..]].concat();
        let sent = headers(&block(&other));
        assert_eq!(tolerated(sent.clone()), sent);
        // The same in Huffman's code.
        let coded = |value: &str| {
            let name = b"\x40\x88\xb8\x3b\x53\x39\xec\x32\x7d\x7f";
            [&name[..], &literal(1, value)[1..]].concat()
        };
        let got = tolerated(headers(&block(&coded("run%2Fcri.sock"))));
        assert_eq!(got, headers(&block(&coded("run-2Fcri.sock"))));
    }

    #[test]
    fn only_the_authority_is_changed() {
        let path = literal(4, "/runtime.v1.RuntimeService/Version");
        let sent = headers(&block(&[path.clone(), literal(1, "/x")].concat()));
        assert_eq!(
            tolerated(sent),
            headers(&block(&[path, literal(1, "-x")].concat()))
        );
    }

    #[test]
    fn padding_and_priority_stay() {
        let around = |authority: &str| {
            let mut payload = vec![3, 0, 0, 0, 0, 16];
            payload.extend(block(&literal(1, authority)));
            payload.extend([0; 3]);
            frame(HEADERS, END_HEADERS | PADDED | PRIORITY, &payload)
        };
        assert_eq!(tolerated(around("/x")), around("-x"));
    }

    #[test]
    fn a_block_that_is_cut_anywhere_is_left_as_it_came() {
        let whole = block(&literal(1, "/run/cri.sock"));
        let value_ends = 2 + 2 + "/run/cri.sock".len();
        for len in 0..value_ends {
            let sent = headers(&whole[..len]);
            assert_eq!(tolerated(sent.clone()), sent, "{len}");
        }
        for sent in [
            frame(HEADERS, END_HEADERS | PADDED, &[200]),
            frame(HEADERS, END_HEADERS | PADDED, &[]),
            frame(HEADERS, END_HEADERS | PRIORITY, &[0]),
            headers(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
        ] {
            assert_eq!(tolerated(sent.clone()), sent);
        }
    }

    #[test]
    fn a_frame_that_would_grow_too_large_is_left_as_it_came() {
        let mut sent = block(&[
            0x41,
            0x84,
            0b0110_0000,
            0b0110_1011,
            0b1111_1110,
            0b0111_1111,
        ]);
        sent.extend(literal(58, &"x".repeat(MAX_PAYLOAD)));
        sent.truncate(MAX_PAYLOAD);
        let sent = headers(&sent);
        // The authority comes first, and in full letters takes as many bytes: no growth, so it is changed.
        assert_ne!(tolerated(sent.clone()), sent);

        // "/" and ten times "a" are 56 bits.
        let coded = [0x60, 0x63, 0x18, 0xc6, 0x31, 0x8c, 0x63];
        assert_eq!(decode(&coded).unwrap(), b"/aaaaaaaaaa");
        let mut sent = block(&[&[0x41, 0x87][..], &coded].concat());
        sent.extend(literal(58, &"x".repeat(MAX_PAYLOAD)));
        sent.truncate(MAX_PAYLOAD);
        let sent = headers(&sent);
        assert_eq!(tolerated(sent.clone()), sent);
    }

    /// What a client sends, with and without a path for a name.
    fn conversation(authority: &str) -> Vec<u8> {
        [
            vec![b'P'; PREFACE],
            frame(0x4, 0, &[]),
            headers(&block(&literal(1, authority))),
            frame(0x0, 1, &headers(&block(&literal(1, "/data"))).repeat(20)),
            // In several frames: not looked into.
            frame(HEADERS, 0, &literal(1, "/x")),
            frame(0x9, END_HEADERS, &literal(1, "/x")),
            headers(&block(&[0xbe])),
        ]
        .concat()
    }

    #[test]
    fn however_the_bytes_are_split_the_frames_are_the_same() {
        let (sent, made) = (conversation("/run/cri.sock"), conversation("-run-cri.sock"));
        for size in [1, 2, 3, 7, 9, 10, 64, sent.len()] {
            let mut frames = Frames::default();
            let mut got: Vec<u8> = Vec::new();
            for piece in sent.chunks(size) {
                frames.take(piece);
                let mut space = [0; 5];
                loop {
                    let mut out = ReadBuf::new(&mut space);
                    if !frames.give(&mut out) {
                        break;
                    }
                    got.extend(out.filled());
                }
            }
            assert_eq!(got, made, "{size}");
            assert!(frames.held.is_empty() && frames.ready.is_empty());
        }
    }

    #[test]
    fn data_does_not_wait_for_the_rest_of_its_frame() {
        let mut frames = Frames {
            pass: 0,
            ..Default::default()
        };
        frames.take(&frame(0x0, 0, &[7; 100])[..20]);
        assert_eq!((frames.ready.len(), frames.held.len()), (20, 0));
        assert_eq!(frames.pass, 89);
    }

    #[tokio::test]
    async fn a_stream_that_ends_in_mid_frame_gives_all_that_came() {
        let sent = conversation("/run/cri.sock");
        for len in [0, 10, PREFACE + 3, PREFACE + FRAME_HEADER + 12, sent.len()] {
            let (mut client, server) = tokio::io::duplex(sent.len());
            client.write_all(&sent[..len]).await.unwrap();
            drop(client);
            let mut got = Vec::new();
            Tolerant::new(server).read_to_end(&mut got).await.unwrap();
            assert_eq!(got.len(), len);
        }
    }

    #[tokio::test]
    async fn writing_goes_straight_through() {
        let (client, server) = tokio::io::duplex(64);
        let mut server = Tolerant::new(server);
        server.write_all(b"hello").await.unwrap();
        server.shutdown().await.unwrap();
        drop(server);
        let mut got = String::new();
        { client }.read_to_string(&mut got).await.unwrap();
        assert_eq!(got, "hello");
    }

    /// All that comes out for these pieces.
    fn through<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
        let mut frames = Frames {
            pass: 0,
            ..Default::default()
        };
        pieces.for_each(|piece| frames.take(piece));
        frames.end();
        frames.ready
    }

    proptest! {
        #[test]
        fn whatever_comes_goes_through_the_same_in_pieces(
            frames in vec((0u8..3, any::<u8>(), vec(any::<u8>(), 0..60)), 0..6),
            tail in vec(any::<u8>(), 0..30),
            size in 1usize..40,
        ) {
            let frames = frames.iter().flat_map(|(kind, flags, payload)| frame(*kind, *flags, payload));
            let sent: Vec<u8> = frames.chain(tail).collect();
            let whole = through(std::iter::once(&sent[..]));
            prop_assert_eq!(through(sent.chunks(size)), whole);
        }

        #[test]
        fn what_is_changed_needs_no_further_change(before in vec(any::<u8>(), 0..20), name in "[ -~]{1,200}") {
            let te = b"\x40\x02te\x08trailers".to_vec();
            let sent = headers(&[before, literal(1, &name), te].concat());
            let once = tolerated(sent.clone());
            // A field that goes away may have another one behind it.
            if once.len() == sent.len() {
                prop_assert_eq!(tolerated(once.clone()), once);
            }
        }
    }
}
