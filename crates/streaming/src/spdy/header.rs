//! Header blocks: one zlib stream per direction for as long as the connection lives, and the pairs inside.
//!
//! Every block goes through the inflater in the order of arrival, also those of streams that are refused: it carries the state that the
//! next block needs. In our own direction every block is the empty one, so there is no compressor, only [`Replies`].

use flate2::{Decompress, FlushDecompress, Status};

use super::dictionary::{DICTIONARY, DICTIONARY_ID};
use crate::ProtocolError;

/// The most pairs in a block, as in the Go library since CVE-2026-35469.
pub const MAX_HEADERS: usize = 1000;

/// The longest block, inflated, in bytes. The Go library bounds each name and value to 1 MiB; those of Kubernetes clients have below 100.
pub const MAX_BLOCK: usize = 64 * 1024;

/// Names that may not occur in a SYN_STREAM.
const ILLEGAL: [&[u8]; 5] = [
    b"connection",
    b"host",
    b"keep-alive",
    b"proxy-connection",
    b"transfer-encoding",
];

/// The headers of one block.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Headers(Vec<(Vec<u8>, Vec<u8>)>);

impl Headers {
    /// The value of `name`, the first one if it has several. `None` if there is none or if it is no text.
    pub fn get(&self, name: &str) -> Option<&str> {
        let (_, value) = self
            .0
            .iter()
            .find(|(other, _)| other.eq_ignore_ascii_case(name.as_bytes()))?;
        let first = value.split(|byte| *byte == 0).next()?;
        std::str::from_utf8(first).ok()
    }

    /// Whether it holds a name that may not occur in a SYN_STREAM.
    pub(super) fn has_illegal(&self) -> bool {
        self.0
            .iter()
            .any(|(name, _)| ILLEGAL.contains(&name.as_slice()))
    }

    fn parse(mut block: &[u8]) -> Result<Headers, ProtocolError> {
        let count = number(&mut block)?;
        if count > MAX_HEADERS {
            return Err(ProtocolError::from_string(format!(
                "a header block has {count} headers; {MAX_HEADERS} are allowed"
            )));
        }
        let mut headers = Headers::default();
        for _ in 0..count {
            let name = text(&mut block)?;
            let value = text(&mut block)?;
            if name.is_empty() || name.iter().any(u8::is_ascii_uppercase) {
                return Err(ProtocolError::new(
                    "a header's name is empty or not in lower case",
                ));
            }
            if headers.0.iter().any(|(other, _)| *other == name) {
                return Err(ProtocolError::new("a header occurs twice in one block"));
            }
            headers.0.push((name.to_vec(), value.to_vec()));
        }
        if block.is_empty() {
            Ok(headers)
        } else {
            Err(ProtocolError::new("a header block goes on after its end"))
        }
    }
}

fn number(block: &mut &[u8]) -> Result<usize, ProtocolError> {
    let (number, rest) = block.split_first_chunk().ok_or(CUT)?;
    *block = rest;
    Ok(u32::from_be_bytes(*number) as usize)
}

fn text<'a>(block: &mut &'a [u8]) -> Result<&'a [u8], ProtocolError> {
    let length = number(block)?;
    let (text, rest) = block.split_at_checked(length).ok_or(CUT)?;
    *block = rest;
    Ok(text)
}

const CUT: ProtocolError = ProtocolError::new("a header block ends early");
const NOT_ZLIB: ProtocolError = ProtocolError::new("a header block is not what zlib makes");

/// The inflater of the peer's direction.
#[derive(Debug)]
pub struct Inflater(Decompress);

impl Default for Inflater {
    fn default() -> Inflater {
        Inflater(Decompress::new(true))
    }
}

impl Inflater {
    /// The headers in the next block.
    ///
    /// # Errors
    /// When the block does not inflate by itself and completely, exceeds a limit, or holds no headers. The inflater must not be used
    /// after an error.
    pub fn block(&mut self, compressed: &[u8]) -> Result<Headers, ProtocolError> {
        Headers::parse(&self.inflate(compressed)?)
    }

