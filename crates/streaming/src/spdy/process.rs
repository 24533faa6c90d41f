//! Exec and attach over SPDY: one stream each for standard input, output and error, for the terminal's sizes and for the status, told
//! apart by a header.

use bytes::{Bytes, BytesMut};

use super::connection::{self, Connection};
use super::frame::GoAway;
use super::header::Headers;
use crate::ProtocolError;
use crate::process::Event;
use crate::session::{Channel, Wanted};

/// Which of the protocol's versions is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// `channel.k8s.io`: plain text as status, no sizes.
    V1,
    /// `v2.channel.k8s.io`: as v1.
    V2,
    /// `v3.channel.k8s.io`: adds sizes.
    V3,
    /// `v4.channel.k8s.io`: JSON as status.
    V4,
}

impl Version {
    /// All of them, newest first, with the names by which they are negotiated.
    pub const ALL: [(&'static str, Version); 4] = [
        ("v4.channel.k8s.io", Version::V4),
        ("v3.channel.k8s.io", Version::V3),
        ("v2.channel.k8s.io", Version::V2),
        ("channel.k8s.io", Version::V1),
    ];
}

/// What a stream is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Error,
    Stdin,
    Stdout,
    Stderr,
    Resize,
}

impl Role {
    const ALL: [Role; 5] = [
        Role::Error,
        Role::Stdin,
        Role::Stdout,
        Role::Stderr,
        Role::Resize,
    ];

    fn of(headers: &Headers) -> Option<Role> {
        match headers.get("streamtype")? {
            "error" => Some(Role::Error),
            "stdin" => Some(Role::Stdin),
            "stdout" => Some(Role::Stdout),
            "stderr" => Some(Role::Stderr),
            "resize" => Some(Role::Resize),
            _ => None,
        }
    }
}

/// The server's end of one session.
#[derive(Debug)]
pub struct Process {
    connection: Connection,
    version: Version,
    wanted: Wanted,
    /// By role, in the order of [`Role::ALL`].
    streams: [Option<u32>; 5],
    ready: bool,
}

impl Process {
    /// A session whose upgrade has been answered.
    pub fn new(version: Version, wanted: Wanted) -> Process {
        Process {
            connection: Connection::default(),
            version,
            wanted,
            streams: [None; 5],
            ready: false,
        }
    }

    /// The version that is spoken.
    pub(crate) fn version(&self) -> Version {
        self.version
    }

    /// As [`Connection::receive`]. [`Event::Ready`] comes once, when every stream that is wanted has been opened.
    ///
    /// # Errors
    /// When the client breaks the protocol.
    pub fn receive(
        &mut self,
        input: &mut BytesMut,
        out: &mut BytesMut,
    ) -> Result<Option<Event>, ProtocolError> {
        while let Some(event) = self.connection.receive(input, out)? {
            let event = match event {
                connection::Event::Opened { id, headers } => self.opened(id, &headers, out),
                connection::Event::Data { id, bytes } => match self.role(id) {
                    Some(Role::Stdin) => Some(Event::Stdin(bytes)),
                    Some(Role::Resize) => Some(Event::Resize(bytes)),
                    _ => None,
                },
                connection::Event::End(id) => match self.role(id) {
                    Some(Role::Stdin) => Some(Event::StdinEnd),
                    _ => None,
                },
                connection::Event::Reset(id) => match self.role(id) {
                    Some(Role::Stdin) => Some(Event::StdinLost),
                    _ => None,
                },
            };
            if event.is_some() {
                return Ok(event);
            }
        }
        Ok(None)
    }

    /// Streams that are known but not wanted are accepted and not used: clients open them out of habit, and count on an answer.
    fn opened(&mut self, id: u32, headers: &Headers, out: &mut BytesMut) -> Option<Event> {
        match Role::of(headers) {
            Some(role) if self.streams[role as usize].is_none() => {
                self.streams[role as usize] = Some(id);
                self.connection.accept(id, out);
            }
            _ => self.connection.refuse(id, out),
        }
        if self.ready || !self.complete() {
            return None;
        }
        self.ready = true;
        Some(Event::Ready)
    }

    fn complete(&self) -> bool {
        Role::ALL.into_iter().all(|role| {
            let wanted = match role {
                Role::Error => true,
                Role::Stdin => self.wanted.stdin,
                Role::Stdout => self.wanted.stdout,
                Role::Stderr => self.wanted.stderr,
                Role::Resize => self.wanted.tty && self.version >= Version::V3,
            };
            !wanted || self.streams[role as usize].is_some()
        })
    }

    fn role(&self, id: u32) -> Option<Role> {
        Role::ALL
            .into_iter()
            .find(|role| self.streams[*role as usize] == Some(id))
    }

    /// Sends output.
    pub(crate) fn output(&mut self, channel: Channel, bytes: &Bytes, out: &mut BytesMut) {
        let role = match channel {
            Channel::Stdout => Role::Stdout,
            Channel::Stderr => Role::Stderr,
        };
        if let Some(id) = self.streams[role as usize] {
            self.connection.send(id, bytes, out);
        }
    }

    /// Ends the session after the last output. From now on new streams are refused.
    pub fn finish(&mut self, status: &[u8], out: &mut BytesMut) {
        for role in [Role::Stdout, Role::Stderr] {
            if let Some(id) = self.streams[role as usize] {
                self.connection.end(id, out);
            }
        }
        if let Some(id) = self.streams[Role::Error as usize] {
            self.connection.send(id, status, out);
            self.connection.end(id, out);
        }
        for role in [Role::Stdin, Role::Resize] {
            if let Some(id) = self.streams[role as usize] {
                self.connection.reset(id, out);
            }
        }
        self.connection.close();
    }

    /// Ends the connection. A Go client looks at nothing that comes after this.
    pub fn go_away(&mut self, status: GoAway, out: &mut BytesMut) {
        self.connection.go_away(status, out);
    }

    /// Asks for a sign of life.
    pub fn ping(&mut self, out: &mut BytesMut) {
        self.connection.ping(out);
    }
}
