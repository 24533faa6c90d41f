//! What a refusal says: the engine's JSON, plain text of old engines, a proxy's HTML page, or nothing at all.

use std::time::Duration;

use crate::error::Error;
use crate::version::ApiVersion;

/// The most of an error body that is read, in bytes.
pub(super) const MAX_BODY: usize = 1024 * 1024;

/// How long the body of a refusal may take before the refusal is reported with what has come of it.
pub(super) const BODY_DEADLINE: Duration = Duration::from_secs(10);

/// The most of a message that is kept, in characters: errors are read by people and written to logs.
const MAX_MESSAGE: usize = 4096;

/// The message of a refusal with that status and body.
pub(super) fn message(status: u16, body: &[u8], location: Option<&str>) -> String {
    if (300..400).contains(&status) {
        return match location {
            Some(location) => format!(
                "it redirects to {}; name that address as the endpoint",
                shorten(location)
            ),
            None => "it redirects, and does not say where to".to_owned(),
        };
    }
    let text = String::from_utf8_lossy(body);
    let text = text.trim_start_matches('\u{feff}').trim();
    let words = match json_message(text) {
        Some(words) => words,
        None if looks_like_html(text) => html_text(text),
        None => text.to_owned(),
    };
    let words = shorten(&words);
    if words.is_empty() {
        format!("{}, without a reason", reason(status))
    } else {
        words
    }
}

/// The message of a refusal whose body did not come whole; `why` completes "the rest of its reason …".
pub(super) fn cut_short(status: u16, body: &[u8], location: Option<&str>, why: &str) -> String {
    if body.is_empty() && !(300..400).contains(&status) {
        return format!("{} (its reason {why})", reason(status));
    }
    format!(
        "{} (the rest of its reason {why})",
        message(status, body, location)
    )
}

/// The standard words of a status.
pub(super) fn reason(status: u16) -> &'static str {
    match status {
        400 => "bad request",
        401 => "unauthorized",
        403 => "forbidden",
        404 => "not found",
        405 => "method not allowed",
        409 => "conflict",
        413 => "content too large",
        429 => "too many requests",
        500 => "internal error of the engine",
        501 => "not implemented",
        502 => "bad gateway",
        503 => "service unavailable",
        504 => "gateway timeout",
        _ => "refused",
    }
}

/// Whether the engine refused the version in the path.
pub(super) fn is_version(error: &Error) -> bool {
    error.status() == Some(400) && error.message().contains("client version")
}

/// The lowest version the engine speaks, as a refusal of a version below it says.
pub(super) fn minimum_version(message: &str) -> Option<ApiVersion> {
    let (_, rest) = message.split_once("inimum supported API version is ")?;
    rest.split(|c: char| !c.is_ascii_digit() && c != '.')
        .next()?
        .trim_end_matches('.')
        .parse()
        .ok()
}

fn json_message(text: &str) -> Option<String> {
    if !text.starts_with('{') {
        return None;
    }
    let value: serde_json::Value = serde_json::from_str(text).ok()?;
    ["message", "error", "errorDetail"]
        .iter()
        .find_map(|key| match value.get(key)? {
            serde_json::Value::String(words) => Some(words.clone()),
            other => other.get("message")?.as_str().map(str::to_owned),
        })
}

fn looks_like_html(text: &str) -> bool {
    let start: String = text
        .chars()
        .take(64)
        .collect::<String>()
        .to_ascii_lowercase();
    start.starts_with("<!doctype html")
        || start.starts_with("<html")
        || start.starts_with("<head")
        || start.starts_with("<body")
}

/// The readable words of a page: its title if it has one, else everything outside of tags.
fn html_text(text: &str) -> String {
    let lower = text.to_ascii_lowercase();
    if let Some(start) = lower.find("<title>") {
        let rest = &text[start + "<title>".len()..];
        let end = rest
            .to_ascii_lowercase()
            .find("</title>")
            .unwrap_or(rest.len());
        let title = rest[..end].split_whitespace().collect::<Vec<_>>().join(" ");
        if !title.is_empty() {
            return title;
        }
    }
    let mut words = String::new();
    let mut in_tag = false;
    for c in text.chars() {
        match c {
            '<' => in_tag = true,
            '>' => {
                in_tag = false;
                words.push(' ');
            }
            _ if !in_tag => words.push(c),
            _ => {}
        }
    }
    words.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// One line of bounded length without control characters: what a terminal or a log can show.
fn shorten(text: &str) -> String {
    let mut words: String = text
        .chars()
        .take(MAX_MESSAGE)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    if text.chars().nth(MAX_MESSAGE).is_some() {
        words.push('…');
    }
    words.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_body_gives_words() {
        assert_eq!(
            message(404, br#"{"message":"No such container: web"}"#, None),
            "No such container: web"
        );
        assert_eq!(
            message(500, br#"{"cause":"x","error":"podman says no"}"#, None),
            "podman says no"
        );
        assert_eq!(
            message(500, br#"{"errorDetail":{"message":"deep"}}"#, None),
            "deep"
        );
        assert_eq!(
            message(400, b"client is too old\n", None),
            "client is too old"
        );
        assert_eq!(
            message(
                502,
                b"<html><head><title>502 Bad\n Gateway</title></head></html>",
                None
            ),
            "502 Bad Gateway"
        );
        assert_eq!(
            message(
                502,
                b"<html><body><h1>Sorry</h1><p>no&nbsp;</body></html>",
                None
            ),
            "Sorry no&nbsp;"
        );
        assert_eq!(
            message(503, b"", None),
            "service unavailable, without a reason"
        );
        assert_eq!(message(500, b"{broken", None), "{broken");
        assert_eq!(message(500, b"{}", None), "{}");
        assert_eq!(
            message(301, b"", Some("https://other/")),
            "it redirects to https://other/; name that address as the endpoint"
        );
        assert!(message(500, &vec![b'x'; MAX_BODY], None).len() < 5000);
        assert_eq!(message(500, b"a\x1b[31mb\r\nc", None), "a [31mb  c");
    }

    #[test]
    fn the_minimum_version_is_read_from_the_refusal() {
        let message = "client version 1.40 is too old. Minimum supported API version is 1.44, please upgrade your client to a newer version";
        assert_eq!(minimum_version(message), Some(ApiVersion::new(1, 44)));
        assert_eq!(
            minimum_version(
                "client version 1.99 is too new. Maximum supported API version is 1.41"
            ),
            None
        );
    }
}
