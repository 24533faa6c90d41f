//! The server's end of one SPDY connection: which streams there are, which halves of them are open, and what is answered without asking
//! anybody (pings, bad ids, too many streams).
//!
//! ```text
//!               accept                 end / End
//!   Opened ───────────────► open ───────────────► half closed ───► gone
//!      │ refuse                │ reset / Reset         │            ▲
//!      └───────────────────────┴───────────────────────┴────────────┘
//! ```
//!
//! Refuses to know what a stream is for.

use std::collections::HashMap;

use bytes::{Bytes, BytesMut};

use super::frame::{self, Frame, GoAway, Reset};
use super::header::{Headers, Inflater, Replies};
use crate::ProtocolError;

/// The most streams open at one time: a thousand forwarded connections, each of two.
pub const MAX_STREAMS: usize = 2000;

/// What the peer did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// It opens a stream, and waits for [`Connection::accept`] or [`Connection::refuse`].
    Opened {
        /// The stream.
        id: u32,
        /// What it says of it.
        headers: Headers,
    },
    /// It sent bytes (not none) on a stream whose half it has not closed.
    Data {
        /// The stream.
        id: u32,
        /// The bytes.
        bytes: Bytes,
    },
    /// It closed its half of a stream.
    End(u32),
    /// It aborted a stream, which is gone.
    Reset(u32),
}

#[derive(Debug)]
struct Stream {
    /// We may send.
    ours: bool,
    /// The peer may send.
    theirs: bool,
}

/// The state of one connection.
#[derive(Debug, Default)]
pub struct Connection {
    decoder: frame::Decoder,
    inflater: Inflater,
    replies: Replies,
    streams: HashMap<u32, Stream>,
    last: u32,
    last_ping: u32,
    closing: bool,
    /// Happened in the same frame as the event before it.
    next: Option<Event>,
}

impl Connection {
    /// Takes frames off the front of `input` up to the next that is news. `None` when more bytes are needed. Answers go to `out`.
    ///
    /// # Errors
    /// When the peer breaks the protocol. The connection must not be used after an error, except for [`go_away`](Connection::go_away).
    pub fn receive(
        &mut self,
        input: &mut BytesMut,
        out: &mut BytesMut,
    ) -> Result<Option<Event>, ProtocolError> {
        if let Some(event) = self.next.take() {
            return Ok(Some(event));
        }
        while let Some(frame) = self.decoder.next(input)? {
            if let Some(event) = self.on_frame(frame, out)? {
                return Ok(Some(event));
            }
        }
        Ok(None)
    }

    fn on_frame(
        &mut self,
        frame: Frame,
        out: &mut BytesMut,
    ) -> Result<Option<Event>, ProtocolError> {
        match frame {
            Frame::Open {
                id,
                fin,
                unidirectional,
                block,
            } => {
                // Inflated whatever becomes of the stream.
                let headers = self.inflater.block(&block)?;
                if headers.has_illegal() {
                    return Err(ProtocolError::new(
                        "a SYN_STREAM has a header of the connection",
                    ));
                }
                if id % 2 == 0 || id <= self.last {
                    frame::put_reset(out, id, Reset::ProtocolError);
                    return Ok(None);
                }
                self.last = id;
                if self.closing || self.streams.len() >= MAX_STREAMS {
                    frame::put_reset(out, id, Reset::Refused);
                    return Ok(None);
                }
                let stream = Stream {
                    ours: !unidirectional,
                    theirs: true,
                };
                self.streams.insert(id, stream);
                self.next = if fin { self.end_theirs(id) } else { None };
                Ok(Some(Event::Opened { id, headers }))
            }
            Frame::Headers { id, fin, block } => {
                self.inflater.block(&block)?;
                Ok(if fin { self.end_theirs(id) } else { None })
            }
            Frame::Reset { id } => Ok(self.streams.remove(&id).map(|_| Event::Reset(id))),
            Frame::Ping { id } => {
                if id % 2 == 1 {
                    frame::put_ping(out, id);
                }
                Ok(None)
            }
            // The peer ends the connection by closing it; until then its streams go on.
            Frame::GoAway | Frame::Ignored => Ok(None),
            Frame::Data { id, bytes, fin } => {
                if !self.streams.get(&id).is_some_and(|stream| stream.theirs) {
                    return Ok(None);
                }
                let end = if fin { self.end_theirs(id) } else { None };
                if bytes.is_empty() {
                    return Ok(end);
                }
                self.next = end;
                Ok(Some(Event::Data { id, bytes }))
            }
        }
    }

    fn end_theirs(&mut self, id: u32) -> Option<Event> {
        let stream = self.streams.get_mut(&id).filter(|stream| stream.theirs)?;
        stream.theirs = false;
        if !stream.ours {
            self.streams.remove(&id);
        }
        Some(Event::End(id))
    }

