//! Owns the address of an engine: its forms, its defaults, and why a text is none. It opens nothing and knows no environment.

use std::fmt;
use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::config_error::ConfigError;

/// The socket of an engine that runs as root, and the default of the docker command.
const DEFAULT_SOCKET: &str = "/var/run/docker.sock";

/// The default pipe of an engine on Windows.
const DEFAULT_PIPE: &str = "//./pipe/docker_engine";

/// IANA's ports for Docker: plain and with TLS.
const PLAIN_PORT: u16 = 2375;
const TLS_PORT: u16 = 2376;

/// The longest path a unix socket can be connected by, in bytes: `sun_path` of unix(7) less the final NUL.
const MAX_SOCKET_PATH: usize = if cfg!(any(target_os = "linux", target_os = "android")) {
    107
} else {
    103
};

/// The longest address that is looked at, in bytes. Longer ones are mistakes, such as a file's contents.
const MAX_LEN: usize = 2048;

/// The longest host name, in bytes: RFC 1035.
const MAX_HOST: usize = 253;

/// Where an engine is reached.
///
/// It is made by parsing text (`"unix:///run/docker.sock".parse()`), so one that exists is well formed; its `Display` parses to the same.
///
/// | text | what it is |
/// |---|---|
/// | `unix:///path`, `unix://` | a unix socket; the path is taken as it is written, `%` included |
/// | `tcp://host:port/base`, `host:port` | HTTP, or HTTPS when TLS is set up beside it; the port defaults to 2375, with TLS 2376; the host to `localhost` |
/// | `http://host:port/base` | HTTP; the port defaults to 80 |
/// | `https://host:port/base` | HTTPS; the port defaults to 443 |
/// | `npipe:////./pipe/name`, `npipe://` | a named pipe of Windows; it parses everywhere |
/// | `fake://name?query` | a fake engine in this process |
///
/// A trailing slash is dropped. A path is below `base` as a reverse proxy needs it; it is sent as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// A unix socket.
    #[non_exhaustive]
    Unix {
        /// The absolute path of the socket.
        path: PathBuf,
    },
    /// HTTP over TCP.
    #[non_exhaustive]
    Tcp {
        /// A host name in lower case or an IP address, without brackets; the zone of an IPv6 address follows a `%`.
        host: String,
        /// The port.
        port: u16,
        /// What precedes every path: empty, or `/…` without a slash at the end.
        base_path: String,
    },
    /// HTTPS over TCP.
    #[non_exhaustive]
    Tls {
        /// As in [`Endpoint::Tcp`].
        host: String,
        /// The port.
        port: u16,
        /// As in [`Endpoint::Tcp`].
        base_path: String,
    },
    /// A named pipe of Windows.
    #[non_exhaustive]
    Npipe {
        /// The path with forward slashes: `//./pipe/docker_engine`.
        path: String,
    },
    /// A fake engine in this process.
    #[non_exhaustive]
    Fake {
        /// What the fake is called; may be empty.
        name: String,
        /// What follows the `?`, for the fake to read; may be empty.
        query: String,
    },
}

/// Why a text is no address.
struct Refusal {
    rule: String,
    hint: Option<String>,
}

fn refuse<T>(rule: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal {
        rule: rule.into(),
        hint: None,
    })
}

fn refuse_but<T>(rule: impl Into<String>, hint: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal {
        rule: rule.into(),
        hint: Some(hint.into()),
    })
}

impl Endpoint {
    /// The engine's default socket, [`/var/run/docker.sock`](https://docs.docker.com/reference/cli/dockerd/#daemon-socket-option).
    pub fn default_unix() -> Self {
        Self::Unix {
            path: PathBuf::from(DEFAULT_SOCKET),
        }
    }

    /// What the docker command calls when TLS is asked for and no host is named.
    pub(crate) fn default_tls() -> Self {
        Self::Tls {
            host: "localhost".to_owned(),
            port: TLS_PORT,
            base_path: String::new(),
        }
    }

    /// Reads an address. With `tls`, `tcp://` stands for HTTPS.
    ///
    /// # Errors
    /// When the text is no address, or is `http://` although `tls` is wanted. A user name or password in it is left out of the error.
    pub fn parse(text: &str, tls: bool) -> Result<Self, ConfigError> {
        let text = text.trim();
        read(text, tls).map_err(|Refusal { rule, hint }| {
            let error = ConfigError::value("endpoint", &without_user_info(text), rule);
            match hint {
                Some(hint) => error.with_hint(hint),
                None => error,
            }
        })
    }

