//! The head of a reply: status line, header fields, and what they say about the body and the connection.
//!
//! Strict where leniency is how requests get smuggled or replies get cut: two `Content-Length` fields, or one beside
//! `Transfer-Encoding`, are errors (RFC 9112 §6.3).

use std::mem::MaybeUninit;
use std::ops::Range;

use bytes::Bytes;

use super::WireError;
use crate::request::Method;

/// The longest head that is read, in bytes. Engines send below 1 KiB; Go's client stops at 10 MiB, nginx at 8 KiB.
pub const MAX_HEAD: usize = 64 * 1024;

/// The most header fields a head may have.
pub const MAX_FIELDS: usize = 128;

/// The header fields of one reply, in the order they came.
#[derive(Clone, Default)]
pub struct Headers {
    raw: Bytes,
    fields: Vec<(Range<usize>, Range<usize>)>,
}

impl Headers {
    /// The first field of that name, compared without case. `None` also when its value is not UTF-8.
    pub fn get(&self, name: &str) -> Option<&str> {
        let (_, value) = self.fields.iter().find(|(field, _)| {
            let field = &self.raw[field.clone()];
            // Engines write names as they are usually written.
            field == name.as_bytes() || field.eq_ignore_ascii_case(name.as_bytes())
        })?;
        std::str::from_utf8(&self.raw[value.clone()]).ok()
    }

    /// Names and values. Names are ASCII, or the head would have been refused.
    fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.fields
            .iter()
            .map(|(name, value)| (&self.raw[name.clone()], &self.raw[value.clone()]))
    }
}

impl std::fmt::Debug for Headers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = String::from_utf8_lossy;
        f.debug_map()
            .entries(self.iter().map(|(name, value)| (text(name), text(value))))
            .finish()
    }
}

/// How the end of a body is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// There is no body.
    Empty,
    /// Exactly so many bytes.
    Length(u64),
    /// Chunks with their sizes, then an empty one.
    Chunked,
    /// Everything until the peer closes. A cut cannot be told from an end.
    UntilClose,
}

/// A parsed reply head.
#[derive(Debug, Clone)]
pub struct Head {
    /// The status code, 100 to 999.
    pub status: u16,
    /// All header fields.
    pub headers: Headers,
    /// How the body ends.
    pub framing: Framing,
    /// Whether the connection may carry another request once the body has been read.
    pub keep_alive: bool,
}

/// Parses one reply head from the start of `buf`. `Ok(None)` asks for more bytes; on success the length of the head is returned with it.
///
/// `method` is that of the request: a reply to HEAD has no body.
///
/// # Errors
/// When the bytes cannot become a head, or the head contradicts itself.
pub fn parse(buf: &[u8], method: Method) -> Result<Option<(Head, usize)>, WireError> {
    // Uninitialised, because filling 4 KiB would cost more than parsing the head of a ping.
    let mut fields = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut response = httparse::Response::new(&mut []);
    let length = match httparse::ParserConfig::default().parse_response_with_uninit_headers(
        &mut response,
        buf,
        &mut fields,
    ) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) if buf.len() >= MAX_HEAD => {
            return Err(WireError::new("its head is longer than 64 KiB"));
        }
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => {
            return Err(WireError::new("it has more than 128 header fields"));
        }
        Err(error) => {
            return Err(WireError::from_string(format!(
                "its head is not HTTP/1.1: {error}"
            )));
        }
    };
    if length > MAX_HEAD {
        return Err(WireError::new("its head is longer than 64 KiB"));
    }
    let status = response.code.unwrap_or_default();
    if status < 100 {
        return Err(WireError::new("its status is below 100"));
    }
    let http_1_1 = response.version == Some(1);

    let mut content_length = None;
    let mut chunked = false;
    let mut encoded = false;
    let mut keep_alive = http_1_1;
    for field in response.headers.iter() {
        if field.name.eq_ignore_ascii_case("content-length") {
            let value =
                decimal(field.value).ok_or(WireError::new("its Content-Length is not a number"))?;
            if content_length.replace(value).is_some() {
                return Err(WireError::new("it has more than one Content-Length"));
            }
        } else if field.name.eq_ignore_ascii_case("transfer-encoding") {
            if encoded || !field.value.trim_ascii().eq_ignore_ascii_case(b"chunked") {
                return Err(WireError::new(
                    "its Transfer-Encoding is not just \"chunked\"",
                ));
            }
            encoded = true;
            chunked = true;
        } else if field.name.eq_ignore_ascii_case("connection") {
            for token in field.value.split(|&byte| byte == b',') {
                let token = token.trim_ascii();
                if token.eq_ignore_ascii_case(b"close") {
                    keep_alive = false;
                } else if token.eq_ignore_ascii_case(b"keep-alive") && !http_1_1 {
                    keep_alive = true;
                }
            }
        }
    }
    if chunked && content_length.is_some() {
        return Err(WireError::new(
            "it has both Content-Length and Transfer-Encoding",
        ));
    }
    if chunked && !http_1_1 {
        return Err(WireError::new("it is HTTP/1.0 and chunked"));
    }
    let framing = if method == Method::Head || status < 200 || status == 204 || status == 304 {
        Framing::Empty
    } else if chunked {
        Framing::Chunked
    } else {
        match content_length {
            Some(0) => Framing::Empty,
            Some(length) => Framing::Length(length),
            None => Framing::UntilClose,
        }
    };
    let start = buf.as_ptr() as usize;
    let range = |part: &[u8]| {
        let from = part.as_ptr() as usize - start;
        from..from + part.len()
    };
    let fields = response
        .headers
        .iter()
        .map(|field| (range(field.name.as_bytes()), range(field.value)))
        .collect();
    let headers = Headers {
        raw: Bytes::copy_from_slice(&buf[..length]),
        fields,
    };
    keep_alive &= framing != Framing::UntilClose;
    Ok(Some((
        Head {
            status,
            headers,
            framing,
            keep_alive,
        },
        length,
    )))
}

