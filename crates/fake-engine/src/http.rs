//! Owns what requests and replies look like to the handlers: query values, bodies in, JSON and streams out, API errors.
//! Knows no resources.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{Stream, StreamExt};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full, LengthLimitError, Limited, StreamBody};
use hyper::body::Frame;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::engine::Inner;
use crate::operation::Operation;
use crate::session::Session;
use crate::version::ApiVersion;

/// JSON bodies above this are refused: the largest create body of a real client is some tens of kilobytes.
const JSON_LIMIT: usize = 4 << 20;
/// Archives above this are refused; they live in memory.
const ARCHIVE_LIMIT: usize = 512 << 20;

pub(crate) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// An answer that is not a success: the engine's status and `message`.
#[derive(Clone, Debug)]
pub(crate) struct ApiError {
    pub(crate) status: StatusCode,
    pub(crate) message: String,
}

impl ApiError {
    pub(crate) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
        }
    }

    pub(crate) fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    pub(crate) fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, message)
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }

    pub(crate) fn conflict(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, message)
    }

    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, message)
    }

    pub(crate) fn not_modified() -> Self {
        Self::new(StatusCode::NOT_MODIFIED, "")
    }

    pub(crate) fn into_response(self) -> Response<Body> {
        if self.status == StatusCode::NOT_MODIFIED {
            return status(self.status);
        }
        let mut reply = json(&serde_json::json!({ "message": self.message }));
        *reply.status_mut() = self.status;
        reply
    }
}

/// What a handler answers with.
pub(crate) enum Reply {
    Http(Response<Body>),
    /// The connection leaves HTTP and becomes this session's stream.
    Hijack(Box<Session>),
}

impl From<Response<Body>> for Reply {
    fn from(response: Response<Body>) -> Self {
        Self::Http(response)
    }
}

pub(crate) type Answer = Result<Reply, ApiError>;

/// One request after routing.
pub(crate) struct Call {
    pub(crate) engine: Arc<Inner>,
    /// The version the request is spoken in.
    pub(crate) api: ApiVersion,
    pub(crate) operation: Operation,
    /// The id, name or reference in the path; empty where the path has none.
    pub(crate) target: String,
    pub(crate) query: Query,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Option<Body>,
    pub(crate) head: bool,
}

impl Call {
    /// Whether the client asked for `Upgrade`.
    pub(crate) fn upgrade(&self) -> bool {
        self.headers.contains_key(hyper::header::UPGRADE)
    }

    /// The body as JSON; `None` when it is empty.
    pub(crate) async fn json<T: DeserializeOwned>(&mut self) -> Result<Option<T>, ApiError> {
        let media = self
            .headers
            .get(CONTENT_TYPE)
            .map(|v| String::from_utf8_lossy(v.as_bytes()).into_owned());
        let body = self.bytes(JSON_LIMIT).await?;
        if body.iter().all(u8::is_ascii_whitespace) {
            return Ok(None);
        }
        let media = media.unwrap_or_default();
        let essence = media.split(';').next().unwrap_or_default().trim();
        if !essence.eq_ignore_ascii_case("application/json") {
            return Err(ApiError::bad(format!(
                "unsupported Content-Type header ({media}): must be 'application/json'"
            )));
        }
        serde_json::from_slice(&body)
            .map(Some)
            .map_err(|e| ApiError::bad(format!("invalid JSON: {e}")))
    }

    /// The body of an upload.
    pub(crate) async fn archive(&mut self) -> Result<Bytes, ApiError> {
        self.bytes(ARCHIVE_LIMIT).await
    }

    async fn bytes(&mut self, limit: usize) -> Result<Bytes, ApiError> {
        let Some(body) = self.body.take() else {
            return Ok(Bytes::new());
        };
        match Limited::new(body, limit).collect().await {
            Ok(body) => Ok(body.to_bytes()),
            Err(error) if error.is::<LengthLimitError>() => Err(ApiError::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("request body is larger than the {limit} bytes this engine takes"),
            )),
            Err(error) => Err(ApiError::bad(format!("reading the request body: {error}"))),
        }
    }

    /// The `filters` parameter, its names checked against `known`.
    pub(crate) fn filters(&self, known: &[&str]) -> Result<Filters, ApiError> {
        Filters::parse(self.query.get("filters").unwrap_or_default(), known)
    }
}

/// The query of a request, decoded.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub(crate) fn parse(text: &str) -> Self {
        let pairs = text.split('&').filter(|part| !part.is_empty()).map(|part| {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            (
                percent_decode(&key.replace('+', " ")),
                percent_decode(&value.replace('+', " ")),
            )
        });
        Self(pairs.collect())
    }

    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(k, _)| k == key)
            .map(|(_, v)| v.as_str())
    }

    pub(crate) fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(k, _)| k == key)
            .map(|(_, v)| v.as_str())
    }

    /// The engine's idea of a boolean: anything but nothing, `0`, `no`, `false` and `none` is true.
    pub(crate) fn flag(&self, key: &str) -> bool {
        self.get(key).is_some_and(|value| {
            !matches!(
                value.trim().to_ascii_lowercase().as_str(),
                "" | "0" | "no" | "false" | "none"
            )
        })
    }

    pub(crate) fn flag_or(&self, key: &str, default: bool) -> bool {
        if self.get(key).is_some() {
            self.flag(key)
        } else {
            default
        }
    }

    /// A whole number; an empty value counts as absent.
    pub(crate) fn number(&self, key: &str) -> Result<Option<i64>, ApiError> {
        match self.get(key).filter(|value| !value.is_empty()) {
            None => Ok(None),
            Some(text) => text.parse().map(Some).map_err(|_| {
                ApiError::bad(format!("strconv.Atoi: parsing {text:?}: invalid syntax"))
            }),
        }
    }
}

