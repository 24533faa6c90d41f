use proptest::prelude::*;

use super::*;

fn ok(text: &str) -> String {
    match text.parse::<Endpoint>() {
        Ok(endpoint) => endpoint.to_string(),
        Err(error) => panic!("{error}"),
    }
}

fn error(text: &str) -> String {
    match text.parse::<Endpoint>() {
        Ok(endpoint) => panic!("{text:?} became {endpoint}"),
        Err(error) => error.to_string(),
    }
}

fn refused_for(text: &str, part: &str) {
    let error = error(text);
    assert!(error.contains(part), "{error}");
    assert!(error.starts_with("endpoint "), "{error}");
}

#[test]
fn a_unix_socket_is_an_absolute_path_taken_as_it_is_written() {
    assert_eq!(
        "unix:///run/x.sock".parse(),
        Ok(Endpoint::Unix {
            path: "/run/x.sock".into()
        })
    );
    assert_eq!(ok("unix://"), "unix:///var/run/docker.sock");
    assert_eq!(ok("  unix:///run/x.sock\n"), "unix:///run/x.sock");
    assert_eq!(ok("UNIX:///Run/X.sock"), "unix:///Run/X.sock");
    assert_eq!(ok("unix:///run/x.sock//"), "unix:///run/x.sock");
    assert_eq!(
        ok("unix:///run/50%25 of it/me@home?.sock"),
        "unix:///run/50%25 of it/me@home?.sock"
    );
}

#[test]
fn a_unix_path_that_cannot_be_meant_is_refused_with_what_to_write() {
    refused_for(
        "/var/run/docker.sock",
        "the scheme is missing; write unix:///var/run/docker.sock",
    );
    refused_for(
        "unix://var/run/docker.sock",
        "absolute, so that three slashes follow unix:; write unix:///var/run/docker.sock",
    );
    refused_for("unix:/var/run/docker.sock", "the scheme is missing");
    refused_for(
        "unix://%2Fvar%2Frun%2Fdocker.sock",
        "must not be percent-encoded",
    );
    refused_for("unix://%2fvar", "must not be percent-encoded");
    refused_for("unix://%é", "absolute");
    refused_for("unix://@abstract", "abstract namespace");
    refused_for("unix:///", "names no socket");
    refused_for("unix:///run/a\0b", "control character '\\0'");
    refused_for("unix:///run/a\r\nHost: b", "control character '\\r'");
}

#[test]
fn a_unix_path_fits_in_a_socket_address_or_is_refused() {
    let longest = format!("/{}", "a".repeat(MAX_SOCKET_PATH - 1));
    assert_eq!(
        ok(&format!("unix://{longest}/")),
        format!("unix://{longest}")
    );
    refused_for(
        &format!("unix://{longest}a"),
        &format!(
            "has {} bytes; the path of a unix socket has at most {MAX_SOCKET_PATH}",
            MAX_SOCKET_PATH + 1
        ),
    );
    assert!(std::os::unix::net::SocketAddr::from_pathname(&longest).is_ok());
    assert!(std::os::unix::net::SocketAddr::from_pathname(format!("{longest}a")).is_err());
}

#[test]
fn tcp_has_dockers_defaults() {
    assert_eq!(
        "tcp://Example.COM:1234/base/path/".parse(),
        Ok(Endpoint::Tcp {
            host: "example.com".into(),
            port: 1234,
            base_path: "/base/path".into()
        })
    );
    assert_eq!(ok("tcp://h"), "tcp://h:2375");
    assert_eq!(ok("tcp://h:"), "tcp://h:2375");
    assert_eq!(ok("tcp://h/"), "tcp://h:2375");
    assert_eq!(ok("tcp://"), "tcp://localhost:2375");
    assert_eq!(ok("tcp://:99"), "tcp://localhost:99");
    assert_eq!(ok("tcp://h./x"), "tcp://h.:2375/x");
    assert_eq!(ok("tcp://my_host-1:00080"), "tcp://my_host-1:80");
    assert_eq!(
        ok("tcp://10.0.0.1:65535/a%2Fb/@c"),
        "tcp://10.0.0.1:65535/a%2Fb/@c"
    );
}

#[test]
fn a_host_and_port_without_a_scheme_is_tcp_as_for_the_docker_command() {
    assert_eq!(ok("h:2375"), "tcp://h:2375");
    assert_eq!(ok(":2375"), "tcp://localhost:2375");
    assert_eq!(ok("[::1]:2375/base"), "tcp://[::1]:2375/base");
    refused_for(
        "h",
        "the scheme is missing; write unix:///PATH for a socket, tcp://HOST:PORT for a host",
    );
    refused_for("h:x", "the scheme is missing");
}

