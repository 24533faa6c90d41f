//! Which protocol a request for an upgrade gets, and the answer to it. Decides from the request's head alone.
//!
//! | Refused with | When |
//! |---|---|
//! | 400 | it asks for no upgrade that we have, or asks wrongly |
//! | 403 | it offers only protocols that we do not have |
//! | 405 | it asks for a WebSocket with another method than GET, or for SPDY with another than GET or POST |

use hyper::header::{
    CONNECTION, HeaderName, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use hyper::{HeaderMap, Method, Response, StatusCode, Version};

use crate::spdy::process::Version as SpdyVersion;
use crate::websocket::channel::Framing;
use crate::websocket::handshake;
use crate::websocket::process::Protocol;

const X_STREAM_PROTOCOL_VERSION: HeaderName = HeaderName::from_static("x-stream-protocol-version");
const X_ACCEPTED_STREAM_PROTOCOL_VERSIONS: HeaderName =
    HeaderName::from_static("x-accepted-stream-protocol-versions");

const SPDY: &str = "SPDY/3.1";
const PORT_FORWARD: &str = "portforward.k8s.io";
const TUNNEL_PREFIX: &str = "SPDY/3.1+";
const TUNNEL_SUFFIX: &str = ".k8s.io";
const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";

/// The answer that refuses a request.
pub(crate) type Refusal = Box<Response<String>>;

/// What is spoken after the upgrade.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Agreed {
    SpdyProcess(SpdyVersion),
    SpdyForward,
    WebSocketProcess(Protocol),
    WebSocketForward(Framing),
    Tunnel,
}

/// What the session is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Process,
    Forward,
}

/// The protocol, and the answer that has to be sent before it is spoken.
///
/// # Errors
/// The answer that refuses the request.
pub(crate) fn negotiate(
    method: &Method,
    version: Version,
    headers: &HeaderMap,
    purpose: Purpose,
) -> Result<(Agreed, Response<String>), Refusal> {
    let upgrades = |wanted: &str| {
        version == Version::HTTP_11
            && holds(headers, &CONNECTION, "upgrade")
            && holds(headers, &UPGRADE, wanted)
    };
    if upgrades("websocket") {
        if method != Method::GET {
            return Err(refuse_method("GET"));
        }
        return websocket(headers, purpose);
    }
    if !upgrades("spdy/3.1") {
        return Err(refuse(
            StatusCode::BAD_REQUEST,
            "Upgrade request required".to_owned(),
        ));
    }
    if method != Method::GET && method != Method::POST {
        return Err(refuse_method("GET, POST"));
    }
    spdy(headers, purpose)
}

fn spdy(headers: &HeaderMap, purpose: Purpose) -> Result<(Agreed, Response<String>), Refusal> {
    let offered = list(headers, &X_STREAM_PROTOCOL_VERSION);
    if offered.is_empty() {
        return Err(refuse(
            StatusCode::BAD_REQUEST,
            "unable to upgrade: X-Stream-Protocol-Version is required".to_owned(),
        ));
    }
    let ours: Vec<(&str, Agreed)> = match purpose {
        Purpose::Process => SpdyVersion::ALL
            .map(|(name, version)| (name, Agreed::SpdyProcess(version)))
            .to_vec(),
        Purpose::Forward => vec![(PORT_FORWARD, Agreed::SpdyForward)],
    };
    let Some((name, agreed)) = first_of(&offered, &ours) else {
        let names: Vec<&str> = ours.iter().map(|(name, _)| *name).collect();
        let mut refusal = refuse(
            StatusCode::FORBIDDEN,
            format!(
                "unable to upgrade: unable to negotiate protocol: client supports {offered:?}, server accepts {names:?}"
            ),
        );
        for name in names {
            if let Ok(name) = name.parse() {
                refusal
                    .headers_mut()
                    .append(X_ACCEPTED_STREAM_PROTOCOL_VERSIONS, name);
            }
        }
        return Err(refusal);
    };
    let answer = answer(&[
        (CONNECTION, "Upgrade"),
        (UPGRADE, SPDY),
        (X_STREAM_PROTOCOL_VERSION, name),
    ]);
    Ok((agreed, answer))
}

