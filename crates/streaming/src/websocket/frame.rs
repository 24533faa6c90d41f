//! The frames of RFC 6455, as a server reads and writes them. The payload of data frames is handed on as it comes, unmasked; control
//! frames are read whole, which the standard bounds to 125 bytes.
//!
//! Refuses to know what a message says.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

use crate::ProtocolError;

const FIN: u8 = 0x80;
const MASKED: u8 = 0x80;

const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// The longest payload of a control frame, by RFC 6455, in bytes.
const MAX_CONTROL: usize = 125;

/// A close frame's status: the work is done.
pub const CLOSE_NORMAL: u16 = 1000;
/// A close frame's status: the other end broke the protocol.
pub const CLOSE_PROTOCOL_ERROR: u16 = 1002;

/// One frame, or a piece of a data frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// A piece of a message.
    Data {
        /// The message begins with it.
        first: bool,
        /// The bytes, possibly none.
        bytes: Bytes,
        /// The message ends with it.
        last: bool,
    },
    /// The peer asks for a pong with the same bytes.
    Ping(Bytes),
    /// An answer to a ping, or a sign of life.
    Pong,
    /// The peer sends nothing more, for this reason if it says one.
    Close(Option<u16>),
}

/// The decoder of one connection.
#[derive(Debug, Default)]
pub struct Decoder {
    /// The frame that is being read.
    frame: Option<Head>,
    /// A message has begun and not ended.
    in_message: bool,
}

#[derive(Debug, Clone, Copy)]
struct Head {
    left: u64,
    fin: bool,
    first: bool,
    mask: [u8; 4],
}

impl Decoder {
    /// Takes the next frame, or piece of a data frame, off the front of `input`. `None` when more bytes are needed; then `input` holds
    /// less than 200 bytes.
    ///
    /// # Errors
    /// When the bytes are no frames of a client. The decoder must not be used after an error.
    pub fn next(&mut self, input: &mut BytesMut) -> Result<Option<Frame>, ProtocolError> {
        if let Some(head) = self.frame {
            return Ok(self.piece(head, input));
        }
        let Some(&[first, second]) = input.first_chunk() else {
            return Ok(None);
        };
        if first & 0x70 != 0 {
            return Err(ProtocolError::new(
                "a frame has a bit set that no extension uses",
            ));
        }
        if second & MASKED == 0 {
            return Err(ProtocolError::new("a client's frame is not masked"));
        }
        let (fin, opcode) = (first & FIN != 0, first & 0x0f);
        let (length, mut at) = match second & 0x7f {
            126 => match input[2..].first_chunk() {
                Some(length) => (u64::from(u16::from_be_bytes(*length)), 4),
                None => return Ok(None),
            },
            127 => match input[2..].first_chunk() {
                Some(length) => (u64::from_be_bytes(*length), 10),
                None => return Ok(None),
            },
            length => (u64::from(length), 2),
        };
        if length > i64::MAX.unsigned_abs() {
            return Err(ProtocolError::new("a frame's length has its top bit set"));
        }
        let Some(&mask) = input[at..].first_chunk::<4>() else {
            return Ok(None);
        };
        at += 4;
        match opcode {
            CONTINUATION | TEXT | BINARY => {
                if (opcode == CONTINUATION) != self.in_message {
                    return Err(ProtocolError::new("a message's frames are out of order"));
                }
                input.advance(at);
                self.in_message = true;
                let head = Head {
                    left: length,
                    fin,
                    first: opcode != CONTINUATION,
                    mask,
                };
                Ok(self.piece(head, input))
            }
            CLOSE | PING | PONG => {
                let length = usize::try_from(length).unwrap_or(usize::MAX);
                if !fin || length > MAX_CONTROL {
                    return Err(ProtocolError::new(
                        "a control frame is in pieces or too long",
                    ));
                }
                if input.len() < at + length {
                    return Ok(None);
                }
                input.advance(at);
                let mut payload = input.split_to(length);
                unmask(&mut payload, mask);
                control(opcode, payload.freeze()).map(Some)
            }
            _ => Err(ProtocolError::from_string(format!(
                "there is no frame of type {opcode}"
            ))),
        }
    }

