//! The engine's events as one stream that survives reconnects, shows no event twice, and says where some may be missing.
//!
//! What the engine does: it keeps the last 256 events, forgets them when it restarts, and drops events silently for a subscriber whose buffer
//! of 1,024 is full. So this stream always asks with `since`, a little before the last event it saw; an event it knows among the replayed ones
//! proves that nothing was missed, and without that proof it says so with a [`EventItem::Gap`]. A task of its own reads the socket at all
//! times, so that a slow consumer loses events here, where it is noticed, rather than in the engine, where it is not.

use std::collections::{HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::client::{Docker, JsonStream};
use crate::error::Error;
use crate::model::{Event, Filters, Info, Timestamp};
use crate::request::{Deadline, Method, Operation, Request};

/// How many items wait for a slow consumer before events are dropped and a gap is noted: a burst of hundreds of containers.
const QUEUE: usize = 4096;

/// How many events are remembered to recognise a replay. The engine replays at most 256.
const REMEMBERED: usize = 1024;

/// How far before the last event a reconnect asks: events are stamped before they are queued, so their order is not exactly their times'.
const OVERLAP_NANOS: i64 = 1_000_000_000;

/// How long after a reconnect the replay may take before its silence counts as "the engine remembers nothing". It sends what it has at once.
const REPLAY_PATIENCE: Duration = Duration::from_secs(1);

/// Pauses between attempts to reconnect double from the first to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LAST_PAUSE: Duration = Duration::from_secs(2);

/// Which events to get.
#[derive(Debug, Clone, Default)]
pub struct EventsOptions {
    /// As of `docker events --filter`: `type`, `label`, `container`, `event`, …
    pub filters: Filters,
    /// Replay from this time on, in nanoseconds since 1970. `None` begins now, by the engine's clock.
    ///
    /// Of the past the engine has only its last 256 events, and none of before its own start. What it has forgotten of a time long ago is
    /// missing without an [`EventItem::Gap`]: nothing tells whether there was anything.
    pub since_nanos: Option<i64>,
}

/// What an event stream gives.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum EventItem {
    /// Something happened.
    Event(Event),
    /// Events may have been lost before the next item: look at everything again.
    Gap(GapReason),
    /// The engine is away. The stream reconnects by itself; what comes next is an event if nothing was missed, else a gap.
    Disconnected(Error),
}

/// Why events may be missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum GapReason {
    /// After a reconnect the engine no longer knew the last event that was seen.
    Reconnected,
    /// The consumer was slower than the events, and the queue was full.
    Overflow,
}

/// A running subscription. Dropping it ends its task and its connection.
#[derive(Debug)]
pub struct EventStream {
    items: mpsc::Receiver<Result<EventItem, Error>>,
    overflow: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl EventStream {
    /// The next item. `Some(Err)` when the engine refuses the subscription for good (a bad filter, no permission), then `None`.
    /// Cancel safe: a dropped call loses nothing.
    pub async fn next(&mut self) -> Option<Result<EventItem, Error>> {
        if let Ok(item) = self.items.try_recv() {
            return Some(item);
        }
        // What was queued before the loss has been read; nothing is queued behind it before this is taken.
        if self.overflow.swap(false, SeqCst) {
            return Some(Ok(EventItem::Gap(GapReason::Overflow)));
        }
        self.items.recv().await
    }
}

impl Drop for EventStream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Docker {
    /// Subscribes to the engine's events (`GET /events`). The subscription starts at once, in a task that lives as long as the
    /// [`EventStream`]; it has no deadline and outlives restarts of the engine. Events of before the call are not shown unless
    /// [`EventsOptions::since_nanos`] asks for them.
    ///
    /// Must be called within a tokio runtime.
    pub fn events(&self, options: EventsOptions) -> EventStream {
        let (sender, items) = mpsc::channel(QUEUE);
        let reader = Reader {
            docker: self.clone(),
            filters: options.filters,
            seen: Seen::new(options.since_nanos),
            sender,
            overflow: Arc::default(),
            away: false,
            connected: None,
        };
        EventStream {
            items,
            overflow: reader.overflow.clone(),
            task: tokio::spawn(reader.run()),
        }
    }
}

impl Docker {
    /// The engine's clock, from `GET /info`, in nanoseconds since 1970.
    async fn system_time_nanos(&self) -> Result<i64, Error> {
        let info: Info = self
            .send_json(Request::new(Operation::INFO, Method::Get, "/info"))
            .await?;
        info.system_time
            .map(Timestamp::unix_nanos)
            .ok_or_else(|| Error::malformed(Operation::INFO, "it has no SystemTime"))
    }
}

/// What has been seen so far.
struct Seen {
    since: Option<i64>,
    last: i64,
    known: HashSet<u64>,
    order: VecDeque<u64>,
}

impl Seen {
    fn new(since: Option<i64>) -> Self {
        Self {
            since,
            last: 0,
            known: HashSet::new(),
            order: VecDeque::new(),
        }
    }

