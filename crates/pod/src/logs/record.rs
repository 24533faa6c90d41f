//! The records of Docker's `local` log driver: bytes in, records out.
//!
//! A record is a big-endian 32-bit length, that many bytes of protobuf (`LogEntry` of moby's `daemon/logger/internal/logdriver/entry.proto`)
//! and the length again. It is decoded by hand, because the message has six fields, and nothing but the line is wanted as it stands.
//!
//! Owns the format, and where the next whole record begins when bytes are damaged. Knows no file: whoever asks brings the bytes. The format is
//! no stable interface of Docker's; what does not look like it is [`Decoded::Damaged`], never a guess.

/// The largest message of a record, in bytes: moby's reader refuses more (`maxMsgLen` in `daemon/logger/local/read.go`). Docker cuts lines at
/// 16 KiB; the rest is room for the attributes that an engine's configuration can add to each record.
pub const MAX_MESSAGE: usize = 1_000_000;
/// The length before the message and the one behind it, in bytes.
const FRAMING: usize = 8;
/// The largest record, in bytes.
pub const MAX_RECORD: usize = MAX_MESSAGE + FRAMING;

/// Which of a container's streams a line was written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stream {
    /// Standard output, and all of a terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    /// As Docker and CRI write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }

    fn of(name: &[u8]) -> Option<Self> {
        match name {
            b"stdout" => Some(Self::Stdout),
            b"stderr" => Some(Self::Stderr),
            _ => None,
        }
    }
}

/// A line that a container wrote, or a piece of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// Where it was written.
    pub stream: Stream,
    /// When Docker read it, in nanoseconds since 1970. All pieces of a line have the time of the first.
    pub time: i64,
    /// The bytes, without the newline.
    pub text: &'a [u8],
    /// Whether the line goes on in a later record of this stream (or ended without a newline).
    pub partial: bool,
}

/// What the first bytes of a buffer are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decoded<'a> {
    /// A record that takes up `size` bytes.
    Record {
        /// The record.
        record: Record<'a>,
        /// Its bytes, framing included.
        size: usize,
    },
    /// The beginning of a record; `size` bytes are needed to tell more.
    Incomplete {
        /// Bytes from the beginning of the record.
        size: usize,
    },
    /// Not a record.
    Damaged(&'static str),
}

/// Says what the first bytes are.
pub fn decode(bytes: &[u8]) -> Decoded<'_> {
    let Some(length) = length_at(bytes, 0) else {
        return Decoded::Incomplete { size: 4 };
    };
    if length == 0 || length > MAX_MESSAGE {
        return Decoded::Damaged("an impossible length");
    }
    let size = length + FRAMING;
    if bytes.len() < size {
        return Decoded::Incomplete { size };
    }
    if length_at(bytes, length + 4) != Some(length) {
        return Decoded::Damaged("a length before the message that differs from the one behind it");
    }
    match message(&bytes[4..length + 4]) {
        Some(record) => Decoded::Record { record, size },
        None => Decoded::Damaged("a message that is none"),
    }
}

/// Where behind the first byte the next whole record begins.
pub fn resync(bytes: &[u8]) -> Option<usize> {
    (1..bytes.len()).find(|&at| matches!(decode(&bytes[at..]), Decoded::Record { .. }))
}

/// The size of the record that ends where `bytes` end, by the length at its end; `None` when it does not begin within them.
pub fn size_of_last(bytes: &[u8]) -> Option<usize> {
    let length = length_at(bytes, bytes.len().checked_sub(4)?)?;
    (length <= MAX_MESSAGE && length + FRAMING <= bytes.len()).then_some(length + FRAMING)
}

fn length_at(bytes: &[u8], at: usize) -> Option<usize> {
    let length = bytes.get(at..)?.first_chunk()?;
    usize::try_from(u32::from_be_bytes(*length)).ok()
}

/// A protobuf value, as far as its wire type tells.
enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    Fixed,
}

