//! The server's end of one WebSocket: answers pings, and keeps the order in which the two ends close.

use bytes::{Bytes, BytesMut};

use super::frame::{self, CLOSE_NORMAL, CLOSE_PROTOCOL_ERROR, Frame};
use crate::ProtocolError;

/// What the client did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// It sent a piece of a message.
    Data {
        /// The message begins with it.
        first: bool,
        /// The bytes, possibly none.
        bytes: Bytes,
        /// The message ends with it.
        last: bool,
    },
    /// It closed the connection in good order, or agreed to our closing it. Comes once.
    Closed,
}

/// The state of one connection.
#[derive(Debug, Default)]
pub struct Connection {
    decoder: frame::Decoder,
    close_sent: bool,
    closed: bool,
}

impl Connection {
    /// Takes frames off the front of `input` up to the next that is news. `None` when more bytes are needed. Answers go to `out`.
    ///
    /// # Errors
    /// When the client breaks the protocol.
    pub fn receive(
        &mut self,
        input: &mut BytesMut,
        out: &mut BytesMut,
    ) -> Result<Option<Event>, ProtocolError> {
        if self.closed {
            input.clear();
            return Ok(None);
        }
        while let Some(frame) = self.decoder.next(input)? {
            match frame {
                Frame::Data { first, bytes, last } => {
                    return Ok(Some(Event::Data { first, bytes, last }));
                }
                Frame::Ping(payload) if !self.close_sent => frame::put_pong(out, &payload),
                Frame::Ping(_) | Frame::Pong => {}
                Frame::Close(status) => {
                    self.closed = true;
                    self.put_close(status, out);
                    return Ok(Some(Event::Closed));
                }
            }
        }
        Ok(None)
    }

    /// Sends a whole message. It is dropped after [`close`](Connection::close).
    pub fn send(&mut self, text: bool, parts: [&[u8]; 2], out: &mut BytesMut) {
        if !self.close_sent {
            frame::put_message(out, text, parts);
        }
    }

    /// Gives a sign of life that nobody asked for.
    pub fn pong(&mut self, out: &mut BytesMut) {
        if !self.close_sent {
            frame::put_pong(out, b"");
        }
    }

    /// Closes the connection in good order. Go clients take any other status for a failure.
    pub fn close(&mut self, out: &mut BytesMut) {
        self.put_close(Some(CLOSE_NORMAL), out);
    }

    /// Closes the connection because the client broke the protocol.
    pub fn refuse(&mut self, out: &mut BytesMut) {
        self.put_close(Some(CLOSE_PROTOCOL_ERROR), out);
    }

    fn put_close(&mut self, status: Option<u16>, out: &mut BytesMut) {
        if !std::mem::replace(&mut self.close_sent, true) {
            frame::put_close(out, status);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::frame::tests::frame;
    use super::*;

    fn feed(connection: &mut Connection, wire: &[u8]) -> (Vec<Event>, Vec<u8>) {
        let (mut input, mut out, mut events) = (BytesMut::from(wire), BytesMut::new(), Vec::new());
        while let Some(event) = connection.receive(&mut input, &mut out).unwrap() {
            events.push(event);
        }
        (events, out.to_vec())
    }

    #[test]
    fn a_ping_is_answered_with_its_bytes() {
        let (events, out) = feed(&mut Connection::default(), &frame(0x89, b"abc"));
        assert_eq!((events, &out[..]), (vec![], &b"\x8a\x03abc"[..]));
    }

    #[test]
    fn a_close_is_answered_with_its_status_and_nothing_follows() {
        let mut connection = Connection::default();
        let wire = [frame(0x88, &[3, 0xe9]), frame(0x89, b""), frame(0x83, b"")].concat();
        let (events, out) = feed(&mut connection, &wire);
        assert_eq!(events, [Event::Closed]);
        assert_eq!(out, [0x88, 2, 3, 0xe9]);
        let mut out = BytesMut::new();
        connection.send(false, [b"late", b""], &mut out);
        connection.pong(&mut out);
        connection.close(&mut out);
        assert!(out.is_empty());
        assert_eq!(feed(&mut connection, b"nonsense").0, []);
    }

    #[test]
    fn the_answer_to_our_close_is_not_answered() {
        let mut connection = Connection::default();
        let mut out = BytesMut::new();
        connection.close(&mut out);
        assert_eq!(&out[..], [0x88, 2, 3, 0xe8]);
        let wire = [frame(0x89, b"late"), frame(0x88, &[3, 0xe8])].concat();
        assert_eq!(feed(&mut connection, &wire), (vec![Event::Closed], vec![]));
    }
}