#[test]
fn tls_turns_tcp_into_https_and_its_port_into_2376() {
    let tls = |text| {
        Endpoint::parse(text, true)
            .map(|endpoint| endpoint.to_string())
            .map_err(|error| error.to_string())
    };
    assert_eq!(tls("tcp://h"), Ok("https://h:2376".into()));
    assert_eq!(tls("tcp://h:2375"), Ok("https://h:2375".into()));
    assert_eq!(tls("h:1/b"), Ok("https://h:1/b".into()));
    assert_eq!(tls("https://h"), Ok("https://h:443".into()));
    assert_eq!(tls("unix:///s"), Ok("unix:///s".into()));
    assert_eq!(tls("http://h"), Err(r#"endpoint "http://h": http:// is never encrypted, but TLS is asked for; write tcp:// or https://"#.into()));
}

#[test]
fn http_and_https_are_urls_with_their_own_ports() {
    assert_eq!(ok("http://h/d"), "tcp://h:80/d");
    assert_eq!(
        "https://h".parse(),
        Ok(Endpoint::Tls {
            host: "h".into(),
            port: 443,
            base_path: String::new()
        })
    );
    refused_for("http://", "the host is missing");
    refused_for("https://:443", "the host is missing");
}

#[test]
fn an_ipv6_address_needs_brackets_and_may_have_a_zone() {
    assert_eq!(
        "tcp://[::1]".parse(),
        Ok(Endpoint::Tcp {
            host: "::1".into(),
            port: 2375,
            base_path: String::new()
        })
    );
    assert_eq!(
        ok("tcp://[FE80:0::1%25eth0]:1/x"),
        "tcp://[fe80::1%25eth0]:1/x"
    );
    assert_eq!(
        "tcp://[fe80::1%eth0]:1".parse(),
        Ok(Endpoint::Tcp {
            host: "fe80::1%eth0".into(),
            port: 1,
            base_path: String::new()
        })
    );
    refused_for("tcp://::1:2375", "needs brackets");
    refused_for("tcp://[::1", "`]`");
    refused_for("tcp://[::1]2375", "only a `:` and a port");
    refused_for("tcp://[h]:1", "must be an IPv6 address");
    refused_for("tcp://[127.0.0.1]:1", "must be an IPv6 address");
    refused_for("tcp://[fe80::1%25]:1", "network interface");
    refused_for("tcp://[fe80::1%a/b]:1", "`]`");
}

#[test]
fn bad_hosts_ports_and_paths_are_refused() {
    for port in [
        "0",
        "65536",
        "+80",
        "-1",
        "8 0",
        "x",
        "99999999999999999999",
    ] {
        refused_for(
            &format!("tcp://h:{port}"),
            "the port must be a number from 1 to 65535",
        );
    }
    for host in [
        "a b",
        "a..b",
        ".a",
        "a%2f",
        "*",
        "h\\x",
        "a,b",
        &"a".repeat(64),
        &"a.".repeat(127),
    ] {
        refused_for(&format!("tcp://{host}:1"), "the host must be labels");
    }
    refused_for("tcp://dö:1", "xn--");
    refused_for("tcp://h:1/a b", "percent-encode it");
    refused_for("tcp://h:1/ä", "percent-encode it");
    refused_for("tcp://h:1/%zz", "percent-encode it");
    refused_for("tcp://h:1/%2", "percent-encode it");
    refused_for("tcp://h:1/a\\b", "percent-encode it");
    refused_for("tcp://h:1//a", "two slashes");
    refused_for("tcp://h:1/a//", "two slashes");
    refused_for("tcp://h:1?a=b", "no query");
    refused_for("tcp://h:1/x#y", "no query");
    refused_for("tcp://http://h:1", "two slashes");
    refused_for("tcp://h:1/a\r\nX: y", "control character '\\r'");
}

#[test]
fn named_pipes_parse_everywhere() {
    assert_eq!(
        "npipe://".parse(),
        Ok(Endpoint::Npipe {
            path: "//./pipe/docker_engine".into()
        })
    );
    assert_eq!(
        ok(r"npipe://\\.\pipe\docker_engine"),
        "npipe:////./pipe/docker_engine"
    );
    assert_eq!(
        ok("npipe:////server/pipe/a/b/"),
        "npipe:////server/pipe/a/b"
    );
    refused_for(
        "npipe://docker_engine",
        "//SERVER/pipe/NAME; write npipe:////./pipe/docker_engine",
    );
    refused_for("npipe:////./pipe/", "//SERVER/pipe/NAME");
    refused_for("npipe:////a/b/pipe/c", "//SERVER/pipe/NAME");
    refused_for(
        r"\\.\pipe\docker_engine",
        "write npipe:////./pipe/docker_engine",
    );
    refused_for(
        "//./pipe/docker_engine",
        "write npipe:////./pipe/docker_engine",
    );
}

#[test]
fn a_fake_engine_has_a_name_and_a_query() {
    assert_eq!(
        "fake://".parse(),
        Ok(Endpoint::Fake {
            name: String::new(),
            query: String::new()
        })
    );
    assert_eq!(
        ok("fake://a-b.c/?seed=7&api=1.41"),
        "fake://a-b.c?seed=7&api=1.41"
    );
    refused_for("fake://a/b", "letters, digits");
    refused_for("fake://a?b c", "printable ASCII");
    refused_for("fake://a?b#c", "printable ASCII");
}

#[test]
fn what_docker_has_and_berth_has_not_is_refused_by_name() {
    refused_for(
        "ssh://me@host",
        "ssh:// is not spoken here; forward the socket with `ssh -nNT -L",
    );
    refused_for("fd://3", "where an engine listens");
    refused_for(
        "ftp://h",
        "must be one of unix, tcp, http, https, npipe, fake",
    );
    refused_for("://h", "must be one of");
    refused_for("", "is empty");
    refused_for(" \n", "is empty");
    refused_for(&format!("tcp://{}", "a".repeat(3000)), "has 3006 bytes");
}

#[test]
fn a_password_in_an_address_is_refused_and_not_repeated() {
    for text in [
        "tcp://me:hunter2@h:2375",
        "https://hunter2@h",
        "tcp://me:hun/ter2@h:1",
        "tcp://me:hunter2?@h:1",
        "me:hunter2@h:1",
        "me:hunter2@h",
        "hunter2@h",
        "ssh://me:hunter2@h",
        "whatever://me:hunter2@h",
        "tcp://me:hunter2@@h:1",
    ] {
        let error = text.parse::<Endpoint>().expect_err(text);
        for shown in [error.to_string(), format!("{error:?}")] {
            assert!(
                !shown.contains("hunter2") && !shown.contains("ter2"),
                "{shown}"
            );
            assert!(shown.contains("@h"), "{shown}");
        }
    }
    refused_for(
        "tcp://me:hunter2@h:2375",
        r#""tcp://…@h:2375": a user name or password has no place in the address"#,
    );
}

#[test]
fn the_host_field_names_the_host_and_no_zone() {
    let header = |text: &str| {
        text.parse::<Endpoint>()
            .map(|endpoint| endpoint.host_header())
    };
    assert_eq!(header("tcp://h:1/b"), Ok("h:1".into()));
    assert_eq!(header("tcp://[fe80::1%25eth0]:1"), Ok("[fe80::1]:1".into()));
    assert_eq!(header("unix:///s"), Ok("localhost".into()));
}

proptest! {
    #[test]
    fn any_text_is_an_endpoint_that_round_trips_or_an_error(text: String, tls: bool) {
        check(&text, tls)?;
    }

    #[test]
    fn text_like_an_address_round_trips_or_is_an_error(
        text in "(unix|tcp|https?|npipe|fake|ssh|x)?(:/{0,3})?[\\[\\]a-z0-9:.%@/?#\\\\é \\x00-\\x1f-]{0,24}", tls: bool,
    ) {
        check(&text, tls)?;
    }

    #[test]
    fn a_good_address_survives(host in "[a-z]([a-z0-9-]{0,8}[a-z0-9])?(\\.[a-z]{2,3})?", port in 1u16.., base in "(/[a-z0-9._~%2F]{1,5}){0,3}") {
        let base = base.replace('%', "%41");
        let text = format!("tcp://{host}:{port}{base}");
        prop_assert_eq!(text.parse::<Endpoint>(), Ok(Endpoint::Tcp { host, port, base_path: base }));
    }
}

fn check(text: &str, tls: bool) -> Result<(), TestCaseError> {
    match Endpoint::parse(text, tls) {
        Ok(endpoint) => {
            let shown = endpoint.to_string();
            prop_assert_eq!(shown.parse::<Endpoint>(), Ok(endpoint.clone()), "{}", shown);
            // These two go onto the wire.
            for wire in [endpoint.host_header(), endpoint.base_path().to_owned()] {
                prop_assert!(wire.bytes().all(|b| b.is_ascii_graphic()), "{:?}", wire);
            }
        }
        Err(error) => {
            let shown = error.to_string();
            prop_assert!(!shown.contains(['\n', '\r', '\0']), "{:?}", shown);
        }
    }
    Ok(())
}
