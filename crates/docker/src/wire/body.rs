//! Where the data of a body lies among the bytes that carry it: by length, in chunks, or until the peer closes.
//!
//! The decoder points into its input instead of copying from it, so that a payload is moved once: from the socket into the buffer the
//! caller gets a slice of.

use std::ops::Range;

use super::WireError;
use super::head::Framing;

/// The longest line between chunks that is accepted, extensions included, in bytes (RFC 9112 §7.1.1 asks for a limit).
const MAX_CHUNK_LINE: u32 = 4 * 1024;

/// The most bytes of trailer fields that are skipped after the last chunk.
const MAX_TRAILER: u32 = 16 * 1024;

/// What the next bytes of the input are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// `skip` bytes of framing, then `len` bytes of data (`len` > 0). Consume both before the next step.
    Data {
        /// Bytes to throw away first.
        skip: usize,
        /// Bytes of the body that follow them.
        len: usize,
    },
    /// `skip` bytes of framing, and no more to be said before more bytes come.
    More {
        /// Bytes to throw away.
        skip: usize,
    },
    /// `skip` bytes of framing, then the body has ended; what follows belongs to the next reply.
    End {
        /// Bytes to throw away.
        skip: usize,
    },
}

/// The decoder of one body. Made from the framing of its head.
#[derive(Debug, Clone)]
pub struct Decoder(State);

#[derive(Debug, Clone)]
enum State {
    Length(u64),
    UntilClose,
    Size { value: u64, digits: u8 },
    Extension { size: u64, seen: u32 },
    SizeLf { size: u64 },
    Data { left: u64 },
    DataCr,
    DataLf,
    Trailer { seen: u32, line: u32 },
    Done,
}

impl Decoder {
    /// A decoder at the first byte after the head.
    pub fn new(framing: Framing) -> Self {
        Self(match framing {
            Framing::Empty => State::Done,
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::Size {
                value: 0,
                digits: 0,
            },
            Framing::UntilClose => State::UntilClose,
        })
    }

    /// Whether the body has been read to its end.
    pub fn is_done(&self) -> bool {
        matches!(self.0, State::Done)
    }

    /// Whether the peer closing the connection here is the end of the body rather than a cut.
    pub fn ends_at_close(&self) -> bool {
        matches!(self.0, State::UntilClose | State::Done)
    }

    /// The bytes the body still has, when its length was declared.
    pub fn remaining(&self) -> Option<u64> {
        match self.0 {
            State::Length(left) => Some(left),
            State::Done => Some(0),
            _ => None,
        }
    }

    /// The bytes of data that come next, before any framing: what is left of a body of declared length, or of a chunk.
    pub fn data_ahead(&self) -> u64 {
        match self.0 {
            State::Length(left) | State::Data { left } => left,
            _ => 0,
        }
    }

    /// Takes note of `len` bytes of data that the caller has read by itself. More than [`data_ahead`](Self::data_ahead) are not possible.
    pub fn skip_data(&mut self, len: usize) {
        let len = len as u64;
        match self.0 {
            State::Length(left) if len < left => self.0 = State::Length(left - len),
            State::Length(_) => self.0 = State::Done,
            State::Data { left } if len < left => self.0 = State::Data { left: left - len },
            State::Data { .. } => self.0 = State::DataCr,
            _ => {}
        }
    }

    /// Where the data of a chunk lies that is whole at the front of `input`: a short cut past [`step`](Self::step) for many small chunks.
    /// `None` when there is no such chunk, or the decoder stands anywhere but between two. The caller that takes the chunk calls
    /// [`skip_chunk`](Self::skip_chunk) and drops what the range ends with; the line break behind the data stays.
    pub fn whole_chunk(&self, input: &[u8]) -> Option<Range<usize>> {
        let line = match self.0 {
            State::Size { digits: 0, .. } => 0,
            State::DataCr if input.starts_with(b"\r\n") => 2,
            _ => return None,
        };
        let (size, length) = plain_size(&input[line..])?;
        let start = line + length;
        let end = start.checked_add(usize::try_from(size).ok()?)?;
        (end <= input.len()).then_some(start..end)
    }

