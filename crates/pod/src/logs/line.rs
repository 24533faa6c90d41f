//! The lines of a CRI log file: `<RFC 3339 time> stdout|stderr P|F <text>\n`.
//!
//! Owns the format, both ways. Knows neither files nor where records come from. The same record always becomes the same bytes: that is what
//! lets a log that was torn be continued at the byte.

use std::fmt::Write;

use berth_docker::model::Timestamp;

use super::record::{Record, Stream};

const NANOS_PER_SECOND: i64 = 1_000_000_000;

/// Makes lines of records.
#[derive(Debug)]
pub struct Encoder {
    second: i64,
    /// The time down to the second, for lines come many to one.
    prefix: String,
}

impl Default for Encoder {
    fn default() -> Self {
        let mut new = Self {
            second: 0,
            prefix: String::with_capacity(24),
        };
        new.turn_to(0);
        new
    }
}

impl Encoder {
    fn turn_to(&mut self, second: i64) {
        self.second = second;
        self.prefix.clear();
        // Writing to a `String` does not fail.
        let _ = write!(self.prefix, "{}", Timestamp::new(second, 0));
        self.prefix.pop();
        self.prefix.push('.');
    }

    /// Adds the line of a record to `out`. The time has nine digits of a second always, which every reader of the format takes.
    ///
    /// Docker's records hold no newline. One that does becomes several lines, for the text after it would be taken for a line of its own.
    pub fn encode(&mut self, record: &Record<'_>, out: &mut Vec<u8>) {
        let mut rest = record.text;
        // `contains` looks at a word at a time, `position` at a byte; the usual record has none.
        if rest.contains(&b'\n') {
            while let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
                self.line(record, false, &rest[..end], out);
                rest = &rest[end + 1..];
            }
        }
        self.line(record, record.partial, rest, out);
    }

    fn line(&mut self, record: &Record<'_>, partial: bool, text: &[u8], out: &mut Vec<u8>) {
        let second = record.time.div_euclid(NANOS_PER_SECOND);
        if second != self.second {
            self.turn_to(second);
        }
        let mut digits = [b'0'; 9];
        let mut nanos = record.time.rem_euclid(NANOS_PER_SECOND);
        for digit in digits.iter_mut().rev() {
            *digit += u8::try_from(nanos % 10).unwrap_or_default();
            nanos /= 10;
        }
        let tags: &[u8] = match (record.stream, partial) {
            (Stream::Stdout, false) => b"Z stdout F ",
            (Stream::Stdout, true) => b"Z stdout P ",
            (Stream::Stderr, false) => b"Z stderr F ",
            (Stream::Stderr, true) => b"Z stderr P ",
        };
        out.reserve(self.prefix.len() + digits.len() + tags.len() + text.len() + 1);
        out.extend_from_slice(self.prefix.as_bytes());
        out.extend_from_slice(&digits);
        out.extend_from_slice(tags);
        out.extend_from_slice(text);
        out.push(b'\n');
    }
}

/// Reads a line, which is given without its newline. `None` when it is not of the format.
///
/// A tag may have more parts, separated by colons; only `P` has a meaning.
pub fn parse(line: &[u8]) -> Option<Record<'_>> {
    let mut parts = line.splitn(4, |&byte| byte == b' ');
    let time = Timestamp::parse(std::str::from_utf8(parts.next()?).ok()?)?.unix_nanos();
    let stream = match parts.next()? {
        b"stdout" => Stream::Stdout,
        b"stderr" => Stream::Stderr,
        _ => return None,
    };
    let tags = parts.next()?;
    Some(Record {
        stream,
        time,
        // Some runtimes leave the blank away before an empty text.
        text: parts.next().unwrap_or_default(),
        partial: tags.split(|&byte| byte == b':').any(|tag| tag == b"P"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encode(record: &Record<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        Encoder::default().encode(record, &mut out);
        out
    }

    #[test]
    fn lines_look_as_cri_wants_them() {
        let mut record = Record {
            stream: Stream::Stderr,
            time: 1_795_720_541_366_838_473,
            text: b"\xff\0x",
            partial: false,
        };
        assert_eq!(
            encode(&record),
            b"2026-11-26T19:15:41.366838473Z stderr F \xff\0x\n"
        );
        (record.partial, record.stream, record.text) = (true, Stream::Stdout, b"");
        record.time = 1_795_720_541_000_000_000;
        assert_eq!(
            encode(&record),
            b"2026-11-26T19:15:41.000000000Z stdout P \n"
        );
    }

    #[test]
    fn a_newline_in_a_record_does_not_become_a_line_without_a_time() {
        let record = Record {
            stream: Stream::Stdout,
            time: 0,
            text: b"a\nb",
            partial: true,
        };
        let expected =
            b"1970-01-01T00:00:00.000000000Z stdout F a\n1970-01-01T00:00:00.000000000Z stdout P b\n";
        assert_eq!(encode(&record), expected);
    }

    #[test]
    fn what_other_runtimes_write_is_read() {
        let line = parse(b"2016-10-06T00:17:09.6697+02:00 stdout F:x  a b").unwrap();
        assert_eq!((line.text, line.partial), (b" a b".as_slice(), false));
        assert!(parse(b"2016-10-06T00:17:09Z stderr P").unwrap().partial);
        for bad in [
            "",
            "stdout F x",
            "2016-10-06T00:17:09Z stdlog F x",
            "2016-10-06T00:17:09Z stdout",
        ] {
            assert_eq!(parse(bad.as_bytes()), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_record_without_a_newline_comes_back(
            time in 0..i64::MAX,
            out in any::<bool>(),
            partial in any::<bool>(),
            text in prop::collection::vec(any::<u8>().prop_filter("newline", |byte| *byte != b'\n'), 0..100),
        ) {
            let stream = if out { Stream::Stdout } else { Stream::Stderr };
            let record = Record { stream, time, text: &text, partial };
            let line = encode(&record);
            prop_assert_eq!(line.last(), Some(&b'\n'));
            prop_assert_eq!(parse(&line[..line.len() - 1]), Some(record));
        }

        #[test]
        fn any_bytes_are_parsed_without_a_panic(line in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = parse(&line);
        }
    }
}