fn websocket(headers: &HeaderMap, purpose: Purpose) -> Result<(Agreed, Response<String>), Refusal> {
    if !holds(headers, &SEC_WEBSOCKET_VERSION, "13") {
        let mut refusal = refuse(
            StatusCode::BAD_REQUEST,
            "unable to upgrade: Sec-WebSocket-Version 13 is required".to_owned(),
        );
        refusal.headers_mut().insert(
            SEC_WEBSOCKET_VERSION,
            hyper::header::HeaderValue::from_static("13"),
        );
        return Err(refusal);
    }
    let Some(accept) = headers
        .get(SEC_WEBSOCKET_KEY)
        .and_then(|key| handshake::accept(key.to_str().ok()?))
    else {
        return Err(refuse(
            StatusCode::BAD_REQUEST,
            "unable to upgrade: Sec-WebSocket-Key is missing or malformed".to_owned(),
        ));
    };
    let offered = list(headers, &SEC_WEBSOCKET_PROTOCOL);
    let tunnels = |name: &&str| name.starts_with(TUNNEL_PREFIX) && name.ends_with(TUNNEL_SUFFIX);
    let (ours, default): (Vec<(&str, Agreed)>, Agreed) = match purpose {
        Purpose::Process => (
            Protocol::ALL
                .map(|(name, protocol)| (name, Agreed::WebSocketProcess(protocol)))
                .to_vec(),
            Agreed::WebSocketProcess(Protocol::V1),
        ),
        Purpose::Forward if offered.iter().any(tunnels) => {
            (vec![(TUNNEL, Agreed::Tunnel)], Agreed::Tunnel)
        }
        Purpose::Forward => (
            vec![
                (
                    "v4.channel.k8s.io",
                    Agreed::WebSocketForward(Framing::Binary),
                ),
                (
                    "v4.base64.channel.k8s.io",
                    Agreed::WebSocketForward(Framing::Base64),
                ),
            ],
            Agreed::WebSocketForward(Framing::Binary),
        ),
    };
    let mut fields = vec![
        // kube-rs compares the whole value.
        (CONNECTION, "Upgrade"),
        (UPGRADE, "websocket"),
        (SEC_WEBSOCKET_ACCEPT, accept.as_str()),
    ];
    let agreed = if offered.is_empty() {
        default
    } else {
        let Some((name, agreed)) = first_of(&offered, &ours) else {
            let names: Vec<&str> = ours.iter().map(|(name, _)| *name).collect();
            return Err(refuse(
                StatusCode::FORBIDDEN,
                format!(
                    "unable to upgrade: unable to negotiate protocol: client supports {offered:?}, server accepts {names:?}"
                ),
            ));
        };
        fields.push((SEC_WEBSOCKET_PROTOCOL, name));
        agreed
    };
    Ok((agreed, answer(&fields)))
}

/// The first the client lists that we have: the order of its list is its wish.
fn first_of<'a>(offered: &[&str], ours: &[(&'a str, Agreed)]) -> Option<(&'a str, Agreed)> {
    offered
        .iter()
        .find_map(|name| ours.iter().find(|(our, _)| our == name).copied())
}

/// Every entry of a header that is a list, over all its lines.
fn list<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Vec<&'a str> {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|entry| !entry.is_empty())
        .collect()
}

/// Whether a header's list has an entry, whatever its case.
fn holds(headers: &HeaderMap, name: &HeaderName, wanted: &str) -> bool {
    list(headers, name)
        .iter()
        .any(|entry| entry.eq_ignore_ascii_case(wanted))
}

fn answer(fields: &[(HeaderName, &str)]) -> Response<String> {
    let mut answer = Response::new(String::new());
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    for (name, value) in fields {
        if let Ok(value) = value.parse() {
            answer.headers_mut().insert(name, value);
        }
    }
    answer
}

