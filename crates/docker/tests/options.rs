//! The choice of an endpoint, with real files: precedence, TLS, contexts, headers and the pinned version.

use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use berth_docker::{ApiVersion, ConnectOptions, EndpointSource, Environment, TlsFiles};

/// The store's directories of contexts: the SHA-256 of `remote`, `secure` and `broken`.
const REMOTE: &str = "b71199ebd070b36beab7317920c2c2f1d777df8d05e5527d8458fda57cb17a7a";
const SECURE: &str = "6a934b45144e3758911efa29ed68fb2d420fa7bd568739cdcda9251fa9609b1e";
const BROKEN: &str = "f526795c95399cea27c055c842c3d6ab018ed0fa4f66f701c28ab22dec28237b";

/// A home directory with a `.docker` in it.
struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a directory"))
    }

    fn docker(&self) -> PathBuf {
        self.0.path().join(".docker")
    }

    fn file(&self, path: &str, text: &str) -> PathBuf {
        let path = self.docker().join(path);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        std::fs::write(&path, text).expect("a file");
        path
    }

    fn context(&self, id: &str, text: &str) -> PathBuf {
        self.file(&format!("contexts/meta/{id}/meta.json"), text)
    }

    fn remote(&self) {
        self.context(
            REMOTE,
            r#"{"Name":"remote","Metadata":{},"Endpoints":{"docker":{"Host":"tcp://10.0.0.1:2375","SkipTLSVerify":false}}}"#,
        );
    }

    fn environment(&self, variables: &[(&str, &str)]) -> Environment {
        variables.iter().fold(
            Environment::empty().with_home(self.0.path()),
            |environment, (name, value)| environment.with(*name, *value),
        )
    }

    fn resolve(&self, variables: &[(&str, &str)]) -> ConnectOptions {
        ConnectOptions::resolve(&self.environment(variables), None)
            .unwrap_or_else(|error| panic!("{error}"))
    }

    fn error(&self, variables: &[(&str, &str)]) -> String {
        match ConnectOptions::resolve(&self.environment(variables), None) {
            Ok(options) => panic!("{options:?}"),
            Err(error) => error
                .to_string()
                .replace(&self.docker().display().to_string(), "~/.docker"),
        }
    }

    fn endpoint(&self, variables: &[(&str, &str)]) -> String {
        self.resolve(variables).endpoint().to_string()
    }
}

fn context(name: &str, chosen_by: String) -> EndpointSource {
    EndpointSource::Context {
        name: name.to_owned(),
        chosen_by,
    }
}

#[test]
fn without_any_word_the_default_socket_is_used() {
    let options = Home::new().resolve(&[]);
    assert_eq!(
        options.endpoint().to_string(),
        "unix:///var/run/docker.sock"
    );
    assert_eq!(options.source(), &EndpointSource::Default);
    assert_eq!(
        (options.api_version(), options.tls(), options.rootless()),
        (None, None, None)
    );
    assert_eq!(
        ConnectOptions::resolve(&Environment::empty(), None)
            .map(|options| options.endpoint().to_string()),
        Ok("unix:///var/run/docker.sock".into())
    );
}

