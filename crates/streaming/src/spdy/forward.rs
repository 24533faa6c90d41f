//! Port-forward over SPDY: each forwarded connection is a pair of streams, one for data and one for an error, which belong together by a
//! request id.
//!
//! A connection goes by the id of its data stream. Knows no clock: who waits for half a pair says when that has been long enough.

use std::collections::HashMap;

use bytes::BytesMut;

use super::connection::{self, Connection};
use super::frame::GoAway;
use super::header::Headers;
use crate::ProtocolError;
use crate::forward::Event;

/// The longest request id, in bytes. Clients count from 0.
const MAX_REQUEST_ID: usize = 256;

#[derive(Debug, Default)]
struct Pair {
    serial: u64,
    error: Option<u32>,
    data: Option<(u32, u16)>,
}

/// The server's end of one port-forward session.
#[derive(Debug, Default)]
pub struct Forward {
    connection: Connection,
    /// Pairs of which one stream is missing, by request id.
    halves: HashMap<String, Pair>,
    /// The error stream of each whole pair, by the data stream.
    errors: HashMap<u32, u32>,
    serial: u64,
    next: Option<Event>,
}

enum Role {
    Error,
    Data,
}

struct Opening {
    role: Role,
    port: u16,
    request: String,
}

impl Opening {
    fn of(id: u32, headers: &Headers) -> Option<Opening> {
        let role = match headers.get("streamtype")? {
            "error" => Role::Error,
            "data" => Role::Data,
            _ => return None,
        };
        let port = headers.get("port")?.parse().ok().filter(|port| *port > 0)?;
        let request = match headers.get("requestid") {
            Some(request) if !request.is_empty() => request.to_owned(),
            // Clients before Kubernetes 1.4 open the data stream right after the error stream.
            _ => match role {
                Role::Error => id.to_string(),
                Role::Data => id.checked_sub(2)?.to_string(),
            },
        };
        (request.len() <= MAX_REQUEST_ID).then_some(Opening {
            role,
            port,
            request,
        })
    }
}

impl Forward {
    /// As [`Connection::receive`].
    ///
    /// # Errors
    /// When the client breaks the protocol.
    pub fn receive(
        &mut self,
        input: &mut BytesMut,
        out: &mut BytesMut,
    ) -> Result<Option<Event>, ProtocolError> {
        if let Some(event) = self.next.take() {
            return Ok(Some(event));
        }
        while let Some(event) = self.connection.receive(input, out)? {
            let event = match event {
                connection::Event::Opened { id, headers } => self.opened(id, &headers, out),
                connection::Event::Data { id, bytes } => {
                    self.is_data(id).then_some(Event::Data { id, bytes })
                }
                connection::Event::End(id) => self.is_data(id).then_some(Event::End { id }),
                connection::Event::Reset(id) => self.reset(id, out),
            };
            if event.is_some() {
                return Ok(event);
            }
        }
        Ok(None)
    }

    fn is_data(&self, id: u32) -> bool {
        self.errors.contains_key(&id)
            || self
                .halves
                .values()
                .any(|pair| pair.data.is_some_and(|(data, _)| data == id))
    }

    fn opened(&mut self, id: u32, headers: &Headers, out: &mut BytesMut) -> Option<Event> {
        let Some(Opening {
            role,
            port,
            request,
        }) = Opening::of(id, headers)
        else {
            self.connection.refuse(id, out);
            return None;
        };
        let fresh = !self.halves.contains_key(&request);
        let serial = self.serial;
        let pair = self.halves.entry(request.clone()).or_insert_with(|| Pair {
            serial,
            ..Pair::default()
        });
        match role {
            Role::Error if pair.error.is_none() => pair.error = Some(id),
            Role::Data if pair.data.is_none() => pair.data = Some((id, port)),
            Role::Error | Role::Data => {
                self.connection.refuse(id, out);
                return None;
            }
        }
        self.connection.accept(id, out);
        let opened = matches!(role, Role::Data).then_some(Event::Opened { id });
        if let Pair {
            error: Some(error),
            data: Some((data, port)),
            ..
        } = *pair
        {
            self.halves.remove(&request);
            self.errors.insert(data, error);
            let connect = Event::Connect { id: data, port };
            return match opened {
                Some(_) => {
                    self.next = Some(connect);
                    opened
                }
                None => Some(connect),
            };
        }
        if fresh {
            self.serial += 1;
            let waiting = Event::Waiting { serial };
            return match opened {
                Some(_) => {
                    self.next = Some(waiting);
                    opened
                }
                None => Some(waiting),
            };
        }
        opened
    }