    /// What precedes every path: empty, or `/…` without a slash at the end.
    pub fn base_path(&self) -> &str {
        match self {
            Self::Tcp { base_path, .. } | Self::Tls { base_path, .. } => base_path,
            Self::Unix { .. } | Self::Npipe { .. } | Self::Fake { .. } => "",
        }
    }

    /// The value of the `Host` field. Sockets have no host; `localhost` is what any server accepts there.
    pub(crate) fn host_header(&self) -> String {
        match self {
            // RFC 6874: a zone means something on this machine alone and is not sent.
            Self::Tcp { host, port, .. } | Self::Tls { host, port, .. } => {
                match host.split_once('%') {
                    Some((address, _)) => authority(address, *port),
                    None => authority(host, *port),
                }
            }
            Self::Unix { .. } | Self::Npipe { .. } | Self::Fake { .. } => "localhost".to_owned(),
        }
    }

    /// The same address with TLS, if it is one that can have it.
    pub(crate) fn with_tls(self) -> Self {
        match self {
            Self::Tcp {
                host,
                port,
                base_path,
            } => Self::Tls {
                host,
                port,
                base_path,
            },
            other => other,
        }
    }
}

impl FromStr for Endpoint {
    type Err = ConfigError;

    /// As [`Endpoint::parse`] without TLS.
    fn from_str(text: &str) -> Result<Self, ConfigError> {
        Self::parse(text, false)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix { path } => write!(f, "unix://{}", path.display()),
            Self::Tcp {
                host,
                port,
                base_path,
            } => write!(f, "tcp://{}{base_path}", authority(host, *port)),
            Self::Tls {
                host,
                port,
                base_path,
            } => write!(f, "https://{}{base_path}", authority(host, *port)),
            Self::Npipe { path } => write!(f, "npipe://{path}"),
            Self::Fake { name, query } if query.is_empty() => write!(f, "fake://{name}"),
            Self::Fake { name, query } => write!(f, "fake://{name}?{query}"),
        }
    }
}

fn authority(host: &str, port: u16) -> String {
    if host.contains(':') {
        // RFC 6874: the zone's `%` is itself percent-encoded in an address.
        return format!("[{}]:{port}", host.replace('%', "%25"));
    }
    format!("{host}:{port}")
}

/// The text without what could be a password, for errors.
fn without_user_info(text: &str) -> String {
    let (scheme, rest) = text.split_once("://").map_or(("", text), |(scheme, rest)| {
        (&text[..scheme.len() + 3], rest)
    });
    match rest.rsplit_once('@') {
        Some((_, host)) if !rest.starts_with('/') => format!("{scheme}…@{host}"),
        _ => text.to_owned(),
    }
}

fn read(text: &str, tls: bool) -> Result<Endpoint, Refusal> {
    if text.is_empty() {
        return refuse_but(
            "is empty",
            format!("write unix://{DEFAULT_SOCKET} for the default socket"),
        );
    }
    if text.len() > MAX_LEN {
        return refuse(format!(
            "has {} bytes; an address has at most {MAX_LEN}",
            text.len()
        ));
    }
    if let Some(control) = text.chars().find(|c| c.is_control()) {
        return refuse(format!("has the control character {control:?}"));
    }
    let Some((scheme, rest)) = text.split_once("://") else {
        return without_scheme(text, tls);
    };
    match scheme.to_ascii_lowercase().as_str() {
        "unix" => unix(rest),
        "tcp" => tcp(rest, tls),
        "http" if tls => refuse_but(
            "http:// is never encrypted, but TLS is asked for",
            "write tcp:// or https://",
        ),
        "http" => {
            let (host, port, base_path) = url(rest, 80)?;
            Ok(Endpoint::Tcp {
                host: some_host(host)?,
                port,
                base_path,
            })
        }
        "https" => {
            let (host, port, base_path) = url(rest, 443)?;
            Ok(Endpoint::Tls {
                host: some_host(host)?,
                port,
                base_path,
            })
        }
        "npipe" => npipe(rest),
        "fake" => fake(rest),
        "ssh" => refuse_but(
            "ssh:// is not spoken here",
            format!(
                "forward the socket with `ssh -nNT -L /run/user/1000/remote.sock:{DEFAULT_SOCKET} HOST` and use unix:///run/user/1000/remote.sock"
            ),
        ),
        "fd" => refuse_but(
            "fd:// is where an engine listens, not where it is reached",
            format!("write unix://{DEFAULT_SOCKET}"),
        ),
        _ => refuse("the scheme must be one of unix, tcp, http, https, npipe, fake"),
    }
}