    /// Takes note that the caller has taken the chunk that [`whole_chunk`](Self::whole_chunk) found.
    pub fn skip_chunk(&mut self) {
        self.0 = State::DataCr;
    }

    /// Says what the bytes of `input` are, as far as the first piece of data. The caller consumes what the step names and asks again.
    ///
    /// # Errors
    /// When a chunk's size line or end is malformed. The decoder must not be used after an error.
    pub fn step(&mut self, input: &[u8]) -> Result<Step, WireError> {
        let mut at = 0;
        loop {
            match self.0 {
                State::Done => return Ok(Step::End { skip: at }),
                State::UntilClose => {
                    let len = input.len() - at;
                    return Ok(if len == 0 {
                        Step::More { skip: at }
                    } else {
                        Step::Data { skip: at, len }
                    });
                }
                State::Length(0) => self.0 = State::Done,
                State::Length(left) => {
                    let len = available(input.len() - at, left);
                    if len == 0 {
                        return Ok(Step::More { skip: at });
                    }
                    self.0 = if len as u64 == left {
                        State::Done
                    } else {
                        State::Length(left - len as u64)
                    };
                    return Ok(Step::Data { skip: at, len });
                }
                State::Data { left } => {
                    let len = available(input.len() - at, left);
                    if len == 0 {
                        return Ok(Step::More { skip: at });
                    }
                    self.0 = if len as u64 == left {
                        State::DataCr
                    } else {
                        State::Data {
                            left: left - len as u64,
                        }
                    };
                    return Ok(Step::Data { skip: at, len });
                }
                State::DataCr if input[at..].starts_with(b"\r\n") => {
                    at += 2;
                    self.0 = State::Size {
                        value: 0,
                        digits: 0,
                    };
                }
                State::Size { digits: 0, .. }
                    if let Some((size, length)) = plain_size(&input[at..]) =>
                {
                    at += length;
                    self.0 = State::Data { left: size };
                }
                _ => {
                    let Some(&byte) = input.get(at) else {
                        return Ok(Step::More { skip: at });
                    };
                    at += 1;
                    self.0 = self.framing_byte(byte)?;
                }
            }
        }
    }

    fn framing_byte(&self, byte: u8) -> Result<State, WireError> {
        Ok(match self.0 {
            State::Size { value, digits } => match (byte as char).to_digit(16) {
                Some(digit) if digits < 16 => State::Size {
                    value: value << 4 | u64::from(digit),
                    digits: digits + 1,
                },
                Some(_) => return Err(WireError::new("a chunk's size has more than 16 digits")),
                None if digits == 0 => return Err(WireError::new("a chunk has no size")),
                None => match byte {
                    b'\r' => State::SizeLf { size: value },
                    b';' | b' ' | b'\t' => State::Extension {
                        size: value,
                        seen: 0,
                    },
                    _ => return Err(WireError::new("a chunk's size is not a hexadecimal number")),
                },
            },
            State::Extension { size, .. } if byte == b'\r' => State::SizeLf { size },
            State::Extension { seen, .. } if seen >= MAX_CHUNK_LINE || byte == b'\n' => {
                return Err(WireError::new("a chunk's extension does not end"));
            }
            State::Extension { size, seen } => State::Extension {
                size,
                seen: seen + 1,
            },
            State::SizeLf { .. } if byte != b'\n' => {
                return Err(WireError::new("a chunk's size line ends with a bare CR"));
            }
            State::SizeLf { size: 0 } => State::Trailer { seen: 0, line: 0 },
            State::SizeLf { size } => State::Data { left: size },
            State::DataCr if byte == b'\r' => State::DataLf,
            State::DataLf if byte == b'\n' => State::Size {
                value: 0,
                digits: 0,
            },
            State::DataCr | State::DataLf => {
                return Err(WireError::new("a chunk is longer than its size says"));
            }
            State::Trailer { seen, .. } if seen >= MAX_TRAILER => {
                return Err(WireError::new("its trailer is longer than 16 KiB"));
            }
            State::Trailer { line: 0, .. } if byte == b'\n' => State::Done,
            State::Trailer { seen, .. } if byte == b'\n' => State::Trailer {
                seen: seen + 1,
                line: 0,
            },
            State::Trailer { seen, line } if byte == b'\r' => State::Trailer {
                seen: seen + 1,
                line,
            },
            State::Trailer { seen, line } => State::Trailer {
                seen: seen + 1,
                line: line + 1,
            },
            // These states have no framing bytes; `step` handles them before it reads one.
            ref
            data @ (State::Length(_) | State::UntilClose | State::Data { .. } | State::Done) => {
                data.clone()
            }
        })
    }
}