    fn reset(&mut self, id: u32, out: &mut BytesMut) -> Option<Event> {
        if let Some(error) = self.errors.remove(&id) {
            self.connection.reset(error, out);
            return Some(Event::Lost { id });
        }
        // A half of a pair, or an error stream, whose loss takes nothing from the data.
        let request = self.halves.iter().find_map(|(request, pair)| {
            (pair.error == Some(id) || pair.data.is_some_and(|(data, _)| data == id))
                .then(|| request.clone())
        })?;
        let pair = self.halves.remove(&request)?;
        self.drop_half(&pair, out)
    }

    fn drop_half(&mut self, pair: &Pair, out: &mut BytesMut) -> Option<Event> {
        if let Some(error) = pair.error {
            self.connection.reset(error, out);
        }
        let (data, _) = pair.data?;
        self.connection.reset(data, out);
        Some(Event::Lost { id: data })
    }

    /// Gives a pair up that has waited for its second stream for too long; says so on the error stream, if that is the one it has.
    /// Nothing happens if it is whole or gone. Returns the connection that is lost with it.
    pub fn expire(&mut self, serial: u64, out: &mut BytesMut) -> Option<u32> {
        let request = self
            .halves
            .iter()
            .find_map(|(request, pair)| (pair.serial == serial).then(|| request.clone()))?;
        let pair = self.halves.remove(&request)?;
        if let Some(error) = pair.error {
            let text = format!("(request={request}) timed out waiting for streams");
            self.connection.send(error, text.as_bytes(), out);
            self.connection.end(error, out);
        }
        self.drop_half(&pair, out)?;
        pair.data.map(|(data, _)| data)
    }

    /// Sends what the port's side sent.
    pub fn send(&mut self, id: u32, bytes: &[u8], out: &mut BytesMut) {
        self.connection.send(id, bytes, out);
    }

    /// Says that the port's side sends nothing more, and that there will be no error: clients wait for both before they close theirs.
    pub fn end(&mut self, id: u32, out: &mut BytesMut) {
        self.connection.end(id, out);
        if let Some(error) = self.errors.get(&id) {
            self.connection.end(*error, out);
        }
    }

    /// Ends a connection of which both directions are over.
    pub fn close(&mut self, id: u32, out: &mut BytesMut) {
        self.end(id, out);
        if let Some(error) = self.errors.remove(&id) {
            self.connection.reset(error, out);
        }
        self.connection.reset(id, out);
    }

    /// Aborts a connection that broke, without a word: current clients take any word for a reason to end the whole session.
    pub fn abort(&mut self, id: u32, out: &mut BytesMut) {
        self.connection.reset(id, out);
        if let Some(error) = self.errors.remove(&id) {
            self.connection.reset(error, out);
        }
    }

    /// Ends a connection with an error. The others live on, as far as it is up to us: current clients end the session then.
    pub fn fail(&mut self, id: u32, what: &str, out: &mut BytesMut) {
        if let Some(error) = self.errors.remove(&id) {
            self.connection.send(error, what.as_bytes(), out);
            self.connection.end(error, out);
            self.connection.reset(error, out);
        }
        self.connection.reset(id, out);
    }

    /// Ends the session.
    pub fn go_away(&mut self, status: GoAway, out: &mut BytesMut) {
        self.connection.go_away(status, out);
    }

    /// Asks for a sign of life.
    pub fn ping(&mut self, out: &mut BytesMut) {
        self.connection.ping(out);
    }
}