/// A refusal in plain text, which clients show to people.
pub(crate) fn refuse(status: StatusCode, message: String) -> Refusal {
    let mut refusal = Box::new(Response::new(message));
    *refusal.status_mut() = status;
    refusal.headers_mut().insert(
        hyper::header::CONTENT_TYPE,
        hyper::header::HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    refusal
}

pub(crate) fn refuse_method(allowed: &'static str) -> Refusal {
    let mut refusal = refuse(
        StatusCode::METHOD_NOT_ALLOWED,
        format!("the method has to be one of: {allowed}"),
    );
    refusal.headers_mut().insert(
        hyper::header::ALLOW,
        hyper::header::HeaderValue::from_static(allowed),
    );
    refusal
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            let name: HeaderName = name.parse().unwrap();
            headers.append(name, value.parse().unwrap());
        }
        headers
    }

    fn ask(
        method: &Method,
        lines: &[(&str, &str)],
        purpose: Purpose,
    ) -> Result<(Agreed, Response<String>), Refusal> {
        negotiate(method, Version::HTTP_11, &headers(lines), purpose)
    }

    const SPDY_UPGRADE: [(&str, &str); 2] = [("connection", "Upgrade"), ("upgrade", "SPDY/3.1")];
    const WEBSOCKET_UPGRADE: [(&str, &str); 4] = [
        ("connection", "keep-alive, Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];

    fn spdy_offering(lines: &[&str], purpose: Purpose) -> Result<(Agreed, String), (u16, String)> {
        let mut all = SPDY_UPGRADE.to_vec();
        all.extend(
            lines
                .iter()
                .map(|line| ("X-Stream-Protocol-Version", *line)),
        );
        outcome(
            ask(&Method::POST, &all, purpose),
            "x-stream-protocol-version",
        )
    }

    fn websocket_offering(
        lines: &[&str],
        purpose: Purpose,
    ) -> Result<(Agreed, String), (u16, String)> {
        let mut all = WEBSOCKET_UPGRADE.to_vec();
        all.extend(lines.iter().map(|line| ("Sec-WebSocket-Protocol", *line)));
        outcome(ask(&Method::GET, &all, purpose), "sec-websocket-protocol")
    }

    fn outcome(
        result: Result<(Agreed, Response<String>), Refusal>,
        name: &str,
    ) -> Result<(Agreed, String), (u16, String)> {
        match result {
            Ok((agreed, answer)) => {
                assert_eq!(answer.status(), 101);
                assert_eq!(answer.headers()["connection"], "Upgrade");
                let protocol = answer.headers().get(name);
                let protocol = protocol.map_or("", |value| value.to_str().unwrap());
                Ok((agreed, protocol.to_owned()))
            }
            Err(refusal) => Err((refusal.status().as_u16(), refusal.into_body())),
        }
    }

    #[test]
    fn spdy_takes_the_first_of_the_clients_list_over_all_lines_and_skips_v5() {
        let v4 = Ok((
            Agreed::SpdyProcess(SpdyVersion::V4),
            "v4.channel.k8s.io".to_owned(),
        ));
        let lines = [
            "v5.channel.k8s.io",
            "v4.channel.k8s.io",
            "v3.channel.k8s.io",
            "v2.channel.k8s.io",
            "channel.k8s.io",
        ];
        assert_eq!(spdy_offering(&lines, Purpose::Process), v4);
        assert_eq!(spdy_offering(&[&lines.join(" ,")], Purpose::Process), v4);
        let reversed = ["channel.k8s.io", "v4.channel.k8s.io"];
        assert_eq!(
            spdy_offering(&reversed, Purpose::Process),
            Ok((
                Agreed::SpdyProcess(SpdyVersion::V1),
                "channel.k8s.io".to_owned()
            ))
        );
        assert_eq!(
            spdy_offering(&["portforward.k8s.io"], Purpose::Forward),
            Ok((Agreed::SpdyForward, "portforward.k8s.io".to_owned()))
        );
    }

    #[test]
    fn spdy_is_refused_without_a_protocol_or_with_unknown_ones() {
        for lines in [&[][..], &[""], &[" , "]] {
            let (status, text) = spdy_offering(lines, Purpose::Process).unwrap_err();
            assert_eq!(status, 400);
            assert!(text.contains("X-Stream-Protocol-Version is required"));
        }
        let mut all = SPDY_UPGRADE.to_vec();
        all.push(("X-Stream-Protocol-Version", "v9.channel.k8s.io"));
        let refusal = ask(&Method::POST, &all, Purpose::Process).unwrap_err();
        assert_eq!(refusal.status(), 403);
        let accepted: Vec<_> = refusal
            .headers()
            .get_all(X_ACCEPTED_STREAM_PROTOCOL_VERSIONS)
            .iter()
            .collect();
        assert_eq!(
            accepted,
            [
                "v4.channel.k8s.io",
                "v3.channel.k8s.io",
                "v2.channel.k8s.io",
                "channel.k8s.io"
            ]
        );
    }

    #[test]
    fn what_is_no_upgrade_is_told_so() {
        let none = ask(&Method::POST, &[], Purpose::Process).unwrap_err();
        assert_eq!(none.status(), 400);
        assert_eq!(none.body(), "Upgrade request required");
        let half = [("upgrade", "SPDY/3.1"), ("x-stream-protocol-version", "v4")];
        assert!(ask(&Method::POST, &half, Purpose::Process).is_err());
        let h2 = negotiate(
            &Method::POST,
            Version::HTTP_2,
            &headers(&SPDY_UPGRADE),
            Purpose::Process,
        );
        assert_eq!(h2.unwrap_err().status(), 400);
        let put = ask(&Method::PUT, &SPDY_UPGRADE, Purpose::Process).unwrap_err();
        assert_eq!(put.status(), 405);
        let post = ask(&Method::POST, &WEBSOCKET_UPGRADE, Purpose::Process).unwrap_err();
        assert_eq!(
            (post.status(), &post.headers()["allow"]),
            (StatusCode::METHOD_NOT_ALLOWED, &"GET".parse().unwrap())
        );
    }

    #[test]
    fn websocket_takes_the_first_of_the_clients_list() {
        for (name, protocol) in Protocol::ALL {
            assert_eq!(
                websocket_offering(&["v9.channel.k8s.io", name], Purpose::Process),
                Ok((Agreed::WebSocketProcess(protocol), name.to_owned()))
            );
        }
        assert_eq!(
            websocket_offering(&["v5.channel.k8s.io, v4.channel.k8s.io"], Purpose::Process),
            Ok((
                Agreed::WebSocketProcess(Protocol::V5),
                "v5.channel.k8s.io".to_owned()
            ))
        );
        assert_eq!(
            websocket_offering(&[], Purpose::Process),
            Ok((Agreed::WebSocketProcess(Protocol::V1), String::new()))
        );
        let (status, _) = websocket_offering(&["v9.channel.k8s.io"], Purpose::Process).unwrap_err();
        assert_eq!(status, 403);
    }

    #[test]
    fn port_forward_over_websocket_is_a_tunnel_or_old_channels() {
        assert_eq!(
            websocket_offering(&[TUNNEL], Purpose::Forward),
            Ok((Agreed::Tunnel, TUNNEL.to_owned()))
        );
        let (status, _) = websocket_offering(
            &["SPDY/3.1+other.k8s.io", "v4.channel.k8s.io"],
            Purpose::Forward,
        )
        .unwrap_err();
        assert_eq!(status, 403, "a tunnel that we do not have");
        assert_eq!(
            websocket_offering(
                &["v5.channel.k8s.io", "v4.channel.k8s.io"],
                Purpose::Forward
            ),
            Ok((
                Agreed::WebSocketForward(Framing::Binary),
                "v4.channel.k8s.io".to_owned()
            ))
        );
        assert_eq!(
            websocket_offering(&["v4.base64.channel.k8s.io"], Purpose::Forward),
            Ok((
                Agreed::WebSocketForward(Framing::Base64),
                "v4.base64.channel.k8s.io".to_owned()
            ))
        );
        assert_eq!(
            websocket_offering(&[], Purpose::Forward),
            Ok((Agreed::WebSocketForward(Framing::Binary), String::new()))
        );
    }

    #[test]
    fn a_websocket_handshake_is_checked_and_answered() {
        let (_, answer) = ask(&Method::GET, &WEBSOCKET_UPGRADE, Purpose::Process).unwrap();
        assert_eq!(
            answer.headers()["sec-websocket-accept"],
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
        for (index, value) in [(2, "8"), (3, "short")] {
            let mut lines = WEBSOCKET_UPGRADE;
            lines[index].1 = value;
            let refusal = ask(&Method::GET, &lines, Purpose::Process).unwrap_err();
            assert_eq!(refusal.status(), 400, "{value}");
        }
    }
}
