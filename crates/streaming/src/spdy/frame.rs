//! The frames of SPDY/3.1: an 8-byte head, then the payload. Control frames are read whole and have a bound; the payload of data frames
//! is handed on as it comes, so a head that lies about its length costs no memory.
//!
//! Knows nothing of streams, and leaves header blocks compressed.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

use crate::ProtocolError;

/// The longest payload of a control frame, in bytes. Those of Kubernetes clients have below 200; the draft allows 16 MiB.
pub const MAX_CONTROL: usize = 64 * 1024;

/// The longest payload that a data frame may announce, in bytes. Clients cut at 32 KiB.
pub const MAX_DATA: usize = 1024 * 1024;

/// The longest payload in a data frame of ours, in bytes: the buffer of client-go's readers.
pub const MAX_CHUNK: usize = 32 * 1024;

const HEAD: usize = 8;
const VERSION: u16 = 3;
const FLAG_FIN: u8 = 1;
const FLAG_UNIDIRECTIONAL: u8 = 2;
const ID_MASK: u32 = 0x7fff_ffff;

const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const SETTINGS: u16 = 4;
const PING: u16 = 6;
const GOAWAY: u16 = 7;
const HEADERS: u16 = 8;
const WINDOW_UPDATE: u16 = 9;

/// Why a stream is reset, as in section 2.6.3 of the SPDY draft.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Reset {
    /// The peer broke the protocol.
    ProtocolError = 1,
    /// The stream is not wanted, and nothing of it has been used.
    Refused = 3,
    /// The stream is no longer of use.
    Cancel = 5,
}

/// Why a connection ends, as in section 2.6.6 of the SPDY draft.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum GoAway {
    /// It has done its work.
    Ok = 0,
    /// The peer broke the protocol.
    ProtocolError = 1,
}

/// One frame, or a piece of a data frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// The peer opens a stream.
    Open {
        /// The stream.
        id: u32,
        /// The peer will send no data.
        fin: bool,
        /// The peer takes no data.
        unidirectional: bool,
        /// Its headers, compressed.
        block: Bytes,
    },
    /// Headers for a stream that exists: those of a SYN_REPLY or HEADERS frame.
    Headers {
        /// The stream.
        id: u32,
        /// The peer will send no more data.
        fin: bool,
        /// The headers, compressed.
        block: Bytes,
    },
    /// The peer aborts a stream.
    Reset {
        /// The stream.
        id: u32,
    },
    /// The peer asks for the same frame back, or gives it.
    Ping {
        /// Odd if a client asks.
        id: u32,
    },
    /// The peer opens no more streams.
    GoAway,
    /// A SETTINGS or WINDOW_UPDATE frame, which mean nothing here.
    Ignored,
    /// Bytes of a stream: a whole data frame or a piece of one.
    Data {
        /// The stream.
        id: u32,
        /// The bytes, possibly none.
        bytes: Bytes,
        /// The peer sends no more. Only with the last piece of a frame.
        fin: bool,
    },
}

/// The decoder of one direction of a connection.
#[derive(Debug, Default)]
pub struct Decoder {
    /// The data frame that is being read.
    data: Option<Data>,
}

#[derive(Debug, Clone, Copy)]
struct Data {
    id: u32,
    left: usize,
    fin: bool,
}

impl Decoder {
    /// Takes the next frame, or piece of a data frame, off the front of `input`. `None` when more bytes are needed; then `input` holds
    /// less than [`MAX_CONTROL`] and a head.
    ///
    /// # Errors
    /// When the bytes are no frames of SPDY/3.1, or exceed a limit. The decoder must not be used after an error.
    pub fn next(&mut self, input: &mut BytesMut) -> Result<Option<Frame>, ProtocolError> {
        if let Some(data) = self.data {
            return Ok(self.piece(data, input));
        }
        let Some(&[a, b, c, d, flags, length @ ..]) = input.first_chunk::<HEAD>() else {
            return Ok(None);
        };
        let word = u32::from_be_bytes([a, b, c, d]);
        let length = u32::from_be_bytes([0, length[0], length[1], length[2]]) as usize;
        if word & !ID_MASK == 0 {
            if word == 0 {
                return Err(ProtocolError::new("a data frame is for stream 0"));
            }
            if length > MAX_DATA {
                return Err(too_long(length, MAX_DATA));
            }
            input.advance(HEAD);
            let data = Data {
                id: word,
                left: length,
                fin: flags & FLAG_FIN != 0,
            };
            return Ok(self.piece(data, input));
        }
        if u16::from_be_bytes([a & 0x7f, b]) != VERSION {
            return Err(ProtocolError::new("a control frame is not of SPDY/3"));
        }
        if length > MAX_CONTROL {
            return Err(too_long(length, MAX_CONTROL));
        }
        if input.len() < HEAD + length {
            return Ok(None);
        }
        input.advance(HEAD);
        let payload = input.split_to(length).freeze();
        control(u16::from_be_bytes([c, d]), flags, payload).map(Some)
    }