    fn inflate(&mut self, mut input: &[u8]) -> Result<Vec<u8>, ProtocolError> {
        let (mut block, mut chunk) = (Vec::new(), [0; 2048]);
        loop {
            let (read, written) = (self.0.total_in(), self.0.total_out());
            let status = match self.0.decompress(input, &mut chunk, FlushDecompress::Sync) {
                Ok(status) => status,
                Err(error) if error.needs_dictionary().is_some() => {
                    self.0.set_dictionary(DICTIONARY).map_err(|_| NOT_ZLIB)?;
                    Status::Ok
                }
                Err(_) => return Err(NOT_ZLIB),
            };
            let read = usize::try_from(self.0.total_in() - read).map_err(|_| NOT_ZLIB)?;
            let written = usize::try_from(self.0.total_out() - written).map_err(|_| NOT_ZLIB)?;
            input = input.get(read..).ok_or(NOT_ZLIB)?;
            block.extend_from_slice(chunk.get(..written).ok_or(NOT_ZLIB)?);
            if block.len() > MAX_BLOCK {
                return Err(ProtocolError::from_string(format!(
                    "a header block inflates to more than {MAX_BLOCK} bytes"
                )));
            }
            match status {
                // The stream lives as long as the connection.
                Status::StreamEnd => return Err(NOT_ZLIB),
                Status::Ok | Status::BufError if input.is_empty() && written < chunk.len() => {
                    return Ok(block);
                }
                Status::BufError if read == 0 && written == 0 => return Err(NOT_ZLIB),
                Status::Ok | Status::BufError => {}
            }
        }
    }
}

/// The blocks of our own direction: each holds zero headers.
///
/// A deflate block of kind "stored" needs no compressor and no memory: zlib's head that names the dictionary once, then per block the
/// four zero bytes and the empty stored block by which a sync flush ends.
#[derive(Debug, Default)]
pub struct Replies {
    begun: bool,
}

impl Replies {
    const EMPTY: [u8; 14] = [
        0, 4, 0, 0xfb, 0xff, 0, 0, 0, 0, // stored, not the last, 4 bytes, a count of zero
        0, 0, 0, 0xff, 0xff, // stored, not the last, 0 bytes
    ];

    /// The next empty block, compressed.
    pub fn empty(&mut self) -> Vec<u8> {
        let mut block = Vec::with_capacity(6 + Replies::EMPTY.len());
        if !std::mem::replace(&mut self.begun, true) {
            // Deflate, 32 KiB window, fastest, with a preset dictionary.
            block.extend_from_slice(&[0x78, 0x20]);
            block.extend_from_slice(&DICTIONARY_ID);
        }
        block.extend_from_slice(&Replies::EMPTY);
        block
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compress, Compression, FlushCompress};
    use proptest::prelude::*;

    fn raw(pairs: &[(&str, &str)]) -> Vec<u8> {
        let mut block = u32::try_from(pairs.len()).unwrap().to_be_bytes().to_vec();
        for text in pairs.iter().flat_map(|(name, value)| [name, value]) {
            block.extend_from_slice(&u32::try_from(text.len()).unwrap().to_be_bytes());
            block.extend_from_slice(text.as_bytes());
        }
        block
    }

    struct Deflater(Compress);

    impl Deflater {
        fn new(dictionary: bool) -> Deflater {
            let mut inner = Compress::new(Compression::best(), true);
            if dictionary {
                inner.set_dictionary(DICTIONARY).unwrap();
            }
            Deflater(inner)
        }

        fn block(&mut self, raw: &[u8]) -> Vec<u8> {
            let mut out = Vec::with_capacity(raw.len() + 1024);
            self.0
                .compress_vec(raw, &mut out, FlushCompress::Sync)
                .unwrap();
            assert!(out.len() < out.capacity());
            out
        }
    }

    fn refused(raw: &[u8]) -> String {
        let block = Deflater::new(true).block(raw);
        Inflater::default().block(&block).unwrap_err().to_string()
    }

    #[test]
    fn blocks_with_and_without_the_dictionary_are_read() {
        for dictionary in [true, false] {
            let (mut deflater, mut inflater) = (Deflater::new(dictionary), Inflater::default());
            for port in ["80", "443", "80"] {
                let block = deflater.block(&raw(&[
                    ("streamtype", "data"),
                    ("port", port),
                    ("requestid", "0"),
                ]));
                let headers = inflater.block(&block).unwrap();
                assert_eq!(headers.get("port"), Some(port));
                assert_eq!(headers.get("streamType"), Some("data"));
                assert_eq!(headers.get("other"), None);
            }
        }
    }

