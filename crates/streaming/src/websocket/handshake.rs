//! The answer to a WebSocket's opening handshake, RFC 6455 section 4.2.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest as _, Sha1};

/// What RFC 6455 appends to a client's key.
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The value of `Sec-WebSocket-Accept` for a client's `Sec-WebSocket-Key`. `None` if that is not 16 bytes in base64.
pub fn accept(key: &str) -> Option<String> {
    let nonce = STANDARD.decode(key).ok()?;
    (nonce.len() == 16).then(|| {
        let hash = Sha1::new().chain_update(key).chain_update(GUID).finalize();
        STANDARD.encode(hash)
    })
}

#[cfg(test)]
mod tests {
    use super::accept;

    #[test]
    fn the_example_of_the_standard_is_answered_so() {
        assert_eq!(
            accept("dGhlIHNhbXBsZSBub25jZQ==").as_deref(),
            Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
        );
    }

    #[test]
    fn a_key_that_is_none_is_refused() {
        for key in ["", "c2hvcnQ=", "dGhlIHNhbXBsZSBub25jZQ", "????"] {
            assert_eq!(accept(key), None, "{key}");
        }
    }
}
