//! Filters of list, prune and event calls.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

/// Which objects a list, a prune or the event stream is about.
///
/// Values of one key are alternatives, except for labels, which all have to match; different keys all have to match.
/// The Engine refuses a key that it does not know for the call.
///
/// ```
/// use berth_docker::model::Filters;
///
/// let filters = Filters::new().label("app=web").status("running").status("paused");
/// assert_eq!(filters.to_string(), r#"{"label":["app=web"],"status":["running","paused"]}"#);
/// ```
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Filters(BTreeMap<Cow<'static, str>, Vec<String>>);

impl Filters {
    /// Everything.
    #[must_use]
    pub const fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// Whether nothing is left out.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Only where `key` is `value`, for keys without a method of their own.
    #[must_use]
    pub fn with(mut self, key: impl Into<Cow<'static, str>>, value: impl Into<String>) -> Self {
        self.0.entry(key.into()).or_default().push(value.into());
        self
    }

    /// Only with this label: `key` or `key=value`. Every label asked for has to match.
    #[must_use]
    pub fn label(self, label: impl Into<String>) -> Self {
        self.with("label", label)
    }

    /// Only with this id; a beginning of it is enough.
    #[must_use]
    pub fn id(self, id: impl Into<String>) -> Self {
        self.with("id", id)
    }

    /// Only with this name: for containers, networks and volumes a part of it is enough, and for containers it is a
    /// regular expression.
    #[must_use]
    pub fn name(self, name: impl Into<String>) -> Self {
        self.with("name", name)
    }

    /// Only containers in this state, such as `running`.
    #[must_use]
    pub fn status(self, status: impl Into<String>) -> Self {
        self.with("status", status)
    }

    /// Only containers of this image or of one built on it.
    #[must_use]
    pub fn ancestor(self, image: impl Into<String>) -> Self {
        self.with("ancestor", image)
    }

    /// Only containers in this network.
    #[must_use]
    pub fn network(self, network: impl Into<String>) -> Self {
        self.with("network", network)
    }

    /// Only images with this reference; `*` stands for a part of it.
    #[must_use]
    pub fn reference(self, reference: impl Into<String>) -> Self {
        self.with("reference", reference)
    }

    /// Only images without a name, or networks and volumes that no container uses (`true`), or only the others.
    #[must_use]
    pub fn dangling(self, dangling: bool) -> Self {
        self.with("dangling", if dangling { "true" } else { "false" })
    }

    /// Only objects created before this: a time or a duration, as the call takes it.
    #[must_use]
    pub fn until(self, until: impl Into<String>) -> Self {
        self.with("until", until)
    }

    /// Only events about this type of object.
    #[must_use]
    pub fn kind(self, kind: impl Into<String>) -> Self {
        self.with("type", kind)
    }

    /// Only events of this action.
    #[must_use]
    pub fn event(self, action: impl Into<String>) -> Self {
        self.with("event", action)
    }

    /// Only events of this container.
    #[must_use]
    pub fn container(self, container: impl Into<String>) -> Self {
        self.with("container", container)
    }

    /// The form the Engine takes, or nothing when everything is asked for.
    pub(crate) fn to_query(&self) -> Option<String> {
        (!self.is_empty()).then(|| self.to_string())
    }
}

impl fmt::Display for Filters {
    /// The JSON object that the Engine takes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Text keys and lists of text always serialise.
        f.write_str(&serde_json::to_string(&self.0).map_err(|_| fmt::Error)?)
    }
}