    /// Notes an event; false if it was there before.
    fn note(&mut self, event: &Event) -> bool {
        let mut hasher = DefaultHasher::new();
        let nanos = event.time.map_or(0, Timestamp::unix_nanos);
        (nanos, &event.kind, &event.action, &event.actor.id).hash(&mut hasher);
        for (key, value) in event.actor.attributes.iter() {
            (key, value).hash(&mut hasher);
        }
        let mark = hasher.finish();
        if !self.known.insert(mark) {
            return false;
        }
        self.order.push_back(mark);
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        // The latest to come, not the highest: the engine's clock may have been set back.
        if nanos > 0 {
            self.last = nanos;
        }
        true
    }

    /// The time to ask from.
    fn resume(&self) -> Option<i64> {
        if self.last > 0 {
            Some(
                self.last
                    .saturating_sub(OVERLAP_NANOS)
                    .max(self.since.unwrap_or(0)),
            )
        } else {
            self.since
        }
    }
}

struct Reader {
    docker: Docker,
    filters: Filters,
    seen: Seen,
    sender: mpsc::Sender<Result<EventItem, Error>>,
    /// Set when the queue was full: nothing more is queued until the consumer has taken note of the gap.
    overflow: Arc<AtomicBool>,
    /// Whether the consumer has been told that the engine is away.
    away: bool,
    /// When the engine answered last, until that connection is lost.
    connected: Option<Instant>,
}

/// How one connection's worth of events ended.
enum End {
    /// Try again.
    Lost(Error),
    /// The engine will not have us, or nobody listens.
    Final,
}

impl Reader {
    async fn run(mut self) {
        let mut pause = FIRST_PAUSE;
        let mut first = true;
        loop {
            match self.connection(first).await {
                End::Final => return,
                End::Lost(error) => {
                    tracing::debug!(%error, "events stopped");
                    // An attempt that took long to fail is no reason to hurry.
                    if self
                        .connected
                        .take()
                        .is_some_and(|at| at.elapsed() > LAST_PAUSE)
                    {
                        pause = FIRST_PAUSE;
                    }
                    if self.seen.since.is_some() {
                        first = false;
                    }
                    if !std::mem::replace(&mut self.away, true) {
                        self.put(EventItem::Disconnected(error));
                    }
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LAST_PAUSE);
        }
    }

    async fn connection(&mut self, first: bool) -> End {
        let mut stream = match self.subscribe().await {
            Ok(stream) => stream,
            Err(error)
                if error.status().is_some_and(|status| {
                    (400..500).contains(&status) && status != 408 && status != 429
                }) =>
            {
                // Nobody listening any more is as good an end as any.
                let _ = self.sender.send(Err(error)).await;
                return End::Final;
            }
            Err(error) => return End::Lost(error),
        };
        self.away = false;
        self.connected = Some(Instant::now());
        // Until a known event is replayed, nothing shows that none was missed.
        let mut proven = first;
        let patience = tokio::time::sleep(REPLAY_PATIENCE);
        tokio::pin!(patience);
        loop {
            let item = tokio::select! {
                biased;
                () = self.sender.closed() => return End::Final,
                item = stream.next() => item,
                () = &mut patience, if !proven => {
                    proven = true;
                    self.put(EventItem::Gap(GapReason::Reconnected));
                    continue;
                }
            };
            match item {
                Some(Ok(Some(event))) => {
                    if !self.seen.note(&event) {
                        proven = true;
                        continue;
                    }
                    if !std::mem::replace(&mut proven, true) {
                        self.put(EventItem::Gap(GapReason::Reconnected));
                    }
                    self.put(EventItem::Event(event));
                }
                // Podman writes a null now and then.
                Some(Ok(None)) => self.docker.metrics().skipped_event(),
                Some(Err(error)) if stream.has_failed() => return End::Lost(error),
                // An item that is no event: those behind it are as good as any.
                Some(Err(_)) => self.docker.metrics().skipped_event(),
                None => {
                    let error =
                        Error::malformed(Operation::EVENTS, "the engine ended the event stream");
                    return End::Lost(error.located(None, &stream.origin().endpoint));
                }
            }
        }
    }

    async fn subscribe(&mut self) -> Result<JsonStream<Option<Event>>, Error> {
        if self.seen.since.is_none() {
            // The engine subscribes us after it has answered, so "from now on" would lose what happens in between; its own clock is asked
            // first.
            self.seen.since = Some(self.docker.system_time_nanos().await?);
        }
        let since = self.seen.resume().unwrap_or_default();
        let request = Request::new(Operation::EVENTS, Method::Get, "/events")
            .query("since", Timestamp::from_unix_nanos(since).to_query())
            .query_some(
                "filters",
                (!self.filters.is_empty()).then_some(&self.filters),
            )
            .deadline(Deadline::Stream { idle: None });
        Ok(self.docker.send_stream(request).await?.json())
    }

    fn put(&mut self, item: EventItem) {
        if self.overflow.load(SeqCst) || self.sender.try_send(Ok(item)).is_err() {
            self.overflow.store(true, SeqCst);
        }
    }
}