/// The docker command takes `host:port` for `tcp://host:port`. It takes a path for a host name as well, which is never meant.
fn without_scheme(text: &str, tls: bool) -> Result<Endpoint, Refusal> {
    const RULE: &str = "the scheme is missing";
    if text.starts_with("//./") || text.starts_with('\\') {
        return refuse_but(RULE, format!("write npipe://{}", text.replace('\\', "/")));
    }
    if text.starts_with('/') {
        return refuse_but(RULE, format!("write unix://{text}"));
    }
    let authority = text.split('/').next().unwrap_or_default();
    match authority.rsplit_once(':') {
        Some((_, port)) if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => {
            tcp(text, tls)
        }
        _ => refuse_but(
            RULE,
            "write unix:///PATH for a socket, tcp://HOST:PORT for a host",
        ),
    }
}

fn unix(rest: &str) -> Result<Endpoint, Refusal> {
    if rest.is_empty() {
        return Ok(Endpoint::default_unix());
    }
    if rest.starts_with('@') {
        return refuse("sockets in the abstract namespace (@name) are not supported");
    }
    if rest
        .get(..3)
        .is_some_and(|start| start.eq_ignore_ascii_case("%2f"))
    {
        return refuse_but(
            "the path must not be percent-encoded",
            format!("write it as it is: unix://{DEFAULT_SOCKET}"),
        );
    }
    if !rest.starts_with('/') {
        return refuse_but(
            "the path must be absolute, so that three slashes follow unix:",
            format!("write unix:///{rest}"),
        );
    }
    let path = trim_end(rest);
    if path.is_empty() {
        return refuse("names no socket");
    }
    if path.len() > MAX_SOCKET_PATH {
        let rule = format!(
            "the path has {} bytes; the path of a unix socket has at most {MAX_SOCKET_PATH}",
            path.len()
        );
        return refuse_but(rule, "name it by a shorter symbolic link");
    }
    Ok(Endpoint::Unix {
        path: Path::new(path).to_owned(),
    })
}

fn tcp(rest: &str, tls: bool) -> Result<Endpoint, Refusal> {
    let (host, port, base_path) = url(rest, if tls { TLS_PORT } else { PLAIN_PORT })?;
    let host = host.unwrap_or_else(|| "localhost".to_owned());
    Ok(if tls {
        Endpoint::Tls {
            host,
            port,
            base_path,
        }
    } else {
        Endpoint::Tcp {
            host,
            port,
            base_path,
        }
    })
}

fn some_host(host: Option<String>) -> Result<String, Refusal> {
    host.map_or_else(|| refuse("the host is missing"), Ok)
}

/// Reads `host:port/base`. The rules name no part of the text: what looks like a port may be half a password.
fn url(rest: &str, default_port: u16) -> Result<(Option<String>, u16, String), Refusal> {
    let (authority, path) = rest
        .find(['/', '?', '#'])
        .map_or((rest, ""), |at| rest.split_at(at));
    if authority.contains('@') {
        return refuse_but(
            "a user name or password has no place in the address",
            "send them in a header of a proxy's choice: HttpHeaders in config.json, or DOCKER_CUSTOM_HEADERS",
        );
    }
    let (host, port) = if let Some(inner) = authority.strip_prefix('[') {
        let Some((address, after)) = inner.split_once(']') else {
            return refuse("the `]` that ends an IPv6 address is missing");
        };
        match after.strip_prefix(':') {
            Some(port) => (Some(ipv6(address)?), port),
            None if after.is_empty() => (Some(ipv6(address)?), ""),
            None => return refuse("only a `:` and a port may follow the `]` of an IPv6 address"),
        }
    } else {
        let (host, port) = authority.split_once(':').unwrap_or((authority, ""));
        if port.contains(':') {
            return refuse_but("an IPv6 address needs brackets", "write tcp://[::1]:2375");
        }
        (
            if host.is_empty() {
                None
            } else {
                Some(host_name(host)?)
            },
            port,
        )
    };
    let port = match port {
        "" => default_port,
        digits if digits.bytes().all(|b| b.is_ascii_digit()) => digits.parse().unwrap_or(0),
        _ => 0,
    };
    if port == 0 {
        return refuse("the port must be a number from 1 to 65535");
    }
    Ok((host, port, base_path(path)?))
}

