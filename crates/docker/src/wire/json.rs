//! Cuts a stream of JSON values into single values: pull progress, events, stats.
//!
//! Engines separate values with newlines, CRLF, a record separator (RFC 7464) or nothing. Only the outline is scanned (strings and
//! brackets); whether a piece is valid JSON is the decoder's business. Each byte is looked at once, however the stream is split.

use super::WireError;

/// The longest single value, in bytes. The largest seen is a stats sample of a host with many cores, below 100 KiB.
pub const MAX_VALUE: usize = 4 * 1024 * 1024;

/// The scanner of one stream. It remembers how far it has looked into the caller's buffer.
#[derive(Debug, Clone, Default)]
pub struct Splitter {
    at: usize,
    depth: u32,
    in_string: bool,
    escaped: bool,
    started: bool,
}

/// One piece of the caller's buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// Separators to throw away first.
    pub skip: usize,
    /// The length of the value that follows.
    pub len: usize,
}

impl Splitter {
    /// Finds the first value of `buf`, or `None` when it does not end in it. The caller must drop the piece from the front of the buffer
    /// before the next call, and otherwise only append to it.
    ///
    /// # Errors
    /// When a value is longer than [`MAX_VALUE`] or closes a bracket it has not opened.
    pub fn next(&mut self, buf: &[u8]) -> Result<Option<Piece>, WireError> {
        let skip = buf.iter().take_while(|byte| is_separator(**byte)).count();
        if !self.started {
            if skip == buf.len() {
                self.at = 0;
                return Ok(None);
            }
            self.started = true;
            self.at = skip;
        }
        while let Some(&byte) = buf.get(self.at) {
            if self.in_string {
                match byte {
                    _ if self.escaped => self.escaped = false,
                    b'\\' => self.escaped = true,
                    b'"' => {
                        self.in_string = false;
                        if self.depth == 0 {
                            return Ok(Some(self.found(skip, self.at + 1)));
                        }
                    }
                    _ => {}
                }
            } else {
                match byte {
                    b'"' => self.in_string = true,
                    b'{' | b'[' => self.depth += 1,
                    b'}' | b']' => {
                        self.depth = self.depth.checked_sub(1).ok_or(WireError::new(
                            "a JSON value closes a bracket it has not opened",
                        ))?;
                        if self.depth == 0 {
                            return Ok(Some(self.found(skip, self.at + 1)));
                        }
                    }
                    _ if self.depth == 0 && is_separator(byte) => {
                        return Ok(Some(self.found(skip, self.at)));
                    }
                    _ => {}
                }
            }
            self.at += 1;
        }
        if buf.len() - skip > MAX_VALUE {
            return Err(WireError::new("a JSON value is longer than 4 MiB"));
        }
        Ok(None)
    }

    /// Whether a value has begun. Otherwise what [`next`](Self::next) saw was separators alone, and the caller may drop them.
    pub fn has_begun(&self) -> bool {
        self.started
    }

    /// What is left when the stream has ended: nothing, or a last bare word (`null`, a number) that only the end completes.
    ///
    /// # Errors
    /// When the stream ends within a value.
    pub fn finish(&self, buf: &[u8]) -> Result<Option<Piece>, WireError> {
        let skip = buf.iter().take_while(|byte| is_separator(**byte)).count();
        if skip == buf.len() {
            return Ok(None);
        }
        if self.depth > 0 || self.in_string {
            return Err(WireError::new("the stream ends within a JSON value"));
        }
        Ok(Some(Piece {
            skip,
            len: buf.len() - skip,
        }))
    }

    fn found(&mut self, skip: usize, end: usize) -> Piece {
        *self = Self::default();
        Piece {
            skip,
            len: end - skip,
        }
    }
}

fn is_separator(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | 0x1e)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn split(pieces: &[&[u8]]) -> Result<Vec<String>, WireError> {
        let (mut splitter, mut values, mut pending) = (Splitter::default(), Vec::new(), Vec::new());
        let mut take = |pending: &mut Vec<u8>, piece: Piece| {
            values.push(
                String::from_utf8_lossy(&pending[piece.skip..piece.skip + piece.len]).into_owned(),
            );
            pending.drain(..piece.skip + piece.len);
        };
        for piece in pieces {
            pending.extend_from_slice(piece);
            while let Some(piece) = splitter.next(&pending)? {
                take(&mut pending, piece);
            }
        }
        if let Some(piece) = splitter.finish(&pending)? {
            take(&mut pending, piece);
        }
        Ok(values)
    }

    #[test]
    fn values_are_cut_at_any_separator() {
        let text = "{\"a\":1}\r\n{\"b\":[{}]}{\"c\":\"}\\\"{\"}\n\x1enull\n\"s\"12 [1]\n3";
        let expected = [
            "{\"a\":1}",
            "{\"b\":[{}]}",
            "{\"c\":\"}\\\"{\"}",
            "null",
            "\"s\"",
            "12",
            "[1]",
            "3",
        ];
        assert_eq!(split(&[text.as_bytes()]).unwrap(), expected);
        let bytes: Vec<&[u8]> = text.as_bytes().chunks(1).collect();
        assert_eq!(split(&bytes).unwrap(), expected);
    }

    #[test]
    fn separators_that_go_on_for_ever_need_not_be_kept() {
        let mut splitter = Splitter::default();
        for _ in 0..3 {
            assert_eq!(splitter.next(b"\n \r\n\x1e").unwrap(), None);
            assert!(!splitter.has_begun());
        }
        assert_eq!(splitter.next(b"\n{\"a\":").unwrap(), None);
        assert!(splitter.has_begun());
        let piece = splitter.next(b"\n{\"a\":1}").unwrap();
        assert_eq!(piece, Some(Piece { skip: 1, len: 7 }));
        assert!(!splitter.has_begun());
    }

    #[test]
    fn a_cut_value_is_an_error() {
        for text in ["{", "{\"a\":", "\"abc", "[1,2", "{\"a\":\"b}"] {
            assert!(split(&[text.as_bytes()]).is_err(), "{text:?} was accepted");
        }
        assert!(split(&[b"}"]).is_err());
    }

    #[test]
    fn an_endless_value_is_refused_before_it_fills_the_memory() {
        let long = format!("\"{}", "a".repeat(MAX_VALUE + 1));
        assert!(split(&[long.as_bytes()]).is_err());
    }

    proptest! {
        #[test]
        fn the_values_are_the_same_however_the_bytes_are_split(
            texts in prop::collection::vec("[a-z\"\\\\{}\\[\\]é ]{0,12}", 0..6),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
        ) {
            let values: Vec<String> = texts.iter().map(|text| serde_json::json!({"t": text}).to_string()).collect();
            let wire = values.join("\r\n").into_bytes();
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(wire.len() + 1)).collect();
            cuts.extend([0, wire.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &wire[pair[0]..pair[1]]).collect();
            prop_assert_eq!(split(&pieces).unwrap(), values);
        }

        #[test]
        fn nonsense_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = split(&[&bytes]);
        }
    }
}
