//! Owns the event bus: the past events kept, the subscribers and their buffers, and the `GET /events` stream with its
//! filters. Does not know what causes events.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::clock::Nanos;
use crate::http::{Answer, ApiError, Call, Filters, streamed, typed};
use crate::time::parse_unix;
use crate::version::ApiVersion;

/// Past events kept for `since` (`daemon/events/events.go`, `eventsLimit`).
const PAST_LIMIT: usize = 256;
/// Events held for one subscriber before further ones are dropped (`daemon/events/events.go`, `bufferSize`).
const SUBSCRIBER_BUFFER: usize = 1024;

const FILTERS: &[&str] = &[
    "config",
    "container",
    "daemon",
    "event",
    "image",
    "label",
    "network",
    "node",
    "plugin",
    "scope",
    "secret",
    "service",
    "type",
    "volume",
];

/// One event of the engine.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// `container`, `image`, `network`, `volume`, `daemon`, …
    pub kind: String,
    /// `start`, `die`, `exec_create: ls`, …
    pub action: String,
    /// The id of what the event is about.
    pub id: String,
    /// The attributes of what the event is about.
    pub attributes: BTreeMap<String, String>,
    /// Nanoseconds since the Unix epoch; the engine sets it when it emits the event.
    pub time_nano: u64,
}

impl Event {
    /// An event without attributes; the time is set when it is emitted.
    pub fn new(kind: impl Into<String>, action: impl Into<String>, id: impl Into<String>) -> Self {
        Self {
            kind: kind.into(),
            action: action.into(),
            id: id.into(),
            attributes: BTreeMap::new(),
            time_nano: 0,
        }
    }

    /// The same event with one more attribute.
    #[must_use]
    pub fn attribute(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.attributes.insert(name.into(), value.into());
        self
    }

    fn to_line(&self, api: ApiVersion) -> Bytes {
        let mut value = json!({
            "Type": self.kind,
            "Action": self.action,
            "Actor": { "ID": self.id, "Attributes": self.attributes },
            "scope": "local",
            "time": self.time_nano / 1_000_000_000,
            "timeNano": self.time_nano,
        });
        if !api.at_least(52) && (self.kind == "container" || self.kind == "image") {
            value["status"] = json!(self.action);
            value["id"] = json!(self.id);
            if let Some(image) = self.attributes.get("image") {
                value["from"] = json!(image);
            }
        }
        let mut line = value.to_string();
        line.push('\n');
        line.into()
    }

    fn matches(&self, filters: &Filters) -> bool {
        // `exec_create: ls` is found as `exec_create`, `health_status: healthy` also as `health_status`.
        let base = self.action.split(':').next().unwrap_or_default();
        let name = self.attributes.get("name").map(String::as_str);
        let is = |kind: &str, value: &String| {
            self.kind == kind
                && (self.id == *value || self.id.starts_with(value.as_str()) || name == Some(value))
        };
        let of = |kind: &str, attribute: &str| {
            filters.any(kind, |v| {
                is(kind, v)
                    || self
                        .attributes
                        .get(attribute)
                        .is_some_and(|a| self.kind != kind && a == v)
            })
        };
        let image = filters.any("image", |v| {
            let matches =
                |reference: &str| reference == v || crate::reference::strip_tag(reference) == v;
            match self.kind.as_str() {
                "image" => matches(&self.id) || name.is_some_and(matches),
                "container" => self.attributes.get("image").is_some_and(|i| matches(i)),
                _ => false,
            }
        });
        filters.exact("type", &self.kind)
            && filters.any("event", |v| v == base || *v == self.action)
            && filters.any("container", |v| is("container", v))
            && of("network", "network")
            && of("volume", "volume")
            && filters.any("daemon", |v| is("daemon", v))
            && filters.exact("scope", "local")
            && image
            && filters.labels(&self.attributes)
            && ["config", "node", "plugin", "secret", "service"]
                .iter()
                .all(|kind| filters.any(kind, |v| is(kind, v)))
    }
}

/// The past events and the subscribers.
#[derive(Debug, Default)]
pub(crate) struct Bus {
    past: VecDeque<Arc<Event>>,
    subscribers: Vec<mpsc::Sender<Arc<Event>>>,
    last: Nanos,
    lose: u64,
}

