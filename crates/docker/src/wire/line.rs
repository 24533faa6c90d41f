//! Joins pieces of output into lines, per source, within a bound.
//!
//! Engines cut long lines at 16 KiB and frames at any byte, also within a character; a reader of text wants whole lines. A line beyond the
//! bound is handed on in parts, marked as such, so a program that never writes a newline costs no more than the bound.

use bytes::{Bytes, BytesMut};

use super::frame::Source;

/// One line of output, or a part of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Which stream it was written to.
    pub source: Source,
    /// The bytes without the newline (and without a `\r` before it).
    pub bytes: Bytes,
    /// Whether the line goes on in the next item of this source: it was longer than the bound, or the output ended without a newline.
    pub partial: bool,
}

/// The joiner of one stream of output.
#[derive(Debug)]
pub struct Joiner {
    max: usize,
    held: [BytesMut; 3],
}

impl Joiner {
    /// A joiner that holds at most `max` bytes for each source; `max` is raised to 1.
    pub fn new(max: usize) -> Self {
        Self {
            max: max.max(1),
            held: Default::default(),
        }
    }

    /// Takes the next line out of `bytes`, which is advanced past what was used. `None` means all of it was taken in and no line is complete.
    pub fn next(&mut self, source: Source, bytes: &mut Bytes) -> Option<Line> {
        let max = self.max;
        let held = &mut self.held[source as usize];
        let room = max - held.len();
        let window = &bytes[..bytes.len().min(room + 1)];
        match window.iter().position(|&byte| byte == b'\n') {
            Some(end) => {
                let rest = bytes.split_to(end + 1).slice(..end);
                let whole = if held.is_empty() {
                    rest
                } else {
                    held.extend_from_slice(&rest);
                    held.split().freeze()
                };
                let whole = if whole.last() == Some(&b'\r') {
                    whole.slice(..whole.len() - 1)
                } else {
                    whole
                };
                Some(Line {
                    source,
                    bytes: whole,
                    partial: false,
                })
            }
            None if bytes.len() > room => {
                held.extend_from_slice(&bytes.split_to(room));
                Some(Line {
                    source,
                    bytes: held.split().freeze(),
                    partial: true,
                })
            }
            None => {
                held.extend_from_slice(&bytes.split_to(bytes.len()));
                None
            }
        }
    }

    /// What the output ended with, if that was not a newline. Call it until it gives `None`.
    pub fn finish(&mut self) -> Option<Line> {
        [Source::Stdin, Source::Stdout, Source::Stderr]
            .into_iter()
            .find_map(|source| {
                let held = &mut self.held[source as usize];
                (!held.is_empty()).then(|| Line {
                    source,
                    bytes: held.split().freeze(),
                    partial: true,
                })
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn join(max: usize, pieces: &[(Source, &[u8])]) -> Vec<(Source, String, bool)> {
        let mut joiner = Joiner::new(max);
        let mut lines = Vec::new();
        let mut keep = |line: Line| {
            lines.push((
                line.source,
                String::from_utf8_lossy(&line.bytes).into_owned(),
                line.partial,
            ))
        };
        for (source, piece) in pieces {
            let mut bytes = Bytes::copy_from_slice(piece);
            while let Some(line) = joiner.next(*source, &mut bytes) {
                keep(line);
            }
            assert!(bytes.is_empty());
        }
        while let Some(line) = joiner.finish() {
            keep(line);
        }
        lines
    }

    #[test]
    fn a_character_split_across_frames_and_sources_stays_whole() {
        let pieces: [(Source, &[u8]); 4] = [
            (Source::Stdout, b"caf\xc3"),
            (Source::Stderr, b"na\xc3\xafve\r\n"),
            (Source::Stdout, b"\xa9\nend"),
            (Source::Stderr, b"\n"),
        ];
        let expected = [
            (Source::Stderr, "naïve".to_owned(), false),
            (Source::Stdout, "café".to_owned(), false),
            (Source::Stderr, String::new(), false),
            (Source::Stdout, "end".to_owned(), true),
        ];
        assert_eq!(join(100, &pieces), expected);
    }

    #[test]
    fn a_line_at_the_bound_is_whole_and_one_beyond_it_is_cut() {
        assert_eq!(
            join(4, &[(Source::Stdout, b"abcd\n")]),
            [(Source::Stdout, "abcd".into(), false)]
        );
        assert_eq!(
            join(4, &[(Source::Stdout, b"abcde\n")]),
            [
                (Source::Stdout, "abcd".into(), true),
                (Source::Stdout, "e".into(), false)
            ]
        );
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_nothing_exceeds_the_bound(
            pieces in prop::collection::vec("[ab\n]{0,20}", 0..10),
            max in 1usize..12,
        ) {
            let fed: Vec<(Source, &[u8])> = pieces.iter().map(|piece| (Source::Stdout, piece.as_bytes())).collect();
            let lines = join(max, &fed);
            prop_assert!(lines.iter().all(|(_, text, _)| text.len() <= max));
            let back: String = lines.iter().map(|(_, text, partial)| if *partial { text.clone() } else { format!("{text}\n") }).collect();
            prop_assert_eq!(back, pieces.concat());
        }
    }
}
