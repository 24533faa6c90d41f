//! Calls under way that further callers join: equal wishes are one call of the engine. Knows nothing of images.
//!
//! There is no task: whoever waits for a flight drives it. It goes on for as long as anybody waits, and ends with the last who leaves.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt as _;
use futures_util::future::{Shared, WeakShared};

/// A call that several callers wait for. Dropping the last of its clones cancels it.
pub(super) type Flight<T> = Shared<Pin<Box<dyn Future<Output = T> + Send>>>;

/// The calls under way, each with what tells it from others. As many as have callers.
pub(super) struct Flights<K, T: Clone>(Arc<Mutex<Vec<Entry<K, T>>>>);

struct Entry<K, T: Clone> {
    key: Arc<K>,
    flight: WeakShared<Pin<Box<dyn Future<Output = T> + Send>>>,
}

impl<K: Send + Sync + 'static, T: Clone + Send + Sync + 'static> Flights<K, T> {
    /// The flight whose key is meant, and its key.
    pub(super) fn find(&self, is_meant: impl Fn(&K) -> bool) -> Option<(Arc<K>, Flight<T>)> {
        find(&lock(&self.0), is_meant)
    }

    /// The flight whose key is meant, or else a new one.
    pub(super) fn join<F>(
        &self,
        is_meant: impl Fn(&K) -> bool,
        begin: impl FnOnce() -> (K, F),
    ) -> (Arc<K>, Flight<T>)
    where
        F: Future<Output = T> + Send + 'static,
    {
        // A flight that is dropped asks for this lock: none may be dropped here.
        let mut entries = lock(&self.0);
        if let Some(found) = find(&entries, is_meant) {
            return found;
        }
        let (key, call) = begin();
        let key = Arc::new(key);
        let landing = Landing {
            entries: Arc::clone(&self.0),
            key: Arc::clone(&key),
        };
        let flight = async move {
            let _landing = landing;
            call.await
        }
        .boxed()
        .shared();
        if let Some(weak) = flight.downgrade() {
            entries.push(Entry {
                key: Arc::clone(&key),
                flight: weak,
            });
        }
        (key, flight)
    }
}

impl<K, T: Clone> Default for Flights<K, T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K, T: Clone> fmt::Debug for Flights<K, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} under way", lock(&self.0).len())
    }
}

/// Takes a flight off the list when it has ended or was dropped.
struct Landing<K, T: Clone> {
    entries: Arc<Mutex<Vec<Entry<K, T>>>>,
    key: Arc<K>,
}

impl<K, T: Clone> Drop for Landing<K, T> {
    fn drop(&mut self) {
        lock(&self.entries).retain(|entry| !Arc::ptr_eq(&entry.key, &self.key));
    }
}

fn find<K, T: Clone>(
    entries: &[Entry<K, T>],
    is_meant: impl Fn(&K) -> bool,
) -> Option<(Arc<K>, Flight<T>)> {
    entries
        .iter()
        .filter(|entry| is_meant(&entry.key))
        .find_map(|entry| Some((Arc::clone(&entry.key), entry.flight.upgrade()?)))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A list of flights is whole between any two steps.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    use tokio::sync::Semaphore;

    use super::*;

    /// Counts what it begins, ends and drops; ends when it gets a permit.
    #[derive(Default)]
    struct Call {
        begun: AtomicUsize,
        left: AtomicUsize,
    }

    fn fly(
        flights: &Flights<u8, usize>,
        key: u8,
        call: &Arc<Call>,
        gate: &Arc<Semaphore>,
    ) -> Flight<usize> {
        struct Left(Arc<Call>);
        impl Drop for Left {
            fn drop(&mut self) {
                self.0.left.fetch_add(1, SeqCst);
            }
        }
        let (call, gate) = (Arc::clone(call), Arc::clone(gate));
        let begin = move || {
            let number = call.begun.fetch_add(1, SeqCst);
            let left = Left(call);
            (key, async move {
                let _left = left;
                let _ = gate.acquire().await.map(|permit| permit.forget());
                number
            })
        };
        flights.join(|other| *other == key, begin).1
    }

    fn count(flights: &Flights<u8, usize>) -> usize {
        lock(&flights.0).len()
    }

    #[tokio::test]
    async fn equal_calls_are_one_and_others_are_not() {
        let (flights, call, gate) = (
            Flights::default(),
            Arc::<Call>::default(),
            Arc::new(Semaphore::new(0)),
        );
        let one = fly(&flights, 1, &call, &gate);
        let same = fly(&flights, 1, &call, &gate);
        let other = fly(&flights, 2, &call, &gate);
        assert!(flights.find(|key| *key == 2).is_some());
        assert!(flights.find(|key| *key == 3).is_none());
        gate.add_permits(2);
        assert_eq!((one.await, same.await, other.await), (0, 0, 1));
        assert_eq!(count(&flights), 0);
        // What has ended is not joined.
        gate.add_permits(1);
        assert_eq!(fly(&flights, 1, &call, &gate).await, 2);
    }

    #[tokio::test]
    async fn who_leaves_does_not_end_it_and_the_last_does() {
        let (flights, call, gate) = (
            Flights::default(),
            Arc::<Call>::default(),
            Arc::new(Semaphore::new(0)),
        );
        let mut first = Box::pin(fly(&flights, 1, &call, &gate));
        let mut second = Box::pin(fly(&flights, 1, &call, &gate));
        assert_eq!(
            ((&mut first).now_or_never(), (&mut second).now_or_never()),
            (None, None)
        );
        drop(first);
        assert_eq!(call.left.load(SeqCst), 0);
        // The one that drove it has gone; another is woken in its place.
        let waiting = tokio::spawn(second);
        tokio::task::yield_now().await;
        gate.add_permits(1);
        assert_eq!(waiting.await.ok(), Some(0));

        let mut last = Box::pin(fly(&flights, 1, &call, &gate));
        let unpolled = fly(&flights, 2, &call, &gate);
        assert_eq!((&mut last).now_or_never(), None);
        drop((last, unpolled));
        assert_eq!((call.begun.load(SeqCst), call.left.load(SeqCst)), (3, 3));
        assert_eq!(count(&flights), 0);
    }
}
