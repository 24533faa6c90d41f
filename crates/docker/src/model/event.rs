//! One event of the Engine's event stream.
//!
//! Owns reading both the fields of today and those that API 1.52 removed. The stream itself, with its resumption, is
//! elsewhere.

use super::lenient::{record, words};
use super::text_map::TextMap;
use super::time::Timestamp;

words! {
    /// What an event is about. Podman adds words of its own, such as `pod`.
    pub enum EventType {
        /// The builder.
        Builder = "builder",
        /// A swarm config.
        Config = "config",
        /// A container.
        Container = "container",
        /// The Engine.
        Daemon = "daemon",
        /// An image.
        Image = "image",
        /// A network.
        Network = "network",
        /// A swarm node.
        Node = "node",
        /// A plugin.
        Plugin = "plugin",
        /// A swarm secret.
        Secret = "secret",
        /// A swarm service.
        Service = "service",
        /// A volume.
        Volume = "volume",
    }
}

record! {
    /// What an event happened to.
    pub struct EventActor {
        /// Its id.
        pub id: String = "ID" | "Id",
        /// Facts about it: for a container its labels, `name`, `image` and, when it ended, `exitCode`.
        pub attributes: TextMap = "Attributes",
    }
}

/// Something that happened in the Engine.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Event {
    /// What it is about.
    pub kind: EventType,
    /// What happened, such as `start`, `die` or `exec_create: sh -c date`; see [`action_name`](Self::action_name).
    pub action: String,
    /// What it happened to.
    pub actor: EventActor,
    /// `local` or `swarm`.
    pub scope: String,
    /// When, by the Engine's clock; to the nanosecond when the Engine says so.
    pub time: Option<Timestamp>,
}

impl Event {
    /// The action without what some actions carry after a colon: `exec_create` for `exec_create: sh -c date`.
    #[must_use]
    pub fn action_name(&self) -> &str {
        self.action
            .split_once(':')
            .map_or(self.action.as_str(), |(name, _)| name)
    }

    /// What the action carries after a colon: `healthy` for `health_status: healthy`.
    #[must_use]
    pub fn action_detail(&self) -> Option<&str> {
        self.action
            .split_once(':')
            .map(|(_, detail)| detail.trim_start())
    }
}

mod wire {
    use super::super::lenient::record;
    use super::{EventActor, EventType};

    record! {
        /// The event as it is written: `status`, `id` and `from` are what engines below API 1.52 repeat.
        pub(super) struct Message {
            pub kind: EventType = "Type",
            pub action: String = "Action",
            pub actor: EventActor = "Actor",
            pub scope: String = "scope",
            pub time: i64 = "time",
            pub time_nano: i64 = "timeNano",
            pub status: String = "status",
            pub id: String = "id",
            pub from: String = "from",
        }
    }
}

impl From<wire::Message> for Event {
    fn from(message: wire::Message) -> Self {
        let wire::Message {
            mut kind,
            mut action,
            mut actor,
            scope,
            time,
            time_nano,
            status,
            id,
            from,
        } = message;
        if action.is_empty() {
            action = status;
        }
        if actor.id.is_empty() {
            actor.id = id;
        }
        if !from.is_empty() && !actor.attributes.contains_key("image") {
            actor.attributes.insert("image", &from);
        }
        // Only containers and images were reported before events had a type.
        if kind.as_str().is_empty() && !actor.id.is_empty() {
            kind = EventType::Container;
        }
        let time = match (time_nano, time) {
            (0, 0) => None,
            (0, seconds) => Some(Timestamp::new(seconds, 0)),
            (nanos, _) => Some(Timestamp::from_unix_nanos(nanos)),
        };
        Self {
            kind,
            action,
            actor,
            scope,
            time,
        }
    }
}

impl<'de> serde::Deserialize<'de> for Event {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <wire::Message as serde::Deserialize>::deserialize(deserializer).map(Self::from)
    }
}