    /// Answers that a stream is there. To be called before anything is sent on it: clients drop data of streams without an answer.
    pub fn accept(&mut self, id: u32, out: &mut BytesMut) {
        if self.streams.contains_key(&id) {
            frame::put_reply(out, id, &self.replies.empty());
        }
    }

    /// Answers that a stream is not wanted.
    pub fn refuse(&mut self, id: u32, out: &mut BytesMut) {
        self.reset_with(id, Reset::Refused, out);
    }

    /// Aborts a stream. Nothing happens if it is gone.
    pub fn reset(&mut self, id: u32, out: &mut BytesMut) {
        self.reset_with(id, Reset::Cancel, out);
    }

    fn reset_with(&mut self, id: u32, status: Reset, out: &mut BytesMut) {
        if self.streams.remove(&id).is_some() {
            frame::put_reset(out, id, status);
        }
    }

    /// Sends bytes on a stream. They are dropped if our half of it is closed.
    pub fn send(&mut self, id: u32, bytes: &[u8], out: &mut BytesMut) {
        if self.streams.get(&id).is_some_and(|stream| stream.ours) {
            frame::put_data(out, id, bytes, false);
        }
    }

    /// Closes our half of a stream. Nothing happens if it is closed.
    pub fn end(&mut self, id: u32, out: &mut BytesMut) {
        let Some(stream) = self.streams.get_mut(&id).filter(|stream| stream.ours) else {
            return;
        };
        frame::put_data(out, id, b"", true);
        stream.ours = false;
        if !stream.theirs {
            self.streams.remove(&id);
        }
    }

    /// From now on every new stream is refused.
    pub fn close(&mut self) {
        self.closing = true;
    }

    /// Says that no stream opened after the last one will be looked at. Go clients stop reading at this frame.
    pub fn go_away(&mut self, status: GoAway, out: &mut BytesMut) {
        self.closing = true;
        frame::put_go_away(out, self.last, status);
    }

    /// Asks the peer for a sign of life, which is not waited for: writing is what shows that it is gone.
    pub fn ping(&mut self, out: &mut BytesMut) {
        self.last_ping = self.last_ping.checked_add(2).unwrap_or(2);
        frame::put_ping(out, self.last_ping);
    }
}

#[cfg(test)]
mod tests {
    use super::super::dictionary::DICTIONARY;
    use super::*;
    use bytes::BufMut as _;
    use flate2::{Compress, Compression, FlushCompress};

    /// Writes what a client writes.
    struct Client(Compress, BytesMut);

    impl Client {
        fn new() -> Client {
            let mut deflater = Compress::new(Compression::best(), true);
            deflater.set_dictionary(DICTIONARY).unwrap();
            Client(deflater, BytesMut::new())
        }

        fn open(&mut self, id: u32, flags: u8, name: &str) -> &mut Client {
            let mut raw = BytesMut::new();
            raw.put_u32(1);
            for text in [name, "value"] {
                raw.put_u32(u32::try_from(text.len()).unwrap());
                raw.extend_from_slice(text.as_bytes());
            }
            let mut block = Vec::with_capacity(1024);
            self.0
                .compress_vec(&raw, &mut block, FlushCompress::Sync)
                .unwrap();
            self.1.put_u32(0x8003_0001);
            self.1
                .put_u32(u32::try_from(block.len() + 10).unwrap() | u32::from(flags) << 24);
            self.1.put_u32(id);
            self.1.put_slice(&[0; 6]);
            self.1.extend_from_slice(&block);
            self
        }

        fn data(&mut self, id: u32, bytes: &[u8], fin: bool) -> &mut Client {
            frame::put_data(&mut self.1, id, bytes, fin);
            self
        }

        fn feed(&mut self, connection: &mut Connection) -> (Vec<Event>, Vec<u8>) {
            let (mut events, mut out) = (Vec::new(), BytesMut::new());
            while let Some(event) = connection.receive(&mut self.1, &mut out).unwrap() {
                events.push(event);
            }
            (events, out.to_vec())
        }
    }

    fn opened(events: &[Event]) -> Vec<u32> {
        events
            .iter()
            .filter_map(|event| match event {
                Event::Opened { id, .. } => Some(*id),
                _ => None,
            })
            .collect()
    }

    fn reset(id: u32, status: Reset) -> Vec<u8> {
        let mut out = BytesMut::new();
        frame::put_reset(&mut out, id, status);
        out.to_vec()
    }