/// The fields of a protobuf message, one after the other.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    /// The next field; `Err` when the bytes are no message.
    fn next(&mut self) -> Result<Option<(u64, Value<'a>)>, ()> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let tag = self.varint().ok_or(())?;
        let value = match tag & 7 {
            0 => self.varint().map(Value::Number),
            1 => self.take(8).map(|_| Value::Fixed),
            2 => {
                let length = self.varint().and_then(|length| length.try_into().ok());
                length
                    .and_then(|length| self.take(length))
                    .map(Value::Bytes)
            }
            5 => self.take(4).map(|_| Value::Fixed),
            _ => None,
        };
        match (tag >> 3, value) {
            (1.., Some(value)) => Ok(Some((tag >> 3, value))),
            _ => Err(()),
        }
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(length)?;
        self.0 = tail;
        Some(head)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        // 64 bits in groups of 7.
        for shift in (0..64).step_by(7) {
            let byte = *self.take(1)?.first()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }
}

fn message(bytes: &[u8]) -> Option<Record<'_>> {
    let (mut stream, mut time, mut text) = (None, 0_i64, &bytes[..0]);
    let (mut partial, mut last) = (false, false);
    let mut fields = Fields(bytes);
    while let Some((number, value)) = fields.next().ok()? {
        match (number, value) {
            (1, Value::Bytes(name)) => stream = Some(Stream::of(name)?),
            (2, Value::Number(nanos)) => time = nanos.cast_signed(),
            (3, Value::Bytes(line)) => text = line,
            (4, Value::Number(flag)) => partial = flag != 0,
            (5, Value::Bytes(metadata)) => last = is_last(metadata)?,
            (1..=5, _) => return None,
            // 6 holds attributes; what comes after it is not known yet.
            _ => {}
        }
    }
    Some(Record {
        stream: stream?,
        time,
        text,
        partial: partial && !last,
    })
}

