//! Exec and attach over WebSocket: a channel each for standard input, output and error, for the status and for the terminal's sizes.

use bytes::{Bytes, BytesMut};

use super::channel::{Decoder, Framing, Piece};
use super::connection::{self, Connection};
use crate::ProtocolError;
use crate::process::Event;
use crate::session::{Channel, MAX_CHUNK, Wanted};

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
/// In v5 alone: the other byte of the message is a channel that ends.
const CLOSE: u8 = 255;

/// Which protocol is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// `v5.channel.k8s.io`: adds a way to end the input.
    V5,
    /// `v4.channel.k8s.io`: JSON as status.
    V4,
    /// `v4.base64.channel.k8s.io`.
    V4Base64,
    /// `channel.k8s.io`: plain text as status.
    V1,
    /// `base64.channel.k8s.io`.
    V1Base64,
}

impl Protocol {
    /// All of them, with the names by which they are negotiated.
    pub const ALL: [(&'static str, Protocol); 5] = [
        ("v5.channel.k8s.io", Protocol::V5),
        ("v4.channel.k8s.io", Protocol::V4),
        ("v4.base64.channel.k8s.io", Protocol::V4Base64),
        ("channel.k8s.io", Protocol::V1),
        ("base64.channel.k8s.io", Protocol::V1Base64),
    ];

    /// Whether the status is JSON.
    pub(crate) fn status_is_json(self) -> bool {
        match self {
            Protocol::V5 | Protocol::V4 | Protocol::V4Base64 => true,
            Protocol::V1 | Protocol::V1Base64 => false,
        }
    }

    fn framing(self) -> Framing {
        match self {
            Protocol::V5 | Protocol::V4 | Protocol::V1 => Framing::Binary,
            Protocol::V4Base64 | Protocol::V1Base64 => Framing::Base64,
        }
    }
}

/// The server's end of one session.
#[derive(Debug)]
pub struct Process {
    connection: Connection,
    decoder: Decoder,
    protocol: Protocol,
    wanted: Wanted,
    ready: bool,
    /// The message on the CLOSE channel that is being read.
    closing: Vec<u8>,
}

impl Process {
    /// A session whose upgrade has been answered.
    pub fn new(protocol: Protocol, wanted: Wanted) -> Process {
        Process {
            connection: Connection::default(),
            decoder: Decoder::new(protocol.framing()),
            protocol,
            wanted,
            ready: false,
            closing: Vec::new(),
        }
    }

    /// The protocol that is spoken.
    pub(crate) fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// As [`Connection::receive`]. [`Event::Ready`] is the first of the events; channels need no opening.
    ///
    /// # Errors
    /// When the client breaks the protocol.
    pub fn receive(
        &mut self,
        input: &mut BytesMut,
        out: &mut BytesMut,
    ) -> Result<Option<Event>, ProtocolError> {
        if !std::mem::replace(&mut self.ready, true) {
            // Some clients wait for a first message, and every server has sent this one.
            let channel = match self.wanted {
                Wanted { stdout: true, .. } => STDOUT,
                Wanted { stderr: true, .. } => STDERR,
                _ => ERROR,
            };
            self.send(channel, b"", out);
            return Ok(Some(Event::Ready));
        }
        while let Some(event) = self.connection.receive(input, out)? {
            let event = match event {
                connection::Event::Closed => Some(Event::Left {
                    ends_input: self.protocol != Protocol::V5,
                }),
                connection::Event::Data { first, bytes, last } => {
                    match self.decoder.piece(first, bytes, last)? {
                        Some(piece) => self.on_piece(piece)?,
                        None => None,
                    }
                }
            };
            if event.is_some() {
                return Ok(event);
            }
        }
        Ok(None)
    }

    fn on_piece(&mut self, piece: Piece) -> Result<Option<Event>, ProtocolError> {
        let Piece {
            channel,
            bytes,
            last,
        } = piece;
        Ok(match channel {
            STDIN if !bytes.is_empty() => Some(Event::Stdin(bytes)),
            RESIZE if !bytes.is_empty() => Some(Event::Resize(bytes)),
            CLOSE if self.protocol == Protocol::V5 => {
                // A second byte is one too many; more are not kept.
                let room = 2 - self.closing.len().min(2);
                self.closing
                    .extend_from_slice(&bytes[..bytes.len().min(room)]);
                match (last, &std::mem::take(&mut self.closing)[..]) {
                    (false, pending) => {
                        self.closing = pending.to_vec();
                        None
                    }
                    (true, [STDIN]) => Some(Event::StdinEnd),
                    (true, [STDOUT..=RESIZE]) => None,
                    (true, _) => {
                        return Err(ProtocolError::new(
                            "a CLOSE message does not name one channel",
                        ));
                    }
                }
            }
            // Channels that nobody asked for exist all the same.
            _ => None,
        })
    }

