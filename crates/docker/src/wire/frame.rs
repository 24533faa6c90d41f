//! The multiplexed stream of logs, attach and exec: an 8-byte header (source, three zeros, big-endian length), then the payload.
//!
//! A frame is never gathered: its payload is handed on as it comes, so a header that lies about its length costs no memory. Which streams
//! are multiplexed is not decided here, and never by looking at the bytes.

use super::WireError;

/// The longest payload a header may announce, in bytes. Engines cut at 16 KiB for logs and 32 KiB for exec; a length beyond this is a
/// stream that is not multiplexed at all.
pub const MAX_FRAME: usize = 16 * 1024 * 1024;

/// The longest message of a frame of type 3 that is kept, in bytes.
const MAX_ERROR: usize = 64 * 1024;

/// Which of the process's streams the bytes belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Source {
    /// The echo of standard input; engines write it only for attach to old logs.
    Stdin,
    /// Standard output, and everything a terminal shows.
    Stdout,
    /// Standard error.
    Stderr,
}

/// What the next bytes of the stream are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// `skip` bytes of header, then `len` bytes of payload (`len` > 0).
    Payload {
        /// Bytes to throw away first.
        skip: usize,
        /// Bytes of payload that follow them.
        len: usize,
        /// Whose they are.
        source: Source,
    },
    /// The engine reports a failure of its own inside the stream, which may go on after it.
    Failure {
        /// Bytes to throw away.
        skip: usize,
        /// What the engine said.
        message: String,
    },
    /// `skip` bytes to throw away, and nothing to say before more bytes come.
    More {
        /// Bytes to throw away.
        skip: usize,
    },
}

/// The source of a frame that is all of `input`, header and payload: a short cut past [`Decoder::step`]. `None` for anything else, good or
/// bad: empty frames, pieces, several frames, those of type 3.
pub fn whole(input: &[u8]) -> Option<Source> {
    let (&[kind, 0, 0, 0, a, b, c, d], payload) = input.split_first_chunk()? else {
        return None;
    };
    let source = match kind {
        0 => Source::Stdin,
        1 => Source::Stdout,
        2 => Source::Stderr,
        _ => return None,
    };
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    (0 < length && length <= MAX_FRAME && length == payload.len()).then_some(source)
}

/// The decoder of one multiplexed stream.
#[derive(Debug, Clone, Default)]
pub struct Decoder {
    header: [u8; 8],
    have: usize,
    left: usize,
    source: Option<Source>,
    failure: Vec<u8>,
}

impl Decoder {
    /// Whether the stream may end here: between two frames.
    pub fn may_end(&self) -> bool {
        self.have == 0 && self.left == 0
    }

    /// Says what the first bytes of `input` are. The caller consumes what the step names and asks again.
    ///
    /// # Errors
    /// When a header has an unknown type, non-zero padding or an absurd length. The decoder must not be used after an error.
    pub fn step(&mut self, input: &[u8]) -> Result<Step, WireError> {
        let mut at = 0;
        loop {
            if self.left == 0 {
                match input[at..].first_chunk() {
                    Some(header) if self.have == 0 => {
                        self.header = *header;
                        at += 8;
                    }
                    _ => {
                        let have = self.have;
                        let take = (8 - have).min(input.len() - at);
                        self.header[have..have + take].copy_from_slice(&input[at..at + take]);
                        at += take;
                        if have + take < 8 {
                            self.have = have + take;
                            return Ok(Step::More { skip: at });
                        }
                        self.have = 0;
                    }
                }
                self.open()?;
                if self.left == 0 {
                    if self.source.is_none() {
                        return Ok(self.failed(at));
                    }
                    continue;
                }
            }
            let len = (input.len() - at).min(self.left);
            if len == 0 {
                return Ok(Step::More { skip: at });
            }
            self.left -= len;
            let Some(source) = self.source else {
                let room = MAX_ERROR.saturating_sub(self.failure.len());
                self.failure
                    .extend_from_slice(&input[at..at + len.min(room)]);
                at += len;
                if self.left == 0 {
                    return Ok(self.failed(at));
                }
                continue;
            };
            return Ok(Step::Payload {
                skip: at,
                len,
                source,
            });
        }
    }

    fn failed(&mut self, skip: usize) -> Step {
        let message = String::from_utf8_lossy(&std::mem::take(&mut self.failure))
            .trim()
            .to_owned();
        Step::Failure { skip, message }
    }

