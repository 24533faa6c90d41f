//! The old port-forward over WebSocket: the ports are in the request, and each has a channel for data and one for an error. There is one
//! connection to each port, for as long as the session lasts, and no way to close half of it.

use bytes::BytesMut;

use super::channel::{Decoder, Framing};
use super::connection::{self, Connection};
use crate::ProtocolError;
use crate::forward::Event;
use crate::session::MAX_CHUNK;

/// The most ports in one session. A digit of the base64 form has to stay a character of ASCII, which allows 39.
const MAX_PORTS: usize = 32;

/// The ports of a session: those that are known, else those in a request's `port` parameters, each of them one number or a list.
///
/// # Errors
/// A text for the client, when there are none, too many, or something that is no port.
pub fn ports(known: &[u16], query: &str) -> Result<Vec<u16>, String> {
    let ports = if known.is_empty() {
        query
            .split('&')
            .filter_map(|pair| pair.strip_prefix("port="))
            .flat_map(|value| value.split(','))
            .flat_map(|part| part.split("%2C"))
            .flat_map(|part| part.split("%2c"))
            .map(|port| match port.parse() {
                Ok(0) | Err(_) => Err(format!("invalid value \"{port}\" for the port parameter")),
                Ok(port) => Ok(port),
            })
            .collect::<Result<Vec<u16>, String>>()?
    } else {
        known.to_vec()
    };
    match ports.len() {
        0 => Err("query parameter \"port\" is required".to_owned()),
        1..=MAX_PORTS => Ok(ports),
        many => Err(format!(
            "{many} ports are asked for; {MAX_PORTS} are allowed"
        )),
    }
}

/// The server's end of one session. A connection goes by its place among the ports.
#[derive(Debug)]
pub struct Forward {
    connection: Connection,
    decoder: Decoder,
    framing: Framing,
    ports: Vec<u16>,
    /// How many of the ports have been announced; each takes two steps.
    announced: usize,
    open: usize,
}

impl Forward {
    /// A session whose upgrade has been answered.
    pub fn new(framing: Framing, ports: Vec<u16>) -> Forward {
        Forward {
            connection: Connection::default(),
            decoder: Decoder::new(framing),
            framing,
            open: ports.len(),
            ports,
            announced: 0,
        }
    }

    /// As [`Connection::receive`]. The events of all connections' beginnings come first.
    ///
    /// # Errors
    /// When the client breaks the protocol.
    pub fn receive(
        &mut self,
        input: &mut BytesMut,
        out: &mut BytesMut,
    ) -> Result<Option<Event>, ProtocolError> {
        if let Some(event) = self.announce(out) {
            return Ok(Some(event));
        }
        while let Some(event) = self.connection.receive(input, out)? {
            let (first, bytes, last) = match event {
                connection::Event::Closed => return Ok(Some(Event::Left)),
                connection::Event::Data { first, bytes, last } => (first, bytes, last),
            };
            // Nothing comes in on the channels for errors.
            if let Some(piece) = self.decoder.piece(first, bytes, last)?
                && piece.channel % 2 == 0
                && usize::from(piece.channel / 2) < self.ports.len()
                && !piece.bytes.is_empty()
            {
                return Ok(Some(Event::Data {
                    id: u32::from(piece.channel / 2),
                    bytes: piece.bytes,
                }));
            }
        }
        Ok(None)
    }

    fn announce(&mut self, out: &mut BytesMut) -> Option<Event> {
        let (index, connects) = (self.announced / 2, self.announced % 2 == 1);
        let port = *self.ports.get(index)?;
        let id = u32::try_from(index).ok()?;
        self.announced += 1;
        if connects {
            return Some(Event::Connect { id, port });
        }
        for channel in [data(id), error(id)] {
            self.put(channel, &port.to_le_bytes(), out);
        }
        Some(Event::Opened { id })
    }

    fn put(&mut self, channel: u8, bytes: &[u8], out: &mut BytesMut) {
        for chunk in bytes.chunks(MAX_CHUNK) {
            self.framing.send(&mut self.connection, channel, chunk, out);
        }
    }

    /// Sends what the port's side sent.
    pub fn send(&mut self, id: u32, bytes: &[u8], out: &mut BytesMut) {
        self.put(data(id), bytes, out);
    }

    /// Ends a connection.
    pub fn close(&mut self) {
        self.open = self.open.saturating_sub(1);
    }

    /// Ends a connection with an error.
    pub fn fail(&mut self, id: u32, what: &str, out: &mut BytesMut) {
        self.put(error(id), what.as_bytes(), out);
        self.close();
    }

    /// Whether every connection has ended.
    pub fn is_over(&self) -> bool {
        self.open == 0
    }

    /// Ends the session.
    pub fn finish(&mut self, out: &mut BytesMut) {
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

/// The channel of a connection's data. There are fewer than 128 connections.
fn data(id: u32) -> u8 {
    u8::try_from(2 * id).unwrap_or(u8::MAX)
}

/// The channel of a connection's error.
fn error(id: u32) -> u8 {
    data(id).saturating_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_come_from_the_session_or_the_query() {
        assert_eq!(ports(&[80], "port=1"), Ok(vec![80]));
        assert_eq!(ports(&[], "a=b&port=80&port=443"), Ok(vec![80, 443]));
        assert_eq!(ports(&[], "port=80,443"), Ok(vec![80, 443]));
        assert_eq!(ports(&[], "port=80%2C443%2c1"), Ok(vec![80, 443, 1]));
        for query in ["", "ports=80", "port=", "port=0", "port=65536", "port=80,x"] {
            assert!(ports(&[], query).is_err(), "{query}");
        }
        assert!(ports(&[1; 33], "").unwrap_err().contains("33 ports"));
    }

    #[test]
    fn each_channel_begins_with_the_port_low_byte_first() {
        let mut forward = Forward::new(Framing::Binary, vec![80, 8080]);
        let (mut input, mut out) = (BytesMut::new(), BytesMut::new());
        let mut events = Vec::new();
        while let Some(event) = forward.receive(&mut input, &mut out).unwrap() {
            events.push(event);
        }
        assert_eq!(
            events,
            [
                Event::Opened { id: 0 },
                Event::Connect { id: 0, port: 80 },
                Event::Opened { id: 1 },
                Event::Connect { id: 1, port: 8080 },
            ]
        );
        let message = |channel, port: [u8; 2]| [0x82, 3, channel, port[0], port[1]];
        let expected = [
            message(0, [80, 0]),
            message(1, [80, 0]),
            message(2, [0x90, 0x1f]),
            message(3, [0x90, 0x1f]),
        ]
        .concat();
        assert_eq!(&out[..], expected);
    }
}
