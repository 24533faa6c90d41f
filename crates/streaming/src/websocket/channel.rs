//! Several streams in one WebSocket: each message begins with the number of its channel. Binary, or text with the payload in base64.
//!
//! A message is a piece of a stream, so its payload is handed on as it comes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Buf as _, Bytes, BytesMut};

use super::connection::Connection;
use crate::ProtocolError;

/// How channels are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// A byte with the channel's number, then the payload.
    Binary,
    /// The channel's number as an ASCII digit (on from `0`), then the payload in base64 with padding.
    Base64,
}

impl Framing {
    /// Sends a message. No payload makes an empty message.
    pub(crate) fn send(
        self,
        connection: &mut Connection,
        channel: u8,
        payload: &[u8],
        out: &mut BytesMut,
    ) {
        match self {
            Framing::Binary => connection.send(false, [&[channel], payload], out),
            Framing::Base64 => {
                let text = STANDARD.encode(payload);
                connection.send(true, [&[digit(channel)], text.as_bytes()], out);
            }
        }
    }
}

fn digit(channel: u8) -> u8 {
    b'0'.saturating_add(channel)
}

/// A piece of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// The message's channel.
    pub channel: u8,
    /// The bytes, possibly none.
    pub bytes: Bytes,
    /// The message ends with it.
    pub last: bool,
}

/// The decoder of a client's messages.
#[derive(Debug)]
pub struct Decoder {
    framing: Framing,
    channel: Option<u8>,
    /// Base64 that is not a whole group of four yet.
    group: Vec<u8>,
    /// The base64 has ended with padding.
    padded: bool,
}

impl Decoder {
    /// A decoder for one connection.
    pub fn new(framing: Framing) -> Decoder {
        Decoder {
            framing,
            channel: None,
            group: Vec::new(),
            padded: false,
        }
    }

    /// Decodes a piece of a message. `None` if it says nothing: a message that is empty, without even a channel.
    ///
    /// # Errors
    /// When the payload is not base64 where it has to be.
    pub fn piece(
        &mut self,
        first: bool,
        mut bytes: Bytes,
        last: bool,
    ) -> Result<Option<Piece>, ProtocolError> {
        if first {
            self.channel = None;
            self.group.clear();
            self.padded = false;
        }
        let channel = match self.channel {
            Some(channel) => channel,
            None if bytes.is_empty() => return Ok(None),
            None => {
                let byte = bytes.get_u8();
                let channel = match self.framing {
                    Framing::Binary => byte,
                    Framing::Base64 => byte.checked_sub(b'0').ok_or(NO_DIGIT)?,
                };
                *self.channel.insert(channel)
            }
        };
        let bytes = match self.framing {
            Framing::Binary => bytes,
            Framing::Base64 => self.decode(&bytes, last)?,
        };
        Ok(Some(Piece {
            channel,
            bytes,
            last,
        }))
    }

    fn decode(&mut self, text: &[u8], last: bool) -> Result<Bytes, ProtocolError> {
        if self.padded && !text.is_empty() {
            return Err(NOT_BASE64);
        }
        self.group.extend_from_slice(text);
        let whole = self.group.len() / 4 * 4;
        if last && whole < self.group.len() {
            return Err(NOT_BASE64);
        }
        let bytes = STANDARD
            .decode(&self.group[..whole])
            .map_err(|_| NOT_BASE64)?;
        self.padded = self.group[..whole].ends_with(b"=");
        if self.padded && whole < self.group.len() {
            return Err(NOT_BASE64);
        }
        self.group.drain(..whole);
        Ok(bytes.into())
    }
}

const NO_DIGIT: ProtocolError = ProtocolError::new("a message does not begin with a digit");
const NOT_BASE64: ProtocolError = ProtocolError::new("a message is not base64");

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decode(framing: Framing, pieces: &[&[u8]]) -> Result<Option<(u8, Vec<u8>)>, ProtocolError> {
        let mut decoder = Decoder::new(framing);
        let (mut channel, mut all) = (None, Vec::new());
        for (n, piece) in pieces.iter().enumerate() {
            let bytes = Bytes::copy_from_slice(piece);
            if let Some(piece) = decoder.piece(n == 0, bytes, n + 1 == pieces.len())? {
                assert!(channel.is_none_or(|channel| channel == piece.channel));
                channel = Some(piece.channel);
                all.extend_from_slice(&piece.bytes);
            }
        }
        Ok(channel.map(|channel| (channel, all)))
    }

    fn encode(framing: Framing, channel: u8, payload: &[u8]) -> Vec<u8> {
        let mut out = BytesMut::new();
        framing.send(&mut Connection::default(), channel, payload, &mut out);
        assert!(out.len() < 128, "a head of two bytes");
        out[2..].to_vec()
    }

    #[test]
    fn messages_without_payload_or_channel_say_nothing() {
        for framing in [Framing::Binary, Framing::Base64] {
            assert_eq!(decode(framing, &[b""]), Ok(None));
            assert_eq!(decode(framing, &[b"", b""]), Ok(None));
        }
        assert_eq!(decode(Framing::Binary, &[b"\x01"]), Ok(Some((1, vec![]))));
        assert_eq!(decode(Framing::Base64, &[b"1"]), Ok(Some((1, vec![]))));
    }

    #[test]
    fn what_is_no_base64_is_refused() {
        for text in ["0a", "0aGk=aGk=", "0====", "0aG k", "/aGk=", "0aGk=a"] {
            let whole = decode(Framing::Base64, &[text.as_bytes()]);
            assert!(whole.is_err(), "{text}: {whole:?}");
            let bytes: Vec<&[u8]> = text.as_bytes().chunks(1).collect();
            assert!(decode(Framing::Base64, &bytes).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out_wherever_it_is_split(
            payload in prop::collection::vec(any::<u8>(), 0..60), channel in 0u8..5, base64: bool,
        ) {
            let framing = if base64 { Framing::Base64 } else { Framing::Binary };
            let wire = encode(framing, channel, &payload);
            for cut in 0..=wire.len() {
                prop_assert_eq!(
                    decode(framing, &[&wire[..cut], &wire[cut..]]),
                    Ok(Some((channel, payload.clone())))
                );
            }
            let bytes: Vec<&[u8]> = wire.chunks(1).collect();
            prop_assert_eq!(decode(framing, &bytes), Ok(Some((channel, payload.clone()))));
        }

        #[test]
        fn nonsense_never_panics(
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..5), base64: bool,
        ) {
            let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
            let _ = decode(if base64 { Framing::Base64 } else { Framing::Binary }, &pieces);
        }
    }
}