    fn piece(&mut self, mut head: Head, input: &mut BytesMut) -> Option<Frame> {
        let take = usize::try_from(head.left).map_or(input.len(), |left| left.min(input.len()));
        if take == 0 && head.left > 0 {
            self.frame = Some(head);
            return None;
        }
        let mut bytes = input.split_to(take);
        unmask(&mut bytes, head.mask);
        let first = std::mem::replace(&mut head.first, false);
        head.mask.rotate_left(take % 4);
        head.left -= take as u64;
        let last = head.fin && head.left == 0;
        self.frame = (head.left > 0).then_some(head);
        self.in_message = !last;
        Some(Frame::Data {
            first,
            bytes: bytes.freeze(),
            last,
        })
    }
}

fn control(opcode: u8, payload: Bytes) -> Result<Frame, ProtocolError> {
    match opcode {
        PING => Ok(Frame::Ping(payload)),
        PONG => Ok(Frame::Pong),
        _ => match payload[..] {
            [] => Ok(Frame::Close(None)),
            [_] => Err(ProtocolError::new("a close frame has half a status")),
            [a, b, ..] => Ok(Frame::Close(Some(u16::from_be_bytes([a, b])))),
        },
    }
}

fn unmask(bytes: &mut [u8], mask: [u8; 4]) {
    let mut groups = bytes.chunks_exact_mut(4);
    for group in &mut groups {
        for (byte, mask) in group.iter_mut().zip(mask) {
            *byte ^= mask;
        }
    }
    for (byte, mask) in groups.into_remainder().iter_mut().zip(mask) {
        *byte ^= mask;
    }
}

/// Appends a whole message that consists of `parts`; as text if `text`, which they have to be then.
pub fn put_message(out: &mut BytesMut, text: bool, parts: [&[u8]; 2]) {
    put_head(
        out,
        if text { TEXT } else { BINARY },
        parts[0].len() + parts[1].len(),
    );
    out.extend_from_slice(parts[0]);
    out.extend_from_slice(parts[1]);
}

/// Appends a pong, which answers a ping if it has its bytes.
pub fn put_pong(out: &mut BytesMut, payload: &[u8]) {
    put_head(out, PONG, payload.len());
    out.extend_from_slice(payload);
}

/// Appends a close frame.
pub fn put_close(out: &mut BytesMut, status: Option<u16>) {
    put_head(out, CLOSE, if status.is_some() { 2 } else { 0 });
    if let Some(status) = status {
        out.put_u16(status);
    }
}