impl Bus {
    /// Stamps the event and hands it to everyone with room for it.
    pub(crate) fn emit(&mut self, mut event: Event, now: Nanos) {
        // Strictly increasing, so that a client that resumes by time neither loses nor repeats one.
        self.last = now.max(self.last + 1);
        event.time_nano = self.last;
        if self.lose > 0 {
            self.lose -= 1;
            return;
        }
        let event = Arc::new(event);
        if self.past.len() == PAST_LIMIT {
            self.past.pop_front();
        }
        self.past.push_back(Arc::clone(&event));
        self.subscribers.retain(|subscriber| {
            !matches!(
                subscriber.try_send(Arc::clone(&event)),
                Err(mpsc::error::TrySendError::Closed(_))
            )
        });
    }

    /// The next `count` events reach nobody and are not kept.
    pub(crate) fn lose(&mut self, count: u64) {
        self.lose = count;
    }

    /// A daemon that starts anew knows no past.
    pub(crate) fn forget(&mut self) {
        self.past.clear();
        self.subscribers.clear();
    }

    /// Who listens now.
    pub(crate) fn listeners(&mut self) -> usize {
        self.subscribers
            .retain(|subscriber| !subscriber.is_closed());
        self.subscribers.len()
    }

    fn subscribe(&mut self) -> mpsc::Receiver<Arc<Event>> {
        let (tx, rx) = mpsc::channel(SUBSCRIBER_BUFFER);
        self.subscribers.push(tx);
        rx
    }
}

struct Subscription {
    call: Call,
    filters: Filters,
    past: VecDeque<Arc<Event>>,
    live: Option<mpsc::Receiver<Arc<Event>>>,
    until: Option<Nanos>,
}

/// `GET /events`
pub(crate) async fn events(call: Call) -> Answer {
    let filters = call.filters(FILTERS)?;
    let moment = |name: &str| match call.query.get(name).filter(|v| !v.is_empty() && *v != "0") {
        None => Ok(None),
        Some(text) => parse_unix(text).map(Some).ok_or_else(|| {
            ApiError::bad(format!(
                "invalid value for {name:?}: {text:?} is not a Unix time"
            ))
        }),
    };
    let (since, until) = (moment("since")?, moment("until")?);
    if let (Some(since), Some(until)) = (since, until)
        && since > until
    {
        return Err(ApiError::bad(
            "`since` time (".to_owned()
                + call.query.get("since").unwrap_or_default()
                + ") cannot be after `until` time ("
                + call.query.get("until").unwrap_or_default()
                + ")",
        ));
    }
    let now = call.engine.clock.nanos();
    let content_type = if call.api.at_least(53) && accepts(&call, "application/jsonl") {
        "application/jsonl"
    } else if call.api.at_least(52) && accepts(&call, "application/x-ndjson") {
        "application/x-ndjson"
    } else {
        "application/json"
    };
    let (past, live) = {
        let mut bus = call.engine.bus();
        let past = bus
            .past
            .iter()
            .filter(|event| since.is_some_and(|since| event.time_nano >= since))
            .filter(|event| until.is_none_or(|until| event.time_nano <= until))
            .cloned()
            .collect();
        let live = until
            .is_none_or(|until| until > now)
            .then(|| bus.subscribe());
        (past, live)
    };
    let subscription = Subscription {
        call,
        filters,
        past,
        live,
        until,
    };
    let lines = futures_util::stream::unfold(subscription, |mut subscription| async move {
        loop {
            let event = subscription.next().await?;
            if event.matches(&subscription.filters) {
                return Some((event.to_line(subscription.call.api), subscription));
            }
        }
    });
    Ok(typed(content_type, streamed(lines)).into())
}

fn accepts(call: &Call, content_type: &str) -> bool {
    call.headers
        .get(hyper::header::ACCEPT)
        .and_then(|v| v.to_str().ok())
        .is_some_and(|accept| accept.contains(content_type))
}

impl Subscription {
    async fn next(&mut self) -> Option<Arc<Event>> {
        if let Some(event) = self.past.pop_front() {
            return Some(event);
        }
        let live = self.live.as_mut()?;
        let Some(until) = self.until else {
            return live.recv().await;
        };
        tokio::select! {
            biased;
            event = live.recv() => event.filter(|event| event.time_nano <= until),
            _ = self.call.engine.clock.sleep_until(until) => None,
        }
    }
}

/// The attributes of a container's events: its labels, image and name.
pub(crate) fn container_attributes(
    labels: &BTreeMap<String, String>,
    image: &str,
    name: &str,
) -> BTreeMap<String, String> {
    let mut attributes = labels.clone();
    attributes.insert("image".into(), image.into());
    attributes.insert("name".into(), name.into());
    attributes
}

/// A JSON value as one line of a progress stream; the engine separates them with CR LF.
pub(crate) fn progress_line(value: &Value) -> Bytes {
    format!("{value}\r\n").into()
}
