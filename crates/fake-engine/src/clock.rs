//! Owns time: what "now" is for the engine and how anything in it waits. Knows nothing of containers or requests.
//!
//! Two clocks exist. The real one runs with tokio's clock, so a test under `tokio::time::pause` is deterministic.
//! The manual one moves only when [`Clock::advance`] is called.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Nanoseconds since the Unix epoch: the engine's only representation of a point in time.
pub(crate) type Nanos = u64;

/// The engine's time source. Cheap to clone; clones share one time.
#[derive(Clone, Debug)]
pub struct Clock(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Real {
        wall: Nanos,
        started: tokio::time::Instant,
    },
    Manual(Arc<Mutex<Manual>>),
}

#[derive(Debug)]
struct Manual {
    now: Nanos,
    next_key: u64,
    timers: BTreeMap<(Nanos, u64), Waker>,
}

impl Clock {
    /// The wall clock at the time of this call, running on with tokio's clock.
    ///
    /// Under `tokio::time::pause` it stands still and moves with `tokio::time::advance` or tokio's auto-advance.
    pub fn real() -> Self {
        Self(Kind::Real {
            wall: to_nanos(SystemTime::now()),
            started: tokio::time::Instant::now(),
        })
    }

    /// A clock that stands at `start` until [`advance`](Self::advance) is called.
    pub fn manual(start: SystemTime) -> Self {
        Self(Kind::Manual(Arc::new(Mutex::new(Manual {
            now: to_nanos(start),
            next_key: 0,
            timers: BTreeMap::new(),
        }))))
    }

    /// The engine's time.
    pub fn now(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_nanos(self.nanos())
    }

    /// Moves a manual clock ahead and wakes everything whose time has come, earliest first.
    ///
    /// A process that sleeps several times within `by` does so: its own time runs from one wake-up to the next, so
    /// `sleep 1` in a loop prints ten lines for an advance of ten seconds. The woken tasks run when the caller yields.
    ///
    /// # Panics
    ///
    /// On a real clock, which nobody can move: that is a mistake in the test.
    pub fn advance(&self, by: Duration) {
        let Kind::Manual(manual) = &self.0 else {
            panic!("Clock::advance needs a clock made by Clock::manual");
        };
        let due = {
            let mut manual = lock(manual);
            manual.now = manual.now.saturating_add(duration_nanos(by));
            let after = (manual.now.saturating_add(1), 0);
            let later = manual.timers.split_off(&after);
            std::mem::replace(&mut manual.timers, later)
        };
        for waker in due.into_values() {
            waker.wake();
        }
    }

    /// How many waits are pending on a manual clock; always 0 on a real one. A test polls this to learn that the
    /// engine has reached the wait it is about to end.
    pub fn sleepers(&self) -> usize {
        match &self.0 {
            Kind::Real { .. } => 0,
            Kind::Manual(manual) => lock(manual).timers.len(),
        }
    }

    pub(crate) fn nanos(&self) -> Nanos {
        match &self.0 {
            Kind::Real { wall, started } => wall.saturating_add(duration_nanos(started.elapsed())),
            Kind::Manual(manual) => lock(manual).now,
        }
    }

    /// Waits until `deadline` and tells when the wait ended in the waiter's own time: the deadline itself on a manual
    /// clock, now on a real one. Cancel safe.
    pub(crate) async fn sleep_until(&self, deadline: Nanos) -> Nanos {
        match &self.0 {
            Kind::Real { wall, started } => {
                let offset = Duration::from_nanos(deadline.saturating_sub(*wall));
                match started.checked_add(offset) {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
                self.nanos()
            }
            Kind::Manual(manual) => {
                ManualSleep {
                    manual: Arc::clone(manual),
                    deadline,
                    key: None,
                }
                .await;
                deadline
            }
        }
    }

    /// Waits for `period` from now. Cancel safe.
    pub(crate) async fn sleep(&self, period: Duration) {
        self.sleep_until(self.nanos().saturating_add(duration_nanos(period)))
            .await;
    }
}

struct ManualSleep {
    manual: Arc<Mutex<Manual>>,
    deadline: Nanos,
    key: Option<u64>,
}

impl Future for ManualSleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let shared = Arc::clone(&self.manual);
        let mut manual = lock(&shared);
        if manual.now >= self.deadline {
            return Poll::Ready(());
        }
        let key = *self.key.get_or_insert_with(|| {
            manual.next_key += 1;
            manual.next_key
        });
        manual
            .timers
            .insert((self.deadline, key), cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for ManualSleep {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            lock(&self.manual).timers.remove(&(self.deadline, key));
        }
    }
}

fn lock(manual: &Mutex<Manual>) -> MutexGuard<'_, Manual> {
    manual.lock().unwrap_or_else(PoisonError::into_inner)
}

fn to_nanos(time: SystemTime) -> Nanos {
    duration_nanos(time.duration_since(UNIX_EPOCH).unwrap_or_default())
}

/// The nanoseconds of a duration; about 584 years is as long as anything waits.
pub(crate) fn duration_nanos(duration: Duration) -> Nanos {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