fn host_name(host: &str) -> Result<String, Refusal> {
    if !host.is_ascii() {
        return refuse_but(
            "the host must be ASCII",
            "write an international name in its xn-- form",
        );
    }
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    // A dot at the end makes a name absolute.
    if host.len() > MAX_HOST || !host.strip_suffix('.').unwrap_or(host).split('.').all(label) {
        return refuse(
            "the host must be labels of letters, digits, `-` and `_` between dots, or an IP address",
        );
    }
    Ok(host.to_ascii_lowercase())
}

fn ipv6(text: &str) -> Result<String, Refusal> {
    let (address, zone) = match text.split_once('%') {
        Some((address, zone)) => (address, Some(zone.strip_prefix("25").unwrap_or(zone))),
        None => (text, None),
    };
    let Ok(address) = address.parse::<Ipv6Addr>() else {
        return refuse("what is between `[` and `]` must be an IPv6 address");
    };
    match zone {
        None => Ok(address.to_string()),
        Some(zone)
            if !zone.is_empty()
                && zone
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"-._~".contains(&b)) =>
        {
            Ok(format!("{address}%{zone}"))
        }
        Some(_) => refuse("the zone of an IPv6 address must be the name of a network interface"),
    }
}

fn base_path(path: &str) -> Result<String, Refusal> {
    if path.contains(['?', '#']) {
        return refuse("an address has no query and no fragment");
    }
    let path = path.strip_suffix('/').unwrap_or(path);
    if path.contains("//") || path.ends_with('/') {
        return refuse("the path has two slashes in a row");
    }
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        let fine = match byte {
            // RFC 3986, `pct-encoded`, then `pchar`.
            b'%' => {
                bytes.next().is_some_and(|b| b.is_ascii_hexdigit())
                    && bytes.next().is_some_and(|b| b.is_ascii_hexdigit())
            }
            _ => byte.is_ascii_alphanumeric() || b"/-._~!$&'()*+,;=:@".contains(&byte),
        };
        if !fine {
            return refuse_but(
                "the path has a character that a URL cannot have",
                "percent-encode it",
            );
        }
    }
    Ok(path.to_owned())
}

/// Without the slashes at the end, and without the space that would be trimmed off when the address is read again.
fn trim_end(path: &str) -> &str {
    path.trim_end_matches(|c: char| c == '/' || c.is_whitespace())
}

fn npipe(rest: &str) -> Result<Endpoint, Refusal> {
    if rest.is_empty() {
        return Ok(Endpoint::Npipe {
            path: DEFAULT_PIPE.to_owned(),
        });
    }
    let path = rest.replace('\\', "/");
    let parts = path
        .strip_prefix("//")
        .and_then(|rest| rest.split_once("/pipe/"));
    match parts.map(|(server, name)| (server, trim_end(name))) {
        Some((server, name)) if !server.is_empty() && !server.contains('/') && !name.is_empty() => {
            Ok(Endpoint::Npipe {
                path: format!("//{server}/pipe/{name}"),
            })
        }
        _ => refuse_but(
            "a named pipe is //SERVER/pipe/NAME",
            format!("write npipe://{DEFAULT_PIPE}"),
        ),
    }
}

fn fake(rest: &str) -> Result<Endpoint, Refusal> {
    let (name, query) = rest.split_once('?').unwrap_or((rest, ""));
    let name = name.trim_end_matches('/');
    if !name
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
    {
        return refuse("the name of a fake engine must be letters, digits, `-`, `.` and `_`");
    }
    if !query.bytes().all(|b| b.is_ascii_graphic() && b != b'#') {
        return refuse("the query must be printable ASCII without spaces and `#`");
    }
    Ok(Endpoint::Fake {
        name: name.to_owned(),
        query: query.to_owned(),
    })
}

#[cfg(test)]
mod tests;