    #[test]
    fn a_block_that_was_skipped_breaks_the_next() {
        let (mut deflater, mut inflater) = (Deflater::new(true), Inflater::default());
        let first = deflater.block(&raw(&[("streamtype", "a-rather-long-value")]));
        let second = deflater.block(&raw(&[("streamtype", "a-rather-long-value")]));
        assert!(second.len() < first.len(), "the second refers to the first");
        assert!(inflater.block(&second).is_err());
        let mut inflater = Inflater::default();
        inflater.block(&first).unwrap();
        inflater.block(&second).unwrap();
    }

    #[test]
    fn of_several_values_the_first_counts() {
        let block = Deflater::new(true).block(&raw(&[("streamtype", "error\0data")]));
        let headers = Inflater::default().block(&block).unwrap();
        assert_eq!(headers.get("streamtype"), Some("error"));
    }

    #[test]
    fn limits_hold() {
        let many: Vec<String> = (0..=MAX_HEADERS).map(|n| format!("n{n}")).collect();
        let pairs: Vec<(&str, &str)> = many.iter().map(|name| (name.as_str(), "")).collect();
        assert!(refused(&raw(&pairs)).contains("1001 headers"));
        let block = Deflater::new(true).block(&raw(&pairs[..MAX_HEADERS]));
        assert!(Inflater::default().block(&block).is_ok());

        let bomb = "a".repeat(16 * 1024 * 1024);
        assert!(refused(&raw(&[("name", &bomb)])).contains("more than"));
        assert!(refused(&[0xff; 4]).contains("4294967295 headers"));
        assert!(refused(&[0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff]).contains("ends early"));
    }

    #[test]
    fn what_is_no_block_is_refused() {
        assert!(refused(&raw(&[("streamType", "data")])).contains("lower case"));
        assert!(refused(&raw(&[("", "data")])).contains("empty"));
        assert!(refused(&raw(&[("port", "1"), ("port", "2")])).contains("twice"));
        assert!(refused(&[raw(&[]), vec![0]].concat()).contains("goes on"));
        assert!(refused(&[0, 0, 0]).contains("ends early"));
        assert!(refused(b"").contains("ends early"));

        let mut block = Deflater::new(true).block(&raw(&[]));
        block.extend_from_slice(b"stray");
        assert!(Inflater::default().block(&block).is_err());
        let mut finished = Vec::with_capacity(100);
        Compress::new(Compression::fast(), true)
            .compress_vec(&raw(&[]), &mut finished, FlushCompress::Finish)
            .unwrap();
        assert!(Inflater::default().block(&finished).is_err());
    }

    #[test]
    fn our_blocks_inflate_to_zero_headers_with_the_dictionary_named() {
        let mut replies = Replies::default();
        let mut inflater = Inflater::default();
        for _ in 0..3 {
            let block = replies.empty();
            assert_eq!(inflater.block(&block), Ok(Headers::default()));
        }
        let mut plain = Decompress::new(true);
        let error = plain
            .decompress(
                &Replies::default().empty(),
                &mut [0; 10],
                FlushDecompress::Sync,
            )
            .unwrap_err();
        assert_eq!(
            error.needs_dictionary(),
            Some(u32::from_be_bytes(DICTIONARY_ID))
        );
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out(blocks in prop::collection::vec(
            prop::collection::btree_map("[a-z0-9-]{1,20}", "\\PC{0,1000}", 0..6), 0..5,
        )) {
            let (mut deflater, mut inflater) = (Deflater::new(true), Inflater::default());
            for block in blocks {
                let pairs: Vec<(&str, &str)> = block.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
                let headers = inflater.block(&deflater.block(&raw(&pairs))).unwrap();
                for (name, value) in pairs {
                    prop_assert_eq!(headers.get(name), value.split('\0').next());
                }
            }
        }

        #[test]
        fn nonsense_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Inflater::default().block(&bytes);
            let _ = Headers::parse(&bytes);
        }
    }
}