/// The usual size line at the front of `input`, read in one go: the size and the length of the line. `None` for everything else (a last
/// chunk, an extension, a line that is not all there, a malformed one), which is left to be read byte by byte.
fn plain_size(input: &[u8]) -> Option<(u64, usize)> {
    let mut size = 0;
    for (index, &byte) in input.iter().take(9).enumerate() {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            b'\r' if size > 0 && input.get(index + 1) == Some(&b'\n') => {
                return Some((size, index + 2));
            }
            _ => return None,
        };
        size = size << 4 | u64::from(digit);
    }
    None
}

/// How many of `left` bytes are there.
fn available(have: usize, left: u64) -> usize {
    usize::try_from(left).map_or(have, |left| have.min(left))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Feeds `pieces` one after another; gives the data, whether the body ended, and what was left over.
    fn decode(framing: Framing, pieces: &[&[u8]]) -> Result<(Vec<u8>, bool, usize), WireError> {
        let (mut decoder, mut data, mut pending) = (Decoder::new(framing), Vec::new(), Vec::new());
        for piece in pieces {
            pending.extend_from_slice(piece);
            loop {
                match decoder.step(&pending)? {
                    Step::Data { skip, len } => {
                        assert!(len > 0);
                        data.extend_from_slice(&pending[skip..skip + len]);
                        pending.drain(..skip + len);
                    }
                    Step::More { skip } => {
                        pending.drain(..skip);
                        break;
                    }
                    Step::End { skip } => {
                        pending.drain(..skip);
                        break;
                    }
                }
            }
        }
        Ok((data, decoder.is_done(), pending.len()))
    }

    fn chunked(text: &str) -> Result<(Vec<u8>, bool, usize), WireError> {
        decode(Framing::Chunked, &[text.as_bytes()])
    }

    #[test]
    fn chunks_extensions_and_trailers_are_read() {
        let (data, done, left) =
            chunked("5;a=b\r\nhello\r\n6 \r\n world\r\n0\r\nX: y\r\nZ: w\r\n\r\nNEXT").unwrap();
        assert_eq!(
            (data.as_slice(), done, left),
            (b"hello world".as_slice(), true, 4)
        );
    }

    #[test]
    fn malformed_chunks_are_errors() {
        for text in [
            "\r\nhello",
            "-5\r\nhello\r\n",
            "g\r\n",
            "10000000000000000\r\n",
            "5\nhello\r\n",
            "5\r\nhelloworld\r\n",
            "5\rXhello",
            "5\r\nhello\rX",
        ] {
            assert!(chunked(text).is_err(), "{text:?} was accepted");
        }
        let endless = format!("5;{}", "x".repeat(5000));
        assert!(chunked(&endless).is_err());
        let trailer = format!("0\r\n{}", "x: y\r\n".repeat(4000));
        assert!(chunked(&trailer).is_err());
    }

    #[test]
    fn a_missing_last_chunk_is_not_an_end() {
        let (data, done, _) = chunked("5\r\nhello\r\n").unwrap();
        assert_eq!((data.as_slice(), done), (b"hello".as_slice(), false));
        assert!(!Decoder::new(Framing::Length(1)).ends_at_close());
        assert!(Decoder::new(Framing::UntilClose).ends_at_close());
    }

    #[test]
    fn data_that_the_caller_read_by_itself_is_not_asked_for_again() {
        let mut decoder = Decoder::new(Framing::Chunked);
        assert_eq!(
            decoder.step(b"6\r\nab").unwrap(),
            Step::Data { skip: 3, len: 2 }
        );
        assert_eq!(decoder.data_ahead(), 4);
        decoder.skip_data(3);
        assert_eq!(
            decoder.step(b"f\r\n0\r\n\r\n").unwrap(),
            Step::Data { skip: 0, len: 1 }
        );
        assert_eq!(decoder.data_ahead(), 0);
        assert_eq!(decoder.step(b"\r\n2\r\n").unwrap(), Step::More { skip: 5 });
        decoder.skip_data(2);
        assert_eq!(
            decoder.step(b"\r\n0\r\n\r\nNEXT").unwrap(),
            Step::End { skip: 7 }
        );

        let mut decoder = Decoder::new(Framing::Length(5));
        decoder.skip_data(4);
        assert_eq!((decoder.data_ahead(), decoder.is_done()), (1, false));
        decoder.skip_data(1);
        assert!(decoder.is_done());
    }

    #[test]
    fn a_length_stops_where_it_says() {
        assert_eq!(
            decode(Framing::Length(3), &[b"ab", b"cdef"]).unwrap(),
            (b"abc".to_vec(), true, 3)
        );
    }

    proptest! {
        #[test]
        fn the_data_is_the_same_however_the_bytes_are_split(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..6),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
        ) {
            let mut wire = Vec::new();
            for chunk in &chunks {
                wire.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                wire.extend_from_slice(chunk);
                wire.extend_from_slice(b"\r\n");
            }
            wire.extend_from_slice(b"0\r\n\r\n");
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(wire.len())).collect();
            cuts.extend([0, wire.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &wire[pair[0]..pair[1]]).collect();
            let (data, done, left) = decode(Framing::Chunked, &pieces).unwrap();
            prop_assert_eq!(data, chunks.concat());
            prop_assert!(done && left == 0);
        }

        #[test]
        fn the_short_cut_finds_the_same_chunks(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..300), 0..6),
            cut in any::<prop::sample::Index>(),
        ) {
            let mut wire = Vec::new();
            for chunk in &chunks {
                wire.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                wire.extend_from_slice(chunk);
                wire.extend_from_slice(b"\r\n");
            }
            wire.extend_from_slice(b"0\r\n\r\n");
            let cut = cut.index(wire.len());
            let (mut decoder, mut data, mut at) = (Decoder::new(Framing::Chunked), Vec::new(), 0);
            for end in [cut, wire.len()] {
                while let Some(chunk) = decoder.whole_chunk(&wire[at..end]) {
                    data.extend_from_slice(&wire[at..end][chunk.clone()]);
                    decoder.skip_chunk();
                    at += chunk.end;
                }
                // What the short cut leaves is taken as ever.
                loop {
                    match decoder.step(&wire[at..end]).unwrap() {
                        Step::Data { skip, len } => {
                            data.extend_from_slice(&wire[at + skip..][..len]);
                            at += skip + len;
                        }
                        Step::More { skip } | Step::End { skip } => {
                            at += skip;
                            break;
                        }
                    }
                }
            }
            prop_assert_eq!(data, chunks.concat());
            prop_assert!(decoder.is_done() && at == wire.len());
        }

        #[test]
        fn nonsense_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(Framing::Chunked, &[&bytes]);
        }
    }
}
