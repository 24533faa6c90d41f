//! Deadlines of calls: clients send them with each call, and expect an answer that says so when one has passed.
//!
//! Tonic would answer that the call was cancelled. What a call has begun goes on behind its deadline where that is its nature: berth-pod carries it
//! to its end.

use std::time::Duration;

use hyper::{HeaderMap, Request};
use tonic::Extensions;

/// The header (gRPC over HTTP/2: `Timeout`).
const HEADER: &str = "grpc-timeout";

/// How long a call may take, for its handler.
#[derive(Debug, Clone, Copy)]
struct Timeout(Duration);

/// Takes the time that a call may take out of its headers, and leaves it to the call's handler; `None` when it has no deadline, or none that
/// can be read.
pub(crate) fn take<B>(request: &mut Request<B>) -> Option<Duration> {
    let timeout = read(request.headers_mut())?;
    request.extensions_mut().insert(Timeout(timeout));
    Some(timeout)
}

/// How long one of two questions to the engine may take, so that the caller still hears what came of both: no longer than `most`.
pub(crate) fn for_one_of_two(extensions: &Extensions, most: Duration) -> Duration {
    match extensions.get::<Timeout>() {
        Some(Timeout(timeout)) => most.min(*timeout * 2 / 5),
        None => most,
    }
}

fn read(headers: &mut HeaderMap) -> Option<Duration> {
    parse(headers.remove(HEADER)?.to_str().ok()?)
}

/// Reads at most eight digits and a unit.
fn parse(text: &str) -> Option<Duration> {
    let unit = text.chars().last()?;
    let digits = text.strip_suffix(unit)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    Some(match unit {
        'H' => Duration::from_secs(number * 3600),
        'M' => Duration::from_secs(number * 60),
        'S' => Duration::from_secs(number),
        'm' => Duration::from_millis(number),
        'u' => Duration::from_micros(number),
        'n' => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_is_read_and_nonsense_is_no_deadline() {
        for (text, expected) in [
            ("1H", Some(Duration::from_secs(3600))),
            ("2M", Some(Duration::from_secs(120))),
            ("3S", Some(Duration::from_secs(3))),
            ("4m", Some(Duration::from_millis(4))),
            ("5u", Some(Duration::from_micros(5))),
            ("99999999n", Some(Duration::from_nanos(99_999_999))),
            ("", None),
            ("S", None),
            ("123456789S", None),
            ("-1S", None),
            ("1\u{e9}", None),
        ] {
            assert_eq!(parse(text), expected, "{text:?}");
        }
    }
}