/// `PartialLogEntryMetadata.last`.
fn is_last(metadata: &[u8]) -> Option<bool> {
    let (mut last, mut fields) = (false, Fields(metadata));
    while let Some((number, value)) = fields.next().ok()? {
        match (number, value) {
            (1, Value::Number(flag)) => last = flag != 0,
            (1, _) => return None,
            _ => {}
        }
    }
    Some(last)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A piece of a line: whether it is the last, and which one it is.
    pub(crate) type Piece = Option<(bool, u8)>;

    /// The encoder of Docker's side.
    pub(crate) fn encode(stream: Stream, time: i64, text: &[u8], piece: Piece) -> Vec<u8> {
        fn varint(out: &mut Vec<u8>, mut value: u64) {
            while value >= 0x80 {
                out.push((value & 0x7f) as u8 | 0x80);
                value >>= 7;
            }
            out.push((value & 0x7f) as u8);
        }
        fn bytes(out: &mut Vec<u8>, field: u8, bytes: &[u8]) {
            out.push(field << 3 | 2);
            varint(out, bytes.len() as u64);
            out.extend_from_slice(bytes);
        }
        let mut message = Vec::new();
        bytes(&mut message, 1, stream.name().as_bytes());
        if time != 0 {
            message.push(2 << 3);
            varint(&mut message, time.cast_unsigned());
        }
        if !text.is_empty() {
            bytes(&mut message, 3, text);
        }
        if let Some((last, ordinal)) = piece {
            message.extend([4 << 3, 1]);
            let mut metadata = Vec::new();
            if last {
                metadata.extend([1 << 3, 1]);
            }
            bytes(&mut metadata, 2, &[b'a'; 64]);
            metadata.extend([3 << 3, ordinal & 0x7f]);
            bytes(&mut message, 5, &metadata);
        }
        let length = u32::try_from(message.len()).unwrap().to_be_bytes();
        [&length, message.as_slice(), &length].concat()
    }

    fn record(bytes: &[u8]) -> Record<'_> {
        match decode(bytes) {
            Decoded::Record { record, size } => {
                assert_eq!(size, bytes.len());
                record
            }
            other => panic!("not a record: {other:?}"),
        }
    }

    #[test]
    fn what_an_engine_wrote_is_read() {
        // `printf '\377\000x\n' >&2; printf tail` on Docker 20.10, but for the ID of the second.
        let line = b"\0\0\0\x17\x0a\x06stderr\x10\xc9\xc9\xb5\x87\xa8\xca\xeb\xf5\x18\x1a\x03\xff\0x\0\0\0\x17";
        let expected = Record {
            stream: Stream::Stderr,
            time: 1_795_720_545_810_867_401,
            text: b"\xff\0x",
            partial: false,
        };
        assert_eq!(record(line), expected);
        let piece = b"\0\0\0\x22\x0a\x06stdout\x10\x94\xad\xef\xf4\xab\xca\xeb\xf5\x18\x1a\x04tail\x20\x01\x2a\x06\x12\x02ab\x18\x01\0\0\0\x22";
        let expected = Record {
            stream: Stream::Stdout,
            time: 1_795_720_546_845_709_972,
            text: b"tail",
            partial: true,
        };
        assert_eq!(record(piece), expected);
    }

    #[test]
    fn the_last_piece_of_a_line_ends_it() {
        let piece = |last| record(&encode(Stream::Stdout, 1, b"x", Some((last, 2)))).partial;
        assert!(piece(false));
        assert!(!piece(true));
    }

    #[test]
    fn attributes_and_fields_of_later_engines_are_passed_over() {
        let known = encode(Stream::Stdout, 7, b"text", None);
        let mut message = known[4..known.len() - 4].to_vec();
        message.extend(b"\x32\x05\x0a\x01k\x12\x00");
        message.extend(b"\x38\x80\x01\x45\x01\x02\x03\x04\x49\x01\x02\x03\x04\x05\x06\x07\x08");
        let length = u32::try_from(message.len()).unwrap().to_be_bytes();
        let bytes = [&length, message.as_slice(), &length].concat();
        assert_eq!(record(&bytes).text, b"text");
    }

    #[test]
    fn what_is_no_record_is_damaged() {
        for bytes in [
            b"\0\0\0\0\0\0\0\0".as_slice(),
            b"\xff\xff\xff\xff",
            b"\0\0\0\x02\x08\x01\0\0\0\x03",
            b"\0\0\0\x02\x08\x01\0\0\0\x02",
            b"\0\0\0\x08\x0a\x06stdlog\0\0\0\x08",
            b"\0\0\0\x03\x0a\xff\x01\0\0\0\x03",
        ] {
            assert!(matches!(decode(bytes), Decoded::Damaged(_)), "{bytes:x?}");
        }
    }

    fn any_record() -> impl Strategy<Value = (Stream, i64, Vec<u8>, Piece)> {
        (
            prop_oneof![Just(Stream::Stdout), Just(Stream::Stderr)],
            any::<i64>(),
            prop::collection::vec(any::<u8>(), 0..300),
            prop::option::of((any::<bool>(), 0u8..100)),
        )
    }

    proptest! {
        #[test]
        fn any_record_comes_back_and_is_incomplete_until_its_last_byte((stream, time, text, piece) in any_record()) {
            let bytes = encode(stream, time, &text, piece);
            for end in 0..bytes.len() {
                let Decoded::Incomplete { size } = decode(&bytes[..end]) else {
                    return Err(TestCaseError::fail(format!("cut at {end}: {:?}", decode(&bytes[..end]))));
                };
                prop_assert!(size > end && size <= bytes.len());
            }
            let partial = piece.is_some_and(|(last, _)| !last);
            prop_assert_eq!(record(&bytes), Record { stream, time, text: &text, partial });
            prop_assert_eq!(size_of_last(&bytes), Some(bytes.len()));
        }

        #[test]
        fn a_torn_record_hides_none_that_follow(torn in any_record(), next in any_record(), cut in any::<prop::sample::Index>()) {
            let torn = encode(torn.0, torn.1, &torn.2, torn.3);
            let mut bytes = torn[..1 + cut.index(torn.len() - 1)].to_vec();
            let at = bytes.len();
            bytes.extend(encode(next.0, next.1, &next.2, next.3));
            prop_assert_eq!(resync(&bytes), Some(at));
        }

        #[test]
        fn any_bytes_are_decoded_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes);
            let _ = resync(&bytes);
            let _ = size_of_last(&bytes);
            let length = u32::try_from(bytes.len()).unwrap().to_be_bytes();
            let framed = [&length, bytes.as_slice(), &length].concat();
            if let Decoded::Record { record, size } = decode(&framed) {
                prop_assert!(size == framed.len() && record.text.len() <= bytes.len());
            }
        }
    }
}
