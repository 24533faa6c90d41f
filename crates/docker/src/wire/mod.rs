//! The bytes of the Engine API: heads, body framing, log frames, JSON streams, lines.
//!
//! Everything here is a pure state machine over slices. It knows no sockets, no clock, no operation and no error of the client; it is
//! what the fuzz targets and the split-point property tests run.

pub mod body;
pub mod frame;
pub mod head;
pub mod json;
pub mod line;

/// What a decoder of this layer could not accept, in words that complete "the reply is malformed: …".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct WireError(pub(crate) std::borrow::Cow<'static, str>);

impl WireError {
    pub(crate) const fn new(what: &'static str) -> Self {
        Self(std::borrow::Cow::Borrowed(what))
    }

    pub(crate) fn from_string(what: String) -> Self {
        Self(std::borrow::Cow::Owned(what))
    }
}
