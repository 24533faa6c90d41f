//! Terminal sizes as clients send them: JSON objects one after another, cut anywhere.

use serde::Deserialize;

use crate::session::TerminalSize;

/// The most bytes of an object that is not complete. One has about 30.
const MAX_PENDING: usize = 4096;

#[derive(Deserialize)]
struct Size {
    #[serde(rename = "Width", alias = "width")]
    width: u16,
    #[serde(rename = "Height", alias = "height")]
    height: u16,
}

/// The decoder of one resize stream.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    pending: Vec<u8>,
    broken: bool,
}

impl Decoder {
    /// The latest usable size that `bytes` complete. Sizes with a zero are left out: clients without a terminal send them. After
    /// something that is no size the rest of the stream says nothing.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Option<TerminalSize> {
        if self.broken {
            return None;
        }
        self.pending.extend_from_slice(bytes);
        let (mut latest, mut used) = (None, 0);
        let mut sizes = serde_json::Deserializer::from_slice(&self.pending).into_iter::<Size>();
        loop {
            match sizes.next() {
                Some(Ok(Size { width, height })) => {
                    used = sizes.byte_offset();
                    if width > 0 && height > 0 {
                        latest = Some(TerminalSize { width, height });
                    }
                }
                Some(Err(error)) if error.is_eof() => break,
                Some(Err(error)) => {
                    tracing::warn!(%error, "the client's terminal sizes are unreadable");
                    self.broken = true;
                    break;
                }
                None => {
                    used = self.pending.len();
                    break;
                }
            }
        }
        self.pending.drain(..used);
        if self.broken || self.pending.len() > MAX_PENDING {
            self.broken = true;
            self.pending = Vec::new();
        }
        latest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(width: u16, height: u16) -> Option<TerminalSize> {
        Some(TerminalSize { width, height })
    }

    #[test]
    fn objects_are_read_wherever_they_are_cut() {
        let text = b"{\"Width\":80,\"Height\":24}\n{\"Width\":100,\"Height\":30}\n";
        for cut in 0..=text.len() {
            let mut decoder = Decoder::default();
            let sizes = [decoder.push(&text[..cut]), decoder.push(&text[cut..])];
            let last = sizes.into_iter().flatten().last();
            assert_eq!(last, size(100, 30), "cut at {cut}");
        }
        let mut decoder = Decoder::default();
        let sizes: Vec<_> = text.iter().filter_map(|b| decoder.push(&[*b])).collect();
        assert_eq!(sizes, [size(80, 24).unwrap(), size(100, 30).unwrap()]);
    }

    #[test]
    fn zero_sizes_are_left_out() {
        let mut decoder = Decoder::default();
        assert_eq!(decoder.push(b"{\"Width\":0,\"Height\":0}\n"), None);
        assert_eq!(
            decoder.push(b"{\"width\":8,\"height\":4}{\"Width\":0,\"Height\":9}"),
            size(8, 4)
        );
    }

    #[test]
    fn nonsense_ends_it_and_is_bounded() {
        for nonsense in ["{\"Width\":70000,\"Height\":1}", "[]", "{}", "x"] {
            let mut decoder = Decoder::default();
            assert_eq!(decoder.push(nonsense.as_bytes()), None, "{nonsense}");
            assert_eq!(decoder.push(b"{\"Width\":8,\"Height\":4}"), None);
        }
        let mut decoder = Decoder::default();
        for _ in 0..10 {
            assert_eq!(decoder.push(&[b' '; 1000]), None);
        }
        assert!(!decoder.broken, "white space is nothing to keep");
        assert_eq!(decoder.push(b"{\"Width\":"), None);
        for _ in 0..10 {
            assert_eq!(decoder.push(&[b' '; 1000]), None);
        }
        assert!(decoder.broken);
        assert!(decoder.pending.is_empty());
    }
}