    fn piece(&mut self, mut data: Data, input: &mut BytesMut) -> Option<Frame> {
        let take = data.left.min(input.len());
        if take == 0 && data.left > 0 {
            self.data = Some(data);
            return None;
        }
        data.left -= take;
        self.data = (data.left > 0).then_some(data);
        Some(Frame::Data {
            id: data.id,
            bytes: input.split_to(take).freeze(),
            fin: data.fin && data.left == 0,
        })
    }
}

fn control(kind: u16, flags: u8, mut payload: Bytes) -> Result<Frame, ProtocolError> {
    let length = payload.len();
    let is = |wanted: bool| {
        wanted.then_some(()).ok_or_else(|| {
            ProtocolError::from_string(format!(
                "a control frame of type {kind} has a length of {length} bytes"
            ))
        })
    };
    let fin = flags & FLAG_FIN != 0;
    match kind {
        SYN_STREAM => {
            is(length >= 10)?;
            let id = stream_id(&mut payload)?;
            payload.advance(6);
            Ok(Frame::Open {
                id,
                fin,
                unidirectional: flags & FLAG_UNIDIRECTIONAL != 0,
                block: payload,
            })
        }
        SYN_REPLY | HEADERS => {
            is(length >= 4)?;
            Ok(Frame::Headers {
                id: stream_id(&mut payload)?,
                fin,
                block: payload,
            })
        }
        RST_STREAM => {
            is(length == 8)?;
            Ok(Frame::Reset {
                id: stream_id(&mut payload)?,
            })
        }
        SETTINGS => {
            is(length >= 4)?;
            // The count is the peer's word; nothing is reserved by it.
            let count = payload.get_u32() as usize;
            is(count.checked_mul(8) == Some(payload.len()))?;
            Ok(Frame::Ignored)
        }
        PING => {
            is(length == 4)?;
            match payload.get_u32() {
                0 => Err(ProtocolError::new("a ping has the id 0")),
                id => Ok(Frame::Ping { id }),
            }
        }
        GOAWAY => {
            is(length == 8)?;
            Ok(Frame::GoAway)
        }
        WINDOW_UPDATE => {
            is(length == 8)?;
            Ok(Frame::Ignored)
        }
        _ => Err(ProtocolError::from_string(format!(
            "there is no control frame of type {kind}"
        ))),
    }
}

fn stream_id(payload: &mut Bytes) -> Result<u32, ProtocolError> {
    match payload.get_u32() & ID_MASK {
        0 => Err(ProtocolError::new("a control frame is for stream 0")),
        id => Ok(id),
    }
}

fn too_long(length: usize, limit: usize) -> ProtocolError {
    ProtocolError::from_string(format!(
        "a frame announces {length} bytes; {limit} are allowed"
    ))
}

/// Appends data frames that carry `bytes`, each of at most [`MAX_CHUNK`], the last with a FIN if `fin`. No bytes and `fin` is the empty
/// frame that closes a half.
pub fn put_data(out: &mut BytesMut, id: u32, mut bytes: &[u8], fin: bool) {
    loop {
        let chunk = bytes.len().min(MAX_CHUNK);
        let last = chunk == bytes.len();
        if chunk > 0 || fin {
            out.put_u32(id);
            put_flags(out, if last && fin { FLAG_FIN } else { 0 }, chunk);
            out.extend_from_slice(&bytes[..chunk]);
        }
        if last {
            return;
        }
        bytes = &bytes[chunk..];
    }
}

/// Appends a SYN_REPLY with a compressed header block.
pub fn put_reply(out: &mut BytesMut, id: u32, block: &[u8]) {
    put_control(out, SYN_REPLY, 4 + block.len());
    out.put_u32(id);
    out.extend_from_slice(block);
}

/// Appends a RST_STREAM.
pub fn put_reset(out: &mut BytesMut, id: u32, status: Reset) {
    put_control(out, RST_STREAM, 8);
    out.put_u32(id);
    out.put_u32(status as u32);
}

