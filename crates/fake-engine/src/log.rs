//! Owns a container's log: what its process wrote, cut into lines as the engine's json-file driver cuts them.
//! Knows nothing of who reads it.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::clock::Nanos;

/// The engine's copier cuts a line at this many bytes (`daemon/logger/copier.go`, `defaultBufSize`).
pub(crate) const LINE_LIMIT: usize = 16 * 1024;
/// The oldest records go when a log outgrows this, as with a rotated file.
const LOG_LIMIT: usize = 64 << 20;

/// The number of a standard stream in a multiplexed frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum StreamId {
    Stdout = 1,
    Stderr = 2,
}

/// One log record: a line with its newline, or a part of one without.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) time: Nanos,
    pub(crate) stream: StreamId,
    pub(crate) text: Bytes,
}

/// The records kept, oldest first, numbered from the container's first ever.
#[derive(Debug, Default)]
pub(crate) struct Log {
    records: VecDeque<Record>,
    /// How many records were dropped at the front.
    dropped: usize,
    bytes: usize,
    partial: [Vec<u8>; 2],
    last: Nanos,
}

impl Log {
    /// Adds what a process wrote in one go.
    pub(crate) fn append(&mut self, time: Nanos, stream: StreamId, mut data: &[u8]) {
        while !data.is_empty() {
            let partial = &mut self.partial[stream as usize - 1];
            let room = LINE_LIMIT - partial.len();
            let end = data
                .iter()
                .take(room)
                .position(|b| *b == b'\n')
                .map_or(data.len().min(room), |i| i + 1);
            partial.extend_from_slice(&data[..end]);
            let complete = partial.len() >= LINE_LIMIT || partial.last() == Some(&b'\n');
            data = &data[end..];
            if complete {
                self.flush(time, stream);
            }
        }
    }

    /// Ends an unfinished line, as the copier does when the process is gone.
    pub(crate) fn finish(&mut self, time: Nanos) {
        self.flush(time, StreamId::Stdout);
        self.flush(time, StreamId::Stderr);
    }

    fn flush(&mut self, time: Nanos, stream: StreamId) {
        let text = std::mem::take(&mut self.partial[stream as usize - 1]);
        if text.is_empty() {
            return;
        }
        // Times are unique within a log, so that a follower can resume after the last line it saw.
        self.last = time.max(self.last + 1);
        self.bytes += text.len();
        self.records.push_back(Record {
            time: self.last,
            stream,
            text: text.into(),
        });
        while self.bytes > LOG_LIMIT {
            let Some(oldest) = self.records.pop_front() else {
                break;
            };
            self.bytes -= oldest.text.len();
            self.dropped += 1;
        }
    }

    /// The number of the record that comes next.
    pub(crate) fn end(&self) -> usize {
        self.dropped + self.records.len()
    }

    /// The record with this number, or the oldest kept after it, with its own number.
    pub(crate) fn get(&self, number: usize) -> Option<(usize, &Record)> {
        let number = number.max(self.dropped);
        self.records
            .get(number - self.dropped)
            .map(|record| (number, record))
    }

    /// The number of the first of the last `count` records.
    pub(crate) fn tail(&self, count: usize) -> usize {
        self.end() - count.min(self.records.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(log: &Log) -> Vec<Bytes> {
        log.records.iter().map(|r| r.text.clone()).collect()
    }

    #[test]
    fn a_write_is_cut_into_lines_and_a_line_joined_from_writes() {
        let mut log = Log::default();
        log.append(1, StreamId::Stdout, b"a\nb");
        log.append(2, StreamId::Stderr, b"e\n");
        log.append(3, StreamId::Stdout, b"c\nrest");
        log.finish(4);
        assert_eq!(texts(&log), ["a\n", "e\n", "bc\n", "rest"]);
    }

    #[test]
    fn a_long_line_is_cut_at_16_kib() {
        let mut log = Log::default();
        log.append(1, StreamId::Stdout, &vec![b'x'; LINE_LIMIT + 5]);
        log.append(1, StreamId::Stdout, b"\n");
        assert_eq!(
            texts(&log).iter().map(Bytes::len).collect::<Vec<_>>(),
            [LINE_LIMIT, 6]
        );
    }

    #[test]
    fn times_are_unique_and_tail_counts_records() {
        let mut log = Log::default();
        log.append(5, StreamId::Stdout, b"a\nb\nc\n");
        assert_eq!(
            log.records.iter().map(|r| r.time).collect::<Vec<_>>(),
            [5, 6, 7]
        );
        assert_eq!(log.tail(2), 1);
        assert_eq!(log.tail(9), 0);
    }
}
