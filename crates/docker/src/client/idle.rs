//! The limit on silence: a timer that starts over whenever bytes move.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

/// A timer that costs nothing while there is no limit, and one allocation when there is.
#[derive(Debug)]
pub(crate) struct Idle {
    limit: Option<Duration>,
    timer: Option<Pin<Box<Sleep>>>,
    stale: bool,
}

impl Idle {
    pub(crate) fn new(limit: Option<Duration>) -> Self {
        Self { limit, timer: None, stale: true }
    }

    /// Bytes have moved.
    pub(crate) fn moved(&mut self) {
        self.stale = true;
    }

    /// Ready once nothing has moved for the limit. To be polled whenever the stream has nothing to give.
    pub(crate) fn poll_expired(&mut self, cx: &mut Context<'_>) -> Poll<Duration> {
        let Some(limit) = self.limit else { return Poll::Pending };
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        if std::mem::take(&mut self.stale) {
            timer.as_mut().reset(Instant::now() + limit);
        }
        timer.as_mut().poll(cx).map(|()| limit)
    }
}
