//! The limit on silence: a timer that starts over whenever bytes move.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

/// A timer that costs nothing while there is no limit, and one allocation when there is.
#[derive(Debug)]
pub(crate) struct Idle {
    limit: Option<Duration>,
    timer: Option<Pin<Box<Sleep>>>,
    stale: bool,
    other: Option<OtherDirection>,
}

/// When bytes last moved in the direction that another part of the connection drives.
#[derive(Debug, Clone)]
pub(crate) struct OtherDirection(Arc<Mutex<Instant>>);

impl OtherDirection {
    /// Bytes have moved.
    pub(crate) fn moved(&self) {
        *self.last() = Instant::now();
    }

    fn last(&self) -> MutexGuard<'_, Instant> {
        // An instant is valid at every step.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Idle {
    pub(crate) fn new(limit: Option<Duration>) -> Self {
        Self {
            limit,
            timer: None,
            stale: true,
            other: None,
        }
    }

    /// Bytes have moved.
    pub(crate) fn moved(&mut self) {
        self.stale = true;
    }

    /// The handle by which another part of the connection says that bytes have moved; `None` when there is no limit.
    pub(crate) fn share(&mut self) -> Option<OtherDirection> {
        self.limit?;
        Some(
            self.other
                .get_or_insert_with(|| OtherDirection(Arc::new(Mutex::new(Instant::now()))))
                .clone(),
        )
    }

    /// Ready once nothing has moved for the limit. To be polled whenever the stream has nothing to give.
    pub(crate) fn poll_expired(&mut self, cx: &mut Context<'_>) -> Poll<Duration> {
        let Some(limit) = self.limit else {
            return Poll::Pending;
        };
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        if std::mem::take(&mut self.stale) {
            // A limit beyond the end of time is none.
            let Some(end) = Instant::now().checked_add(limit) else {
                self.limit = None;
                return Poll::Pending;
            };
            timer.as_mut().reset(end);
        }
        loop {
            ready!(timer.as_mut().poll(cx));
            let other = self.other.as_ref();
            match other.and_then(|other| other.last().checked_add(limit)) {
                Some(end) if end > Instant::now() => timer.as_mut().reset(end),
                _ => return Poll::Ready(limit),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_limit_beyond_the_end_of_time_is_none() {
        let mut idle = Idle::new(Some(Duration::MAX));
        let other = idle.share();
        for _ in 0..2 {
            let expired = std::future::poll_fn(|cx| Poll::Ready(idle.poll_expired(cx))).await;
            assert!(expired.is_pending());
            idle.moved();
        }
        drop(other);
    }
}
