//! The error of the codecs: a peer broke the protocol, and the connection is of no more use.

use std::borrow::Cow;

/// What a peer did that its protocol does not allow. Says nothing of the bytes themselves, which may be secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ProtocolError(Cow<'static, str>);

impl ProtocolError {
    pub(crate) const fn new(what: &'static str) -> ProtocolError {
        ProtocolError(Cow::Borrowed(what))
    }

    pub(crate) fn from_string(what: String) -> ProtocolError {
        ProtocolError(Cow::Owned(what))
    }
}