#[test]
fn the_precedence_is_that_of_the_docker_command() {
    let home = Home::new();
    home.remote();
    home.context(
        SECURE,
        r#"{"Name":"secure","Endpoints":{"docker":{"Host":"tcp://10.0.0.2:1"}}}"#,
    );
    let config = home.file("config.json", r#"{"currentContext":"remote"}"#);
    let all = [("DOCKER_HOST", "tcp://env:1"), ("DOCKER_CONTEXT", "secure")];

    let given = ConnectOptions::resolve(
        &home.environment(&all),
        Some(("--docker-endpoint", "tcp://flag:1")),
    )
    .expect("options");
    assert_eq!(given.endpoint().to_string(), "tcp://flag:1");
    assert_eq!(
        given.source(),
        &EndpointSource::Given("--docker-endpoint".into())
    );

    let host = home.resolve(&all);
    assert_eq!(host.endpoint().to_string(), "tcp://env:1");
    assert_eq!(host.source(), &EndpointSource::DockerHost);

    let variable = home.resolve(&[("DOCKER_HOST", ""), ("DOCKER_CONTEXT", "secure")]);
    assert_eq!(variable.endpoint().to_string(), "tcp://10.0.0.2:1");
    assert_eq!(
        variable.source(),
        &context("secure", "DOCKER_CONTEXT".into())
    );

    let current = home.resolve(&[("DOCKER_CONTEXT", "")]);
    assert_eq!(current.endpoint().to_string(), "tcp://10.0.0.1:2375");
    assert_eq!(
        current.source(),
        &context("remote", format!("currentContext of {}", config.display()))
    );

    let default = home.resolve(&[("DOCKER_CONTEXT", "default")]);
    assert_eq!(
        default.endpoint().to_string(),
        "unix:///var/run/docker.sock"
    );
    assert_eq!(default.source(), &EndpointSource::Default);
}

#[test]
fn a_bad_endpoint_names_who_gave_it_the_value_and_the_rule() {
    let home = Home::new();
    assert_eq!(
        home.error(&[("DOCKER_HOST", "/run/d.sock")]),
        r#"DOCKER_HOST "/run/d.sock": the scheme is missing; write unix:///run/d.sock"#
    );
    let error =
        ConnectOptions::resolve(&home.environment(&[]), Some(("--docker-endpoint", "fd://")))
            .expect_err("fd");
    assert_eq!(
        error.to_string(),
        r#"--docker-endpoint "fd://": fd:// is where an engine listens, not where it is reached; write unix:///var/run/docker.sock"#
    );
    assert!(
        ConnectOptions::resolve(&home.environment(&[]), Some(("--docker-endpoint", ""))).is_err()
    );
    let environment =
        Environment::empty().with("DOCKER_HOST", std::ffi::OsString::from_vec(vec![0xff]));
    assert_eq!(
        ConnectOptions::resolve(&environment, None)
            .expect_err("bytes")
            .to_string(),
        "DOCKER_HOST: is not UTF-8"
    );
}

#[test]
fn docker_config_moves_the_configuration_directory() {
    let (home, other) = (Home::new(), Home::new());
    home.file("config.json", "broken");
    other.remote();
    other.file("config.json", r#"{"currentContext":"remote"}"#);
    let dir = other.docker();
    assert_eq!(
        home.endpoint(&[("DOCKER_CONFIG", dir.to_str().expect("UTF-8"))]),
        "tcp://10.0.0.1:2375"
    );
}

#[test]
fn a_config_that_cannot_be_used_is_an_error_with_a_place() {
    let home = Home::new();
    home.file("config.json", "{\n  \"HttpHeaders\": [\"hunter2\"]\n}");
    assert_eq!(
        home.error(&[("DOCKER_HOST", "tcp://h")]),
        "~/.docker/config.json:2:17: expected a map"
    );
    home.file("config.json", "");
    assert_eq!(home.endpoint(&[]), "unix:///var/run/docker.sock");
    home.file(
        "config.json",
        &format!("{{\"x\":\"{}\"}}", "a".repeat(1024 * 1024)),
    );
    assert_eq!(
        home.error(&[]),
        "~/.docker/config.json: has more than 1048576 bytes"
    );
    std::fs::remove_file(home.docker().join("config.json")).expect("removed");
    home.file("config.json/x", "");
    assert_eq!(
        home.error(&[]),
        "~/.docker/config.json: is not a regular file"
    );
    let file = home.file("file", "");
    let error = home.error(&[("DOCKER_CONFIG", file.to_str().expect("UTF-8"))]);
    assert!(
        error.starts_with("~/.docker/file/config.json: cannot be read: Not a directory"),
        "{error}"
    );
}

#[test]
fn a_fifo_in_place_of_a_config_is_refused_and_not_waited_for() {
    let home = Home::new();
    home.file("x", "");
    let made = std::process::Command::new("mkfifo")
        .arg(home.docker().join("config.json"))
        .status()
        .expect("mkfifo");
    assert!(made.success());
    assert_eq!(
        home.error(&[]),
        "~/.docker/config.json: is not a regular file"
    );
}

fn certificates(home: &Home, dir: &str, names: &[&str]) -> PathBuf {
    for name in names {
        home.file(&format!("{dir}/{name}"), "PEM");
    }
    home.docker().join(dir)
}

#[test]
fn the_tls_variables_turn_tcp_into_https_with_the_files_of_the_cert_path() {
    let home = Home::new();
    let dir = certificates(&home, "certs", &["ca.pem", "cert.pem", "key.pem"]);
    let path = ("DOCKER_CERT_PATH", dir.to_str().expect("UTF-8"));
    let files = |verify| TlsFiles {
        ca: Some(dir.join("ca.pem")),
        cert: Some(dir.join("cert.pem")),
        key: Some(dir.join("key.pem")),
        verify,
    };

    for (variable, verify) in [("DOCKER_TLS_VERIFY", true), ("DOCKER_TLS", false)] {
        // Any value counts, 0 as well.
        let options = home.resolve(&[("DOCKER_HOST", "tcp://h"), path, (variable, "0")]);
        assert_eq!(
            options.endpoint().to_string(),
            "https://h:2376",
            "{variable}"
        );
        assert_eq!(options.tls(), Some(&files(verify)), "{variable}");
    }
    let both = home.resolve(&[
        ("DOCKER_HOST", "tcp://h:1"),
        path,
        ("DOCKER_TLS", "1"),
        ("DOCKER_TLS_VERIFY", "1"),
    ]);
    assert_eq!(both.tls(), Some(&files(true)));

    // The cert path alone asks for nothing, as for the docker command.
    let plain = home.resolve(&[("DOCKER_HOST", "tcp://h"), path, ("DOCKER_TLS_VERIFY", "")]);
    assert_eq!(
        (plain.endpoint().to_string().as_str(), plain.tls()),
        ("tcp://h:2375", None)
    );
    // Sockets have no TLS.
    assert_eq!(
        home.resolve(&[("DOCKER_HOST", "unix:///s"), ("DOCKER_TLS_VERIFY", "1")])
            .tls(),
        None
    );
}

#[test]
fn tls_without_a_host_means_the_local_engines_tls_port() {
    let home = Home::new();
    certificates(&home, ".", &["ca.pem"]);
    let options = home.resolve(&[("DOCKER_TLS_VERIFY", "1")]);
    assert_eq!(options.endpoint().to_string(), "https://localhost:2376");
    assert_eq!(options.source(), &EndpointSource::Default);
    assert_eq!(
        options.tls().and_then(|files| files.ca.clone()),
        Some(home.docker().join("ca.pem"))
    );
}

#[test]
fn an_https_address_is_verified_without_any_variable() {
    let home = Home::new();
    let options = home.resolve(&[("DOCKER_HOST", "https://h")]);
    assert_eq!(
        options.tls(),
        Some(&TlsFiles {
            ca: None,
            cert: None,
            key: None,
            verify: true
        })
    );
    let dir = certificates(&home, "certs", &["ca.pem"]);
    let options = home.resolve(&[
        ("DOCKER_HOST", "https://h"),
        ("DOCKER_CERT_PATH", dir.to_str().expect("UTF-8")),
    ]);
    assert_eq!(
        options.tls(),
        Some(&TlsFiles {
            ca: Some(dir.join("ca.pem")),
            cert: None,
            key: None,
            verify: true
        })
    );
}

#[test]
fn tls_files_that_are_missing_are_errors_that_name_them() {
    let home = Home::new();
    let verify = [("DOCKER_HOST", "tcp://h"), ("DOCKER_TLS_VERIFY", "1")];
    assert_eq!(
        home.error(&verify),
        "~/.docker/ca.pem: is missing, but needed to verify the engine; name the directory of ca.pem, cert.pem and key.pem with DOCKER_CERT_PATH"
    );
    certificates(&home, ".", &["ca.pem", "cert.pem"]);
    assert_eq!(
        home.error(&verify),
        "~/.docker/key.pem: is missing beside cert.pem; a client certificate needs both"
    );
    assert_eq!(
        home.error(&[
            ("DOCKER_HOST", "tcp://h"),
            ("DOCKER_TLS", "1"),
            ("DOCKER_CERT_PATH", "/no/such")
        ]),
        r#"DOCKER_CERT_PATH "/no/such": must be a directory"#
    );
    assert_eq!(
        home.error(&[("DOCKER_HOST", "http://h"), ("DOCKER_TLS", "1")]),
        r#"DOCKER_HOST "http://h": http:// is never encrypted, but TLS is asked for; write tcp:// or https://"#
    );
}

#[test]
fn a_context_brings_its_own_tls_and_is_deaf_to_the_variables() {
    let home = Home::new();
    home.remote();
    let variables = [
        ("DOCKER_CONTEXT", "remote"),
        ("DOCKER_TLS_VERIFY", "1"),
        ("DOCKER_CERT_PATH", "/no/such"),
    ];
    assert_eq!(home.endpoint(&variables), "tcp://10.0.0.1:2375");

    let dir = certificates(
        &home,
        &format!("contexts/tls/{REMOTE}/docker"),
        &["ca.pem", "cert.pem", "key.pem"],
    );
    let options = home.resolve(&variables);
    assert_eq!(options.endpoint().to_string(), "https://10.0.0.1:2375");
    let files = TlsFiles {
        ca: Some(dir.join("ca.pem")),
        cert: Some(dir.join("cert.pem")),
        key: Some(dir.join("key.pem")),
        verify: true,
    };
    assert_eq!(options.tls(), Some(&files));

    std::fs::remove_file(dir.join("key.pem")).expect("removed");
    assert!(
        home.error(&variables).ends_with(
            "docker/key.pem: is missing beside cert.pem; a client certificate needs both"
        )
    );
}

#[test]
fn a_context_may_skip_verification_or_have_a_socket() {
    let home = Home::new();
    home.context(
        SECURE,
        r#"{"name":"secure","endpoints":{"docker":{"host":"tcp://h","skipTLSVerify":true}}}"#,
    );
    let options = home.resolve(&[("DOCKER_CONTEXT", "secure")]);
    assert_eq!(options.endpoint().to_string(), "https://h:2376");
    assert_eq!(
        options.tls(),
        Some(&TlsFiles {
            verify: false,
            ..TlsFiles::default()
        })
    );

    home.context(
        SECURE,
        r#"{"Name":"secure","Endpoints":{"docker":{"Host":"unix:///s","SkipTLSVerify":true}}}"#,
    );
    assert_eq!(home.resolve(&[("DOCKER_CONTEXT", "secure")]).tls(), None);

    // As for the docker command, no host is the default one.
    home.context(
        SECURE,
        r#"{"Name":"secure","Endpoints":{"docker":{"SkipTLSVerify":false}}}"#,
    );
    assert_eq!(
        home.endpoint(&[("DOCKER_CONTEXT", "secure")]),
        "unix:///var/run/docker.sock"
    );
}

#[test]
fn a_context_that_does_not_exist_is_named_with_those_that_do() {
    let home = Home::new();
    home.remote();
    home.context(SECURE, r#"{"Name":"secure"}"#);
    home.context("junk", "{");
    assert_eq!(
        home.error(&[("DOCKER_CONTEXT", "nope")]),
        r#"DOCKER_CONTEXT "nope": there is no such context in ~/.docker/contexts; there are: default, remote, secure"#
    );
    home.file("config.json", r#"{"currentContext":"../gone"}"#);
    assert_eq!(
        home.error(&[]),
        r#"currentContext of ~/.docker/config.json "../gone": there is no such context in ~/.docker/contexts; there are: default, remote, secure"#
    );
    // The endpoint being named, nobody asks for the context.
    assert_eq!(home.endpoint(&[("DOCKER_HOST", "unix:///s")]), "unix:///s");
    let error = ConnectOptions::resolve(&Environment::empty().with("DOCKER_CONTEXT", "x"), None)
        .expect_err("no home");
    assert!(error.to_string().contains("no home directory"), "{error}");
}

#[test]
fn a_context_that_cannot_be_used_is_an_error_that_says_why() {
    let home = Home::new();
    let variables = [("DOCKER_CONTEXT", "broken")];
    let meta = format!("~/.docker/contexts/meta/{BROKEN}/meta.json");
    for (text, error) in [
        (
            "{\"Name\":\n\"broken\",}",
            format!("{meta}:2:10: is not JSON: trailing comma"),
        ),
        (
            r#"{"Endpoints":{"docker":{"Host":7}}}"#,
            format!("{meta}:1:32: expected a string"),
        ),
        (
            r#"{"Endpoints":{"kubernetes":{},"swarm":{}}}"#,
            format!(r#"{meta}: context "broken" has no docker endpoint, only kubernetes, swarm"#),
        ),
        (
            r#"{"Endpoints":{"docker":null}}"#,
            format!(r#"{meta}: context "broken" has no docker endpoint"#),
        ),
        (
            "{}",
            format!(r#"{meta}: context "broken" has no docker endpoint"#),
        ),
        (
            r#"{"Endpoints":{"docker":{"Host":"tcp://h:x"}}}"#,
            format!(
                r#"context "broken" ({meta}) "tcp://h:x": the port must be a number from 1 to 65535"#
            ),
        ),
    ] {
        home.context(BROKEN, text);
        assert_eq!(home.error(&variables), error);
    }
    home.context(
        BROKEN,
        r#"{"Endpoints":{"docker":{"Host":"ssh://me:hunter2@h"}}}"#,
    );
    let error = home.error(&variables);
    assert!(error.starts_with(&format!(r#"context "broken" ({meta}) "ssh://…@h": ssh:// is not spoken here; forward the socket"#)), "{error}");
}

#[test]
fn a_rootless_socket_is_a_hint_and_no_endpoint() {
    let runtime = tempfile::tempdir().expect("a directory");
    let home = Home::new();
    let variables = [("XDG_RUNTIME_DIR", runtime.path().to_str().expect("UTF-8"))];
    assert_eq!(home.resolve(&variables).rootless(), None);
    let socket: &Path = &runtime.path().join("docker.sock");
    let _listener = std::os::unix::net::UnixListener::bind(socket).expect("a socket");
    let options = home.resolve(&variables);
    assert_eq!(
        options.endpoint().to_string(),
        "unix:///var/run/docker.sock"
    );
    assert_eq!(
        options.rootless().map(ToString::to_string),
        Some(format!("unix://{}", socket.display()))
    );
    // Somebody who names an endpoint needs no hint.
    let named = home
        .environment(&variables)
        .with("DOCKER_HOST", "unix:///s");
    assert_eq!(
        ConnectOptions::resolve(&named, None)
            .expect("options")
            .rootless(),
        None
    );
}

#[test]
fn the_pinned_version_is_one_that_the_client_speaks() {
    let home = Home::new();
    for (text, version) in [
        ("1.44", Some(ApiVersion::new(1, 44))),
        (" v1.40 ", Some(ApiVersion::FLOOR)),
        ("", None),
        (" ", None),
    ] {
        assert_eq!(
            home.resolve(&[("DOCKER_API_VERSION", text)]).api_version(),
            version,
            "{text:?}"
        );
    }
    for (text, rule) in [
        ("1.x", r#""1.x": must be MAJOR.MINOR, such as 1.44"#),
        ("v", r#""v": must be MAJOR.MINOR, such as 1.44"#),
        (
            "1.39",
            r#""1.39": must be from 1.40 to 1.55, which this client speaks"#,
        ),
        (
            "2.0",
            r#""2.0": must be from 1.40 to 1.55, which this client speaks"#,
        ),
    ] {
        assert_eq!(
            home.error(&[("DOCKER_API_VERSION", text)]),
            format!("DOCKER_API_VERSION {rule}")
        );
    }
}

#[test]
fn headers_are_checked_and_their_values_never_shown() {
    let home = Home::new();
    home.file(
        "config.json",
        r#"{"HttpHeaders":{"X-Token":"hunter2","User-Agent":"Docker-Client/19.03"}}"#,
    );
    let shown = format!("{:?}", home.resolve(&[]));
    assert!(
        shown.contains(r#"headers: ["X-Token"]"#) && !shown.contains("hunter2"),
        "{shown}"
    );
    let shown = format!(
        "{:?}",
        home.resolve(&[("DOCKER_CUSTOM_HEADERS", "X-Other=hunter2")])
    );
    assert!(
        shown.contains(r#"headers: ["X-Other"]"#) && !shown.contains("hunter2"),
        "{shown}"
    );
    let environment = home.environment(&[
        ("DOCKER_CUSTOM_HEADERS", "X-Other=hunter2"),
        ("DOCKER_AUTH_CONFIG", "hunter2"),
    ]);
    assert!(!format!("{environment:?}").contains("hunter2"));

    home.file(
        "config.json",
        r#"{"HttpHeaders":{"Content-Length":"hunter2"}}"#,
    );
    assert_eq!(
        home.error(&[]),
        r#"HttpHeaders of ~/.docker/config.json "Content-Length": this header is the client's own and cannot be set"#
    );
    // The variable stands in for the file's headers.
    home.resolve(&[("DOCKER_CUSTOM_HEADERS", "a=b")]);
    assert_eq!(
        home.error(&[("DOCKER_CUSTOM_HEADERS", "a")])
            .split(';')
            .next(),
        Some("DOCKER_CUSTOM_HEADERS: field 1 has no `=`")
    );
}

#[test]
fn options_made_in_code_agree_with_themselves() {
    let files = TlsFiles {
        ca: Some("/ca.pem".into()),
        ..TlsFiles::default()
    };
    let options = ConnectOptions::new("tcp://h:1/b".parse().expect("an endpoint"));
    assert_eq!((options.tls(), options.rootless()), (None, None));
    let options = options.with_tls(files.clone());
    assert_eq!(
        (options.endpoint().to_string().as_str(), options.tls()),
        ("https://h:1/b", Some(&files))
    );
    assert_eq!(
        ConnectOptions::new("https://h".parse().expect("an endpoint")).tls(),
        Some(&TlsFiles::default())
    );
    assert_eq!(ConnectOptions::default().with_tls(files).tls(), None);
    assert!(
        ConnectOptions::default()
            .with_api_version(ApiVersion::new(1, 56))
            .is_err()
    );
    let options = ConnectOptions::default()
        .with_header("x-a", "1")
        .and_then(|options| options.with_header("X-A", "2"))
        .expect("a header");
    assert!(format!("{options:?}").contains(r#"headers: ["X-A"]"#));
    assert!(options.with_header("X-A", "1\r\nHost: x").is_err());
}