/// `%41` becomes `A`; a broken escape stays as it is.
pub(crate) fn percent_decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = |i: usize| bytes.get(i).and_then(|b| char::from(*b).to_digit(16));
        match (bytes[at], hex(at + 1), hex(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.push(u8::try_from(high * 16 + low).unwrap_or_default());
                at += 3;
            }
            (byte, ..) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// A decoded `filters` parameter: filter name to accepted values.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filters(BTreeMap<String, Vec<String>>);

impl Filters {
    /// Reads both encodings: `{"label":["a"]}` and the older `{"label":{"a":true}}`.
    pub(crate) fn parse(text: &str, known: &[&str]) -> Result<Self, ApiError> {
        #[derive(serde::Deserialize)]
        #[serde(untagged)]
        enum Values {
            List(Vec<String>),
            Set(BTreeMap<String, bool>),
        }
        if text.is_empty() {
            return Ok(Self::default());
        }
        let raw: BTreeMap<String, Values> = serde_json::from_str(text)
            .map_err(|e| ApiError::bad(format!("invalid filter: {e}")))?;
        let mut filters = BTreeMap::new();
        for (name, values) in raw {
            if !known.contains(&name.as_str()) {
                return Err(ApiError::bad(format!("invalid filter '{name}'")));
            }
            let values = match values {
                Values::List(list) => list,
                Values::Set(set) => set
                    .into_iter()
                    .filter(|(_, on)| *on)
                    .map(|(value, _)| value)
                    .collect(),
            };
            filters.insert(name, values);
        }
        Ok(Self(filters))
    }

    pub(crate) fn get(&self, name: &str) -> &[String] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Whether `test` holds for one of the values; a filter that was not given accepts all.
    pub(crate) fn any(&self, name: &str, test: impl FnMut(&String) -> bool) -> bool {
        let values = self.get(name);
        values.is_empty() || values.iter().any(test)
    }

    /// Whether `value` is one of the values given.
    pub(crate) fn exact(&self, name: &str, value: &str) -> bool {
        self.any(name, |v| v == value)
    }

    /// A yes/no filter such as `dangling`.
    pub(crate) fn boolean(&self, name: &str) -> Result<Option<bool>, ApiError> {
        match self.get(name) {
            [] => Ok(None),
            [one] if matches!(one.as_str(), "1" | "true" | "True" | "t") => Ok(Some(true)),
            [one] if matches!(one.as_str(), "0" | "false" | "False" | "f") => Ok(Some(false)),
            values => Err(ApiError::bad(format!("invalid filter '{name}={values:?}'"))),
        }
    }

    /// All `label` filters (`key` or `key=value`) must hold, and no `label!` one.
    pub(crate) fn labels(&self, labels: &BTreeMap<String, String>) -> bool {
        let holds = |filter: &String| match filter.split_once('=') {
            Some((key, value)) => labels.get(key).is_some_and(|v| v == value),
            None => labels.contains_key(filter),
        };
        self.get("label").iter().all(holds) && !self.get("label!").iter().any(holds)
    }
}

pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed_unsync()
}

pub(crate) fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// A body that is produced as it is read, in the connection's own task: dropping the connection ends the producer.
pub(crate) fn streamed(chunks: impl Stream<Item = Bytes> + Send + 'static) -> Body {
    StreamBody::new(chunks.map(|bytes| Ok(Frame::data(bytes)))).boxed_unsync()
}

pub(crate) fn status(status: StatusCode) -> Response<Body> {
    let mut reply = Response::new(empty());
    *reply.status_mut() = status;
    reply
}

pub(crate) fn no_content() -> Response<Body> {
    status(StatusCode::NO_CONTENT)
}

pub(crate) fn typed(content_type: &'static str, body: Body) -> Response<Body> {
    let mut reply = Response::new(body);
    reply
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    reply
}

/// 200 with JSON, ended by a newline as Go's encoder does.
pub(crate) fn json(value: &impl Serialize) -> Response<Body> {
    match serde_json::to_vec(value) {
        Ok(mut bytes) => {
            bytes.push(b'\n');
            typed("application/json", full(bytes))
        }
        // Only a map with keys that are not strings could end here, and there is none.
        Err(error) => {
            let mut reply = typed("text/plain", full(error.to_string()));
            *reply.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            reply
        }
    }
}

/// 200 with a JSON array, each item written and dropped before the next is made: lists can be long.
pub(crate) fn json_list<T: Serialize>(items: impl Iterator<Item = T>) -> Response<Body> {
    // About what a container takes.
    let mut bytes = Vec::with_capacity(items.size_hint().0 * 800 + 3);
    bytes.push(b'[');
    for item in items {
        if bytes.len() > 1 {
            bytes.push(b',');
        }
        if let Err(error) = serde_json::to_writer(&mut bytes, &item) {
            return ApiError::internal(error.to_string()).into_response();
        }
    }
    bytes.extend_from_slice(b"]\n");
    typed("application/json", full(bytes))
}

pub(crate) fn created(value: &impl Serialize) -> Response<Body> {
    let mut reply = json(value);
    *reply.status_mut() = StatusCode::CREATED;
    reply
}

pub(crate) fn set_header(reply: &mut Response<Body>, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        reply
            .headers_mut()
            .insert(HeaderName::from_static(name), value);
    }
}