fn decimal(value: &[u8]) -> Option<u64> {
    let value = value.trim_ascii();
    if value.is_empty() || value.len() > 19 || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    value.iter().try_fold(0u64, |number, digit| {
        number.checked_mul(10)?.checked_add(u64::from(digit - b'0'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Result<Option<(Head, usize)>, WireError> {
        parse(text.as_bytes(), Method::Get)
    }

    fn framing(fields: &str) -> Framing {
        one(&format!("HTTP/1.1 200 OK\r\n{fields}\r\n"))
            .unwrap()
            .unwrap()
            .0
            .framing
    }

    #[test]
    fn the_framing_follows_the_fields() {
        assert_eq!(framing("Content-Length: 12\r\n"), Framing::Length(12));
        assert_eq!(framing("Content-Length: 0\r\n"), Framing::Empty);
        assert_eq!(framing("Transfer-Encoding: chunked\r\n"), Framing::Chunked);
        assert_eq!(framing(""), Framing::UntilClose);
        for status in [100, 101, 204, 304] {
            let text = format!("HTTP/1.1 {status} X\r\nContent-Length: 5\r\n\r\n");
            assert_eq!(
                one(&text).unwrap().unwrap().0.framing,
                Framing::Empty,
                "{status}"
            );
        }
        let head = parse(
            b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n",
            Method::Head,
        )
        .unwrap()
        .unwrap()
        .0;
        assert_eq!(head.framing, Framing::Empty);
    }

    #[test]
    fn contradictions_are_errors() {
        for fields in [
            "Content-Length: 1\r\nContent-Length: 1\r\n",
            "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n",
            "Content-Length: -1\r\n",
            "Content-Length: 1, 1\r\n",
            "Content-Length: 99999999999999999999\r\n",
            "Transfer-Encoding: gzip, chunked\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        ] {
            assert!(
                one(&format!("HTTP/1.1 200 OK\r\n{fields}\r\n")).is_err(),
                "{fields:?} was accepted"
            );
        }
        assert!(one("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").is_err());
    }

    #[test]
    fn the_connection_is_kept_only_when_the_end_is_known_and_nobody_closes() {
        let keep = |text: &str| one(text).unwrap().unwrap().0.keep_alive;
        assert!(keep("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n"));
        assert!(!keep(
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\n"
        ));
        assert!(!keep("HTTP/1.1 200 OK\r\n\r\n"));
        assert!(!keep("HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\n"));
    }

    #[test]
    fn every_prefix_asks_for_more_and_oversize_is_refused() {
        let text = "HTTP/1.1 200 OK\r\nApi-Version: 1.41\r\nContent-Length: 2\r\n\r\n";
        for end in 0..text.len() {
            assert!(
                one(&text[..end]).unwrap().is_none(),
                "prefix of {end} bytes"
            );
        }
        let (head, length) = one(&format!("{text}{{}}")).unwrap().unwrap();
        assert_eq!(
            (length, head.headers.get("api-version")),
            (text.len(), Some("1.41"))
        );

        let endless = format!("HTTP/1.1 200 OK\r\nX: {}", "a".repeat(MAX_HEAD));
        assert!(one(&endless).is_err());
        let crowded = format!(
            "HTTP/1.1 200 OK\r\n{}\r\n",
            "X: y\r\n".repeat(MAX_FIELDS + 1)
        );
        assert!(one(&crowded).is_err());
    }
}