/// Appends a PING.
pub fn put_ping(out: &mut BytesMut, id: u32) {
    put_control(out, PING, 4);
    out.put_u32(id);
}

/// Appends a GOAWAY that names the last stream the peer opened.
pub fn put_go_away(out: &mut BytesMut, last: u32, status: GoAway) {
    put_control(out, GOAWAY, 8);
    out.put_u32(last);
    out.put_u32(status as u32);
}

fn put_control(out: &mut BytesMut, kind: u16, length: usize) {
    out.put_u16(0x8000 | VERSION);
    out.put_u16(kind);
    put_flags(out, 0, length);
}

fn put_flags(out: &mut BytesMut, flags: u8, length: usize) {
    debug_assert!(length < 1 << 24, "{length} bytes in one frame");
    out.put_u8(flags);
    out.put_uint(length as u64, 3);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn control_frame(kind: u16, flags: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![0x80, 3];
        frame.extend_from_slice(&kind.to_be_bytes());
        frame.push(flags);
        frame.extend_from_slice(&u32::try_from(payload.len()).unwrap().to_be_bytes()[1..]);
        frame.extend_from_slice(payload);
        frame
    }

    /// Decodes pieces of input, joining what the pieces of a data frame carry.
    fn decode(pieces: &[&[u8]]) -> (Vec<Frame>, Option<ProtocolError>) {
        let (mut decoder, mut frames, mut input) =
            (Decoder::default(), Vec::<Frame>::new(), BytesMut::new());
        let mut open = None;
        for piece in pieces {
            input.extend_from_slice(piece);
            loop {
                match decoder.next(&mut input) {
                    Ok(Some(Frame::Data { id, bytes, fin })) => {
                        match frames.last_mut() {
                            Some(Frame::Data {
                                bytes: joined,
                                fin: last,
                                ..
                            }) if open == Some(id) => {
                                *joined = [&joined[..], &bytes[..]].concat().into();
                                *last = fin;
                            }
                            _ => frames.push(Frame::Data { id, bytes, fin }),
                        }
                        open = decoder.data.map(|data| data.id);
                    }
                    Ok(Some(frame)) => frames.push(frame),
                    Ok(None) => break,
                    Err(error) => return (frames, Some(error)),
                }
            }
        }
        (frames, None)
    }

    fn refused(bytes: &[u8]) -> String {
        decode(&[bytes]).1.expect("an error").to_string()
    }

    #[test]
    fn each_kind_of_frame_is_read() {
        let syn = [
            &[0, 0, 0, 1, 0, 0, 0, 0, 0xe0, 0][..],
            b"block", // priority 7, slot 0
        ]
        .concat();
        let wire = [
            control_frame(1, 1, &syn),
            control_frame(2, 0, b"\0\0\0\x01reply"),
            control_frame(3, 0, &[0, 0, 0, 1, 0, 0, 0, 5]),
            control_frame(4, 0, &[0, 0, 0, 1, 0, 0, 0, 4, 0, 0, 0, 100]),
            control_frame(6, 0, &[0, 0, 0, 7]),
            control_frame(7, 0, &[0; 8]),
            control_frame(8, 1, b"\0\0\0\x03more"),
            control_frame(9, 0, &[0, 0, 0, 1, 0, 0, 1, 0]),
            b"\0\0\0\x05\x01\0\0\x04data".to_vec(),
        ]
        .concat();
        let open = |block: &'static [u8]| Bytes::from_static(block);
        let expected = vec![
            Frame::Open {
                id: 1,
                fin: true,
                unidirectional: false,
                block: open(b"block"),
            },
            Frame::Headers {
                id: 1,
                fin: false,
                block: open(b"reply"),
            },
            Frame::Reset { id: 1 },
            Frame::Ignored,
            Frame::Ping { id: 7 },
            Frame::GoAway,
            Frame::Headers {
                id: 3,
                fin: true,
                block: open(b"more"),
            },
            Frame::Ignored,
            Frame::Data {
                id: 5,
                bytes: open(b"data"),
                fin: true,
            },
        ];
        assert_eq!(decode(&[&wire]), (expected.clone(), None));
        let bytes: Vec<&[u8]> = wire.chunks(1).collect();
        assert_eq!(decode(&bytes), (expected, None));
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        for kind in [0, 5, 10, 11, 0xffff] {
            assert!(refused(&control_frame(kind, 0, b"")).contains("no control frame"));
        }
        for (kind, length) in [
            (1, 9),
            (2, 3),
            (3, 7),
            (3, 9),
            (4, 3),
            (6, 5),
            (7, 4),
            (9, 7),
        ] {
            let wire = control_frame(kind, 0, &vec![1; length]);
            assert!(refused(&wire).contains("has a length"), "type {kind}");
        }
        assert!(refused(&[0x80, 2, 0, 1, 0, 0, 0, 0]).contains("not of SPDY/3"));
        assert!(refused(&control_frame(3, 0, &[0; 8])).contains("stream 0"));
        assert!(refused(&control_frame(6, 0, &[0; 4])).contains("id 0"));
        assert!(refused(&[0; 8]).contains("stream 0"));
    }

    #[test]
    fn a_settings_count_is_not_believed() {
        for count in [0u32, 2, 0x2000_0000, u32::MAX] {
            let payload = [&count.to_be_bytes()[..], &[0; 8]].concat();
            assert!(refused(&control_frame(4, 0, &payload)).contains("has a length"));
        }
    }

    #[test]
    fn an_announced_length_beyond_the_limit_is_refused_before_the_payload_comes() {
        assert!(refused(&[0, 0, 0, 1, 0, 0xff, 0xff, 0xff]).contains("16777215 bytes"));
        assert!(refused(&[0x80, 3, 0, 1, 0, 1, 0, 1]).contains("65537 bytes"));
    }

    #[test]
    fn data_is_cut_into_chunks_and_only_the_last_ends_the_stream() {
        let bytes = vec![7; 2 * MAX_CHUNK + 1];
        let mut wire = BytesMut::new();
        put_data(&mut wire, 3, &bytes, true);
        let (frames, error) = decode(&[&wire]);
        assert_eq!(error, None);
        let sizes: Vec<(usize, bool)> = frames
            .iter()
            .map(|frame| match frame {
                Frame::Data { id: 3, bytes, fin } => (bytes.len(), *fin),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(sizes, [(MAX_CHUNK, false), (MAX_CHUNK, false), (1, true)]);

        wire.clear();
        put_data(&mut wire, 3, b"", false);
        assert!(wire.is_empty(), "nothing to say");
        put_data(&mut wire, 3, b"", true);
        assert_eq!(&wire[..], [0, 0, 0, 3, 1, 0, 0, 0]);
    }

    #[test]
    fn what_is_written_is_what_the_draft_says() {
        let mut out = BytesMut::new();
        put_reply(&mut out, 1, b"xy");
        put_reset(&mut out, 3, Reset::Cancel);
        put_ping(&mut out, 2);
        put_go_away(&mut out, 9, GoAway::Ok);
        let expected = [
            &[0x80, 3, 0, 2, 0, 0, 0, 6, 0, 0, 0, 1, b'x', b'y'][..],
            &[0x80, 3, 0, 3, 0, 0, 0, 8, 0, 0, 0, 3, 0, 0, 0, 5],
            &[0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0, 2],
            &[0x80, 3, 0, 7, 0, 0, 0, 8, 0, 0, 0, 9, 0, 0, 0, 0],
        ]
        .concat();
        assert_eq!(&out[..], expected);
    }

    fn any_frame() -> impl Strategy<Value = Vec<u8>> {
        let data = (
            1u32..9,
            any::<bool>(),
            prop::collection::vec(any::<u8>(), 0..60),
        )
            .prop_map(|(id, fin, bytes)| {
                let mut out = BytesMut::new();
                put_data(&mut out, id, &bytes, fin);
                out.to_vec()
            });
        let headers = prop::collection::vec(any::<u8>(), 0..30)
            .prop_map(|block| control_frame(8, 0, &[&[0, 0, 0, 1], &block[..]].concat()));
        let ping = (1u32..100).prop_map(|id| control_frame(6, 0, &id.to_be_bytes()));
        prop_oneof![data, headers, ping]
    }

    proptest! {
        #[test]
        fn the_frames_are_the_same_wherever_the_bytes_are_split(
            frames in prop::collection::vec(any_frame(), 0..5),
        ) {
            let wire = frames.concat();
            let whole = decode(&[&wire]);
            prop_assert_eq!(&whole.1, &None);
            for cut in 0..=wire.len() {
                prop_assert_eq!(&decode(&[&wire[..cut], &wire[cut..]]), &whole);
            }
        }

        #[test]
        fn nonsense_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            decode(&[&bytes]);
        }
    }
}