fn put_head(out: &mut BytesMut, opcode: u8, length: usize) {
    out.put_u8(FIN | opcode);
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(length @ ..126), _) => out.put_u8(length),
        (_, Ok(length)) => {
            out.put_u8(126);
            out.put_u16(length);
        }
        _ => {
            out.put_u8(127);
            out.put_u64(length as u64);
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A client's frame.
    pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mask = [0x12, 0x34, 0x56, 0x78];
        let mut out = vec![first];
        match payload.len() {
            length @ 0..126 => out.push(0x80 | u8::try_from(length).unwrap()),
            length @ 126..0x1_0000 => {
                out.push(0x80 | 126);
                out.extend_from_slice(&u16::try_from(length).unwrap().to_be_bytes());
            }
            length => {
                out.push(0x80 | 127);
                out.extend_from_slice(&(length as u64).to_be_bytes());
            }
        }
        out.extend_from_slice(&mask);
        out.extend(payload.iter().zip(mask.iter().cycle()).map(|(a, b)| a ^ b));
        out
    }

    /// Decodes pieces, joining those of a message.
    fn decode(pieces: &[&[u8]]) -> (Vec<Frame>, Option<ProtocolError>) {
        let (mut decoder, mut frames, mut input) =
            (Decoder::default(), Vec::new(), BytesMut::new());
        let mut message: Option<(bool, Vec<u8>)> = None;
        for piece in pieces {
            input.extend_from_slice(piece);
            loop {
                match decoder.next(&mut input) {
                    Ok(Some(Frame::Data { first, bytes, last })) => {
                        assert_eq!(first, message.is_none());
                        let (_, joined) = message.get_or_insert((first, Vec::new()));
                        joined.extend_from_slice(&bytes);
                        if last && let Some((first, bytes)) = message.take() {
                            frames.push(Frame::Data {
                                first,
                                bytes: bytes.into(),
                                last,
                            });
                        }
                    }
                    Ok(Some(frame)) => frames.push(frame),
                    Ok(None) => break,
                    Err(error) => return (frames, Some(error)),
                }
            }
            assert!(input.len() < 200);
        }
        (frames, None)
    }

    fn message(bytes: &[u8]) -> Frame {
        Frame::Data {
            first: true,
            bytes: bytes.to_vec().into(),
            last: true,
        }
    }

    #[test]
    fn control_frames_may_come_between_the_pieces_of_a_message() {
        let wire = [
            frame(0x02, b"one "),
            frame(0x89, b"ping"),
            frame(0x00, b""),
            frame(0x8a, b""),
            frame(0x80, b"two"),
            frame(0x81, b""),
            frame(0x88, &[3, 0xe8, b'x']),
            frame(0x88, b""),
        ]
        .concat();
        let expected = vec![
            Frame::Ping(Bytes::from_static(b"ping")),
            Frame::Pong,
            message(b"one two"),
            message(b""),
            Frame::Close(Some(1000)),
            Frame::Close(None),
        ];
        assert_eq!(decode(&[&wire]), (expected, None));
    }

    #[test]
    fn every_form_of_length_is_read_and_written() {
        for length in [0usize, 1, 125, 126, 127, 0xffff, 0x1_0000, 100_000] {
            let bytes = vec![b'x'; length];
            let (frames, error) = decode(&[&frame(0x82, &bytes)]);
            assert_eq!((frames, error), (vec![message(&bytes)], None), "{length}");
            let mut out = BytesMut::new();
            put_message(&mut out, false, [&bytes, b""]);
            let head = match length {
                ..126 => 2,
                126..0x1_0000 => 4,
                _ => 10,
            };
            assert_eq!(out.len(), head + length);
        }
    }

    #[test]
    fn what_a_client_may_not_send_is_refused() {
        let mut unmasked = frame(0x82, b"");
        unmasked[1] &= 0x7f;
        let huge = [&[0x82, 0xff][..], &[0xff; 12]].concat();
        for (wire, what) in [
            (frame(0xc2, b""), "extension"),
            (frame(0x83, b""), "type 3"),
            (frame(0x8b, b""), "type 11"),
            (frame(0x80, b""), "out of order"),
            (
                [frame(0x02, b""), frame(0x82, b"")].concat(),
                "out of order",
            ),
            (frame(0x09, b""), "in pieces"),
            (frame(0x89, &[0; 126]), "too long"),
            (frame(0x88, b"x"), "half a status"),
            (unmasked, "not masked"),
            (huge, "top bit"),
        ] {
            let error = decode(&[&wire]).1.expect(what).to_string();
            assert!(error.contains(what), "{error}");
        }
    }

    fn any_message() -> impl Strategy<Value = Vec<u8>> {
        let payload = || prop::collection::vec(any::<u8>(), 0..40);
        prop_oneof![
            payload().prop_map(|bytes| frame(0x82, &bytes)),
            (payload(), payload(), payload()).prop_map(|(a, b, c)| [
                frame(2, &a),
                frame(0x89, &b),
                frame(0x80, &c)
            ]
            .concat()),
        ]
    }

    proptest! {
        #[test]
        fn the_frames_are_the_same_wherever_the_bytes_are_split(messages in prop::collection::vec(any_message(), 0..4)) {
            let wire = messages.concat();
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
