//! Progress streams: a 200 reply whose items tell how far the Engine has come, and whether it failed after all.
//!
//! Owns the rule that a failure inside such a stream is an error of the call, wherever it stands. Which calls have
//! such streams is not known here.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream;

use crate::client::{ByteStream, JsonStream};
use crate::error::Error;
use crate::model::ProgressMessage;
use crate::request::Operation;

/// What the Engine says while it pushes, loads or imports.
///
/// A failure that the Engine reports in the stream comes as an error, and the stream ends behind it. Dropping the stream
/// closes its connection, upon which the Engine stops.
#[derive(Debug)]
pub struct ProgressStream {
    messages: JsonStream<ProgressMessage>,
    failed: bool,
}

impl ProgressStream {
    pub(crate) fn new(bytes: ByteStream) -> Self {
        Self {
            messages: bytes.json(),
            failed: false,
        }
    }

    /// The next message. `None` after the last one: everything succeeded. Cancel safe: a dropped call loses nothing.
    pub async fn next(&mut self) -> Option<Result<ProgressMessage, Error>> {
        std::future::poll_fn(|cx| self.poll_message(cx)).await
    }

    /// Reads to the end and fails as the Engine did.
    ///
    /// Dropping the future closes the connection, upon which the Engine stops.
    ///
    /// # Errors
    /// Refused with status 200 when the Engine reports a failure in the stream; as any stream when it is cut.
    pub async fn wait(mut self) -> Result<(), Error> {
        while let Some(message) = self.next().await {
            message?;
        }
        Ok(())
    }

    /// Which call this is.
    pub(crate) fn operation(&self) -> Operation {
        self.messages.origin().operation
    }

    /// Ends the stream with an error, which is counted and told what it is about.
    pub(crate) fn fail(&mut self, error: Error) -> Error {
        self.failed = true;
        let origin = self.messages.origin();
        let error = error.located(origin.subject.as_deref(), &origin.endpoint);
        origin.metrics.stream_failed(&error);
        error
    }

    pub(crate) fn poll_message(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<ProgressMessage, Error>>> {
        if self.failed {
            return Poll::Ready(None);
        }
        let message = match ready!(Pin::new(&mut self.messages).poll_next(cx)) {
            Some(Ok(message)) => message,
            Some(Err(error)) => {
                self.failed = true;
                return Poll::Ready(Some(Err(error)));
            }
            None => return Poll::Ready(None),
        };
        Poll::Ready(Some(match message.failure() {
            Some(failure) => {
                let error = Error::refused(self.operation(), 200, failure);
                Err(self.fail(error))
            }
            None => Ok(message),
        }))
    }
}

impl Stream for ProgressStream {
    type Item = Result<ProgressMessage, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_message(cx)
    }
}