    fn open(&mut self) -> Result<(), WireError> {
        let [kind, a, b, c, length @ ..] = self.header;
        self.source = match kind {
            0 => Some(Source::Stdin),
            1 => Some(Source::Stdout),
            2 => Some(Source::Stderr),
            3 => None,
            other => {
                return Err(WireError::from_string(format!(
                    "a frame has type {other}; the types are 0 to 3"
                )));
            }
        };
        if (a, b, c) != (0, 0, 0) {
            return Err(WireError::new(
                "a frame's header has bytes set that are always zero",
            ));
        }
        self.left = u32::from_be_bytes(length) as usize;
        if self.left > MAX_FRAME {
            return Err(WireError::from_string(format!(
                "a frame claims {} bytes, more than 16 MiB",
                self.left
            )));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(super) fn encode(kind: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![kind, 0, 0, 0];
        frame.extend_from_slice(&u32::try_from(payload.len()).unwrap().to_be_bytes());
        frame.extend_from_slice(payload);
        frame
    }

    #[derive(Debug, PartialEq)]
    enum Item {
        Bytes(Source, Vec<u8>),
        Failure(String),
    }

    fn decode(pieces: &[&[u8]]) -> Result<(Vec<Item>, bool), WireError> {
        let (mut decoder, mut items, mut pending) = (Decoder::default(), Vec::new(), Vec::new());
        for piece in pieces {
            pending.extend_from_slice(piece);
            loop {
                match decoder.step(&pending)? {
                    Step::Payload { skip, len, source } => {
                        let bytes = pending[skip..skip + len].to_vec();
                        pending.drain(..skip + len);
                        match items.last_mut() {
                            Some(Item::Bytes(last, data)) if *last == source => data.extend(bytes),
                            _ => items.push(Item::Bytes(source, bytes)),
                        }
                    }
                    Step::Failure { skip, message } => {
                        pending.drain(..skip);
                        items.push(Item::Failure(message));
                    }
                    Step::More { skip } => {
                        pending.drain(..skip);
                        break;
                    }
                }
            }
            assert!(pending.is_empty());
        }
        Ok((items, decoder.may_end()))
    }

    #[test]
    fn sources_are_told_apart_and_empty_frames_say_nothing() {
        let wire = [
            encode(1, b"out"),
            encode(2, b""),
            encode(2, b"err"),
            encode(0, b"in"),
        ]
        .concat();
        let (items, clean) = decode(&[&wire]).unwrap();
        let expected = [
            (Source::Stdout, "out"),
            (Source::Stderr, "err"),
            (Source::Stdin, "in"),
        ];
        assert_eq!(
            items,
            expected.map(|(source, text)| Item::Bytes(source, text.into()))
        );
        assert!(clean);
    }

    #[test]
    fn type_3_is_the_engines_failure_and_the_stream_goes_on() {
        let wire = [
            encode(3, b"broken pipe\n"),
            encode(3, b""),
            encode(1, b"more"),
        ]
        .concat();
        let (items, _) = decode(&[&wire]).unwrap();
        assert_eq!(
            items,
            [
                Item::Failure("broken pipe".into()),
                Item::Failure(String::new()),
                Item::Bytes(Source::Stdout, b"more".into())
            ]
        );
    }

    #[test]
    fn the_short_cut_takes_one_whole_good_frame_and_nothing_else() {
        assert_eq!(whole(&encode(1, b"out")), Some(Source::Stdout));
        assert_eq!(whole(&encode(2, b"err")), Some(Source::Stderr));
        let two = [encode(1, b"a"), encode(1, b"b")].concat();
        let padded = [1, 0, 1, 0, 0, 0, 0, 1, b'a'];
        for other in [
            &two[..],
            &two[..8],
            &two[..5],
            &encode(1, b""),
            &encode(3, b"x"),
            &padded,
            b"",
        ] {
            assert_eq!(whole(other), None, "{other:?}");
        }
    }

    #[test]
    fn a_header_that_cannot_be_one_is_an_error() {
        for header in [
            [4, 0, 0, 0, 0, 0, 0, 1],
            [255, 0, 0, 0, 0, 0, 0, 1],
            [1, 0, 1, 0, 0, 0, 0, 1],
            [1, 0, 0, 0, 255, 255, 255, 255],
        ] {
            assert!(decode(&[&header]).is_err(), "{header:?} was accepted");
        }
    }

    #[test]
    fn a_cut_frame_may_not_end() {
        let wire = encode(1, b"hello");
        for end in 1..wire.len() {
            assert!(!decode(&[&wire[..end]]).unwrap().1, "cut after {end} bytes");
        }
    }

    proptest! {
        #[test]
        fn the_items_are_the_same_however_the_bytes_are_split(
            frames in prop::collection::vec((0u8..4, prop::collection::vec(any::<u8>(), 0..40)), 0..6),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..16),
        ) {
            let wire: Vec<u8> = frames.iter().flat_map(|(kind, payload)| encode(*kind, payload)).collect();
            let whole = decode(&[&wire]).unwrap();
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(wire.len() + 1)).collect();
            cuts.extend([0, wire.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &wire[pair[0]..pair[1]]).collect();
            prop_assert_eq!(decode(&pieces).unwrap(), whole);
            let bytes: Vec<&[u8]> = wire.chunks(1).collect();
            prop_assert_eq!(decode(&bytes).unwrap().1, true);
        }

        #[test]
        fn nonsense_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = decode(&[&bytes]);
        }
    }
}