    #[test]
    fn ids_that_are_even_or_shrink_are_reset_and_their_headers_still_inflate() {
        let (mut client, mut connection) = (Client::new(), Connection::default());
        client
            .open(3, 0, "a-long-header-name")
            .open(2, 0, "a-long-header-name")
            .open(1, 0, "a-long-header-name")
            .open(3, 0, "a-long-header-name")
            .open(5, 0, "a-long-header-name");
        let (events, out) = client.feed(&mut connection);
        assert_eq!(opened(&events), [3, 5]);
        let resets: Vec<u8> = [2, 1, 3]
            .into_iter()
            .flat_map(|id| reset(id, Reset::ProtocolError))
            .collect();
        assert_eq!(out, resets);
        assert!(matches!(&events[1], Event::Opened { headers, .. }
            if headers.get("a-long-header-name") == Some("value")));
    }

    #[test]
    fn halves_close_one_by_one_and_late_data_is_dropped() {
        let (mut client, mut connection) = (Client::new(), Connection::default());
        let mut out = BytesMut::new();
        client
            .open(1, 0, "a")
            .data(1, b"x", true)
            .data(1, b"late", false);
        let (events, _) = client.feed(&mut connection);
        assert_eq!(
            events[1..],
            [
                Event::Data {
                    id: 1,
                    bytes: Bytes::from_static(b"x")
                },
                Event::End(1)
            ]
        );
        connection.send(1, b"y", &mut out);
        connection.end(1, &mut out);
        connection.end(1, &mut out);
        connection.send(1, b"z", &mut out);
        connection.reset(1, &mut out);
        assert_eq!(
            &out[..],
            b"\0\0\0\x01\0\0\0\x01y\0\0\0\x01\x01\0\0\0",
            "gone after both halves"
        );
        assert_eq!(
            client.data(1, b"late", false).feed(&mut connection).0,
            [],
            "unknown streams are not answered"
        );
    }

    #[test]
    fn a_stream_that_opens_closed_says_both() {
        let (mut client, mut connection) = (Client::new(), Connection::default());
        let (events, _) = client.open(1, 1, "a").feed(&mut connection);
        assert_eq!(events.len(), 2);
        assert_eq!(events[1], Event::End(1));
        let (events, _) = client.open(3, 3, "a").feed(&mut connection);
        assert_eq!(events[1], Event::End(3));
        assert!(!connection.streams.contains_key(&3));
    }

    #[test]
    fn pings_of_the_client_are_echoed_and_answers_to_ours_are_not() {
        let (mut client, mut connection) = (Client::new(), Connection::default());
        let mut ours = BytesMut::new();
        connection.ping(&mut ours);
        assert_eq!(ours[8..], [0, 0, 0, 2]);
        client.1.extend_from_slice(&ours);
        frame::put_ping(&mut client.1, 7);
        let (_, out) = client.feed(&mut connection);
        assert_eq!(out[8..], [0, 0, 0, 7]);
    }

    #[test]
    fn a_reset_is_news_once() {
        let (mut client, mut connection) = (Client::new(), Connection::default());
        client.open(1, 0, "a");
        client.1.extend_from_slice(&reset(1, Reset::Cancel));
        client.1.extend_from_slice(&reset(1, Reset::Cancel));
        client.1.extend_from_slice(&reset(9, Reset::Cancel));
        let (events, out) = client.feed(&mut connection);
        assert_eq!(events[1..], [Event::Reset(1)]);
        assert!(out.is_empty());
    }

    #[test]
    fn streams_beyond_the_limit_or_after_the_end_are_refused() {
        let (mut client, mut connection) = (Client::new(), Connection::default());
        for n in 0..=u32::try_from(MAX_STREAMS).unwrap() {
            client.open(2 * n + 1, 0, "a");
        }
        let (events, out) = client.feed(&mut connection);
        assert_eq!(events.len(), MAX_STREAMS);
        let last = 2 * u32::try_from(MAX_STREAMS).unwrap() + 1;
        assert_eq!(out, reset(last, Reset::Refused));

        let mut ignored = BytesMut::new();
        connection.reset(1, &mut ignored);
        connection.close();
        let (events, out) = client.open(last + 2, 0, "a").feed(&mut connection);
        assert!(events.is_empty());
        assert_eq!(out, reset(last + 2, Reset::Refused));
        let mut out = BytesMut::new();
        connection.go_away(GoAway::Ok, &mut out);
        assert_eq!(out[8..12], (last + 2).to_be_bytes());
    }

    #[test]
    fn headers_of_the_connection_end_it() {
        for name in ["connection", "host", "keep-alive", "transfer-encoding"] {
            let (mut client, mut connection) = (Client::new(), Connection::default());
            client.open(1, 0, name);
            let mut out = BytesMut::new();
            assert!(connection.receive(&mut client.1, &mut out).is_err());
        }
    }
}