    fn send(&mut self, channel: u8, bytes: &[u8], out: &mut BytesMut) {
        self.protocol
            .framing()
            .send(&mut self.connection, channel, bytes, out);
    }

    /// Sends output.
    pub(crate) fn output(&mut self, channel: Channel, bytes: &Bytes, out: &mut BytesMut) {
        let channel = match channel {
            Channel::Stdout => STDOUT,
            Channel::Stderr => STDERR,
        };
        self.send(channel, bytes, out);
    }

    /// Ends the session after the last output.
    pub fn finish(&mut self, status: &[u8], out: &mut BytesMut) {
        for chunk in status.chunks(MAX_CHUNK) {
            self.send(ERROR, chunk, out);
        }
        self.connection.close(out);
    }

    /// Ends the session because the client broke the protocol.
    pub fn refuse(&mut self, out: &mut BytesMut) {
        self.connection.refuse(out);
    }

    /// Gives a sign of life.
    pub fn pong(&mut self, out: &mut BytesMut) {
        self.connection.pong(out);
    }
}

#[cfg(test)]
mod tests {
    use super::super::frame::tests::frame;
    use super::*;

    const ALL: Wanted = Wanted {
        stdin: true,
        stdout: true,
        stderr: true,
        tty: false,
    };

    fn feed(
        protocol: Protocol,
        wanted: Wanted,
        wire: &[u8],
    ) -> (Vec<Event>, Vec<u8>, Option<ProtocolError>) {
        let mut process = Process::new(protocol, wanted);
        let (mut input, mut out, mut events) = (BytesMut::from(wire), BytesMut::new(), Vec::new());
        loop {
            match process.receive(&mut input, &mut out) {
                Ok(Some(event)) => events.push(event),
                Ok(None) => return (events, out.to_vec(), None),
                Err(error) => return (events, out.to_vec(), Some(error)),
            }
        }
    }

    #[test]
    fn the_first_message_is_empty_and_on_the_lowest_output() {
        let only = |stdin, stdout, stderr| Wanted {
            stdin,
            stdout,
            stderr,
            tty: false,
        };
        for (wanted, channel) in [
            (ALL, 1),
            (only(true, false, true), 2),
            (only(true, false, false), 3),
        ] {
            let (events, out, _) = feed(Protocol::V4, wanted, b"");
            assert_eq!(
                (&events[..], &out[..]),
                (&[Event::Ready][..], &[0x82, 1, channel][..])
            );
        }
        assert_eq!(feed(Protocol::V4Base64, ALL, b"").1, b"\x81\x011");
    }

    #[test]
    fn a_close_message_ends_the_input_and_nothing_else() {
        let wire = [
            frame(0x82, b"\x00in"),
            frame(0x82, &[255, 1]),
            frame(0x02, &[255]),
            frame(0x80, &[0]),
            frame(0x82, &[9, 9]),
        ]
        .concat();
        let (events, _, error) = feed(Protocol::V5, ALL, &wire);
        assert_eq!(
            events[1..],
            [Event::Stdin(Bytes::from_static(b"in")), Event::StdinEnd]
        );
        assert_eq!(error, None);
        let (events, _, error) = feed(Protocol::V4, ALL, &frame(0x82, &[255, 0]));
        assert_eq!((events.len(), error), (1, None), "unknown to v4");
    }

    #[test]
    fn a_close_message_that_names_no_channel_ends_the_session() {
        for message in [&[255][..], &[255, 5], &[255, 255], &[255, 0, 0]] {
            let (_, _, error) = feed(Protocol::V5, ALL, &frame(0x82, message));
            assert!(error.is_some(), "{message:?}");
        }
        let long = [&[255][..], &[0; 1000]].concat();
        assert!(feed(Protocol::V5, ALL, &frame(0x82, &long)).2.is_some());
    }

    #[test]
    fn leaving_ends_the_input_only_where_there_is_no_other_way() {
        for (protocol, ends_input) in [(Protocol::V5, false), (Protocol::V4, true)] {
            let (events, _, _) = feed(protocol, ALL, &frame(0x88, &[3, 0xe8]));
            assert_eq!(events[1..], [Event::Left { ends_input }]);
        }
    }
}
