//! The keychain with real files and real credential helpers, which are the scripts in `credential-helpers`.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use berth_docker::auth::{Credentials, Keychain};
use berth_docker::{ConfigError, Environment};

/// What every secret of these tests has in it.
const SECRET: &str = "hunter2";

/// Enough for any helper that ends by itself on any machine.
const PATIENCE: Duration = Duration::from_secs(30);

fn helpers() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/credential-helpers")
}

fn keychain(config: &str) -> Keychain {
    let home = tempfile::tempdir().expect("a directory");
    std::fs::write(home.path().join("config.json"), config).expect("config.json");
    let environment = Environment::empty()
        .with("DOCKER_CONFIG", home.path())
        .with("PATH", helpers());
    Keychain::load(&environment)
        .expect("a keychain")
        .helper_deadline(PATIENCE)
}

fn entry(user: &str, password: &str) -> String {
    format!(
        r#"{{"auth":"{}"}}"#,
        STANDARD.encode(format!("{user}:{password}"))
    )
}

async fn with_store(helper: &str) -> Result<Option<Credentials>, ConfigError> {
    keychain(&format!(r#"{{"credsStore":"{helper}"}}"#))
        .for_image("r.io/app")
        .await
}

/// The error of a helper, which holds no secret.
async fn failure(helper: &str) -> String {
    let error = with_store(helper).await.expect_err(helper);
    assert!(!format!("{error:?}").contains(SECRET), "{error:?}");
    assert!(!error.to_string().contains(SECRET), "{error}");
    error.to_string()
}

fn secrets(credentials: &Credentials) -> serde_json::Value {
    serde_json::from_slice(&URL_SAFE.decode(credentials.to_header()).expect("base64"))
        .expect("JSON")
}

#[tokio::test]
async fn stored_credentials_are_found_by_registry() {
    let config = format!(
        r#"{{"auths":{{"https://index.docker.io/v1/":{},"r.io:5000":{},"r.io":{{"username":"plain","password":"{SECRET}"}},"empty.io":{{}}}}}}"#,
        entry("hub", SECRET),
        entry("five", SECRET)
    );
    let keychain = keychain(&config);
    for (image, user, server) in [
        ("nginx", "hub", "https://index.docker.io/v1/"),
        ("docker.io/me/app:1", "hub", "https://index.docker.io/v1/"),
        ("r.io:5000/app", "five", "r.io:5000"),
        ("r.io/app@sha256:00", "plain", "r.io"),
    ] {
        let found = keychain.for_image(image).await.expect(image).expect(image);
        assert_eq!(
            (found.username(), found.server_address()),
            (user, server),
            "{image}"
        );
        assert_eq!(secrets(&found)["password"], SECRET);
    }
    for image in ["quay.io/app", "empty.io/app", "localhost/app"] {
        assert_eq!(keychain.for_image(image).await, Ok(None), "{image}");
    }
}

#[tokio::test]
async fn a_bad_entry_is_an_error_for_its_registry_alone_and_is_not_repeated() {
    let keychain = keychain(&format!(
        r#"{{"auths":{{"bad.io":{{"auth":"{SECRET}!"}},"r.io":{}}}}}"#,
        entry("me", "p")
    ));
    assert!(
        keychain
            .for_image("r.io/app")
            .await
            .is_ok_and(|found| found.is_some())
    );
    let error = keychain.for_image("bad.io/app").await.expect_err("bad");
    assert!(
        error.to_string().contains(
            "config.json: the entry of \"bad.io\" in auths has an auth that is not base64"
        ),
        "{error}"
    );
    assert!(
        error
            .to_string()
            .ends_with("run `docker login bad.io` to write it anew"),
        "{error}"
    );
    assert!(!format!("{error} {error:?} {keychain:?}").contains(SECRET));
}

#[tokio::test]
async fn a_config_that_is_absent_or_has_no_home_holds_nothing() {
    let home = tempfile::tempdir().expect("a directory");
    for environment in [
        Environment::empty(),
        Environment::empty().with_home(home.path()),
    ] {
        assert_eq!(
            Keychain::load(&environment)
                .expect("a keychain")
                .for_image("nginx")
                .await,
            Ok(None)
        );
    }
}

#[tokio::test]
async fn a_helper_is_asked_for_the_key_that_docker_stores_under() {
    let keychain = keychain(r#"{"credsStore":"password"}"#);
    for (image, key) in [
        ("nginx", "https://index.docker.io/v1/"),
        ("r.io:5000/app", "r.io:5000"),
    ] {
        let found = keychain.for_image(image).await.expect(image).expect(image);
        assert_eq!((found.username(), found.server_address()), (key, key));
        assert_eq!(secrets(&found)["password"], SECRET);
    }
}

#[tokio::test]
async fn the_registrys_helper_goes_before_the_store_and_both_before_auths() {
    let auths = format!(r#""auths":{{"r.io":{}}}"#, entry("file", "p"));
    for (helpers, who) in [
        (
            r#""credHelpers":{"r.io":"token"},"credsStore":"password","#,
            "",
        ),
        (
            r#""credHelpers":{"other.io":"token"},"credsStore":"password","#,
            "r.io",
        ),
        (
            r#""credHelpers":{"r.io":"none"},"credsStore":"password","#,
            "r.io",
        ),
        (
            r#""credHelpers":{"r.io":"none"},"credsStore":"none","#,
            "file",
        ),
        (
            r#""credHelpers":{"r.io":""},"credsStore":"password","#,
            "file",
        ),
        ("", "file"),
    ] {
        let found = keychain(&format!("{{{helpers}{auths}}}"))
            .for_image("r.io/app")
            .await
            .expect(helpers)
            .expect(helpers);
        assert_eq!(found.username(), who, "{helpers}");
    }
}

#[tokio::test]
async fn the_variable_goes_before_the_file_and_holds_nothing_but_auths() {
    let home = tempfile::tempdir().expect("a directory");
    std::fs::write(
        home.path().join("config.json"),
        format!(
            r#"{{"auths":{{"r.io":{0},"s.io":{0}}}}}"#,
            entry("file", "p")
        ),
    )
    .expect("config");
    let environment = |text: &str| {
        Environment::empty()
            .with("DOCKER_CONFIG", home.path())
            .with("DOCKER_AUTH_CONFIG", text)
    };
    let keychain = Keychain::load(&environment(&format!(
        r#"{{"auths":{{"r.io":{}}}}}"#,
        entry("variable", SECRET)
    )))
    .expect("a keychain");
    for (image, who) in [("r.io/app", "variable"), ("s.io/app", "file")] {
        assert_eq!(
            keychain
                .for_image(image)
                .await
                .expect(image)
                .expect(image)
                .username(),
            who
        );
    }
    for (text, rule) in [
        (
            format!("{{\"auths\":{{\"r.io\":\"{SECRET}\"}}}}"),
            "DOCKER_AUTH_CONFIG: line 1, column 26: expected an object",
        ),
        (
            SECRET.to_owned(),
            "DOCKER_AUTH_CONFIG: line 1, column 1: is not JSON: expected value",
        ),
        (
            r#"{"credsStore":"x"}"#.to_owned(),
            "DOCKER_AUTH_CONFIG: must have nothing but auths; name credential helpers in config.json",
        ),
    ] {
        assert_eq!(
            Keychain::load(&environment(&text))
                .expect_err(&text)
                .to_string(),
            rule
        );
    }
}

#[tokio::test]
async fn an_identity_token_has_no_user() {
    let found = with_store("token")
        .await
        .expect("an answer")
        .expect("a token");
    assert_eq!(
        secrets(&found),
        serde_json::json!({"identitytoken": SECRET, "serveraddress": "r.io"})
    );
    assert!(!format!("{found:?}").contains(SECRET));
}

#[tokio::test]
async fn a_helper_that_has_nothing_makes_the_call_anonymous() {
    assert_eq!(with_store("none").await, Ok(None));
}

#[tokio::test]
async fn a_helper_that_fails_is_named_with_its_reason_and_its_words() {
    assert_eq!(
        failure("locked").await,
        r#"docker-credential-locked, asked for r.io, failed (exit status: 1) with "the key ring is locked": gpg: no pinentry"#
    );
    assert_eq!(
        failure("leak").await,
        "docker-credential-leak, asked for r.io, failed (exit status: 2)"
    );
}

#[tokio::test]
async fn a_helper_that_answers_garbage_is_named_and_not_quoted() {
    assert_eq!(
        failure("garbage").await,
        "docker-credential-garbage, asked for r.io, answered what is not the JSON of credentials (8 bytes, line 1, column 1)"
    );
}

#[tokio::test]
async fn an_answer_that_is_too_long_is_refused_whether_it_ends_or_not() {
    for helper in ["long", "flood"] {
        let error = failure(helper).await;
        assert!(
            error.ends_with("answered more than 1048576 bytes and was killed"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn words_on_standard_error_neither_block_nor_spoil_an_answer() {
    for helper in ["chatty", "deaf"] {
        let found = with_store(helper).await.expect(helper).expect(helper);
        assert_eq!(found.username(), "me");
    }
}

#[tokio::test]
async fn a_process_that_the_helper_leaves_behind_does_not_hold_up_the_answer() {
    // It keeps the pipes open for longer than the deadline is.
    let found = with_store("daemon")
        .await
        .expect("an answer")
        .expect("credentials");
    assert_eq!(found.username(), "me");
}

#[tokio::test]
async fn a_helper_that_cannot_be_run_is_an_error() {
    assert_eq!(
        failure("absent").await,
        "docker-credential-absent, asked for r.io, cannot be run: there is no such program in PATH"
    );
    // It is there but not executable.
    assert!(
        failure("plain")
            .await
            .ends_with("there is no such program in PATH")
    );
    let error = failure("../credential-helpers/docker-credential-password").await;
    assert!(error.starts_with(r#"credential helper "../credential-helpers/docker-credential-password": must be 1 to 64 letters"#), "{error}");
    for name in ["-x", ".x", "a b", "a\nb", "é", &"a".repeat(65)] {
        let config = serde_json::json!({"credsStore": name}).to_string();
        assert!(
            keychain(&config).for_image("r.io/app").await.is_err(),
            "{name:?}"
        );
    }
}

#[tokio::test]
async fn a_relative_search_path_runs_nothing() {
    let home = tempfile::tempdir().expect("a directory");
    std::fs::write(
        home.path().join("config.json"),
        r#"{"credsStore":"password"}"#,
    )
    .expect("config.json");
    let environment = Environment::empty()
        .with("DOCKER_CONFIG", home.path())
        .with("PATH", "tests/credential-helpers:.:");
    let error = Keychain::load(&environment)
        .expect("a keychain")
        .for_image("r.io/app")
        .await
        .expect_err("nothing to run");
    assert!(error.to_string().contains("no such program"), "{error}");
}

/// Whether a process runs that has `marker` among its arguments.
#[cfg(target_os = "linux")]
fn runs(marker: &str) -> bool {
    std::fs::read_dir("/proc")
        .expect("/proc")
        .flatten()
        .any(|process| {
            // A zombie has no arguments.
            std::fs::read(process.path().join("cmdline")).is_ok_and(|line| {
                line.split(|byte| *byte == 0)
                    .any(|word| word == marker.as_bytes())
            })
        })
}

#[cfg(target_os = "linux")]
async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_helper_that_hangs_is_killed_at_its_deadline_with_its_children() {
    let keychain = keychain(r#"{"credsStore":"hang"}"#).helper_deadline(Duration::from_secs(1));
    let registry = format!("late-{}.io", std::process::id());
    let start = Instant::now();
    let error = keychain
        .for_image(&format!("{registry}/app"))
        .await
        .expect_err("a hang");
    assert!(start.elapsed() >= Duration::from_secs(1) && start.elapsed() < PATIENCE);
    assert!(error.to_string().contains(&format!("docker-credential-hang, asked for {registry}, gave no answer within 1s and was killed: started")), "{error}");
    until("the helper's child is dead", || !runs(&registry)).await;
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn dropping_the_look_up_kills_the_helper_and_its_children() {
    let keychain = keychain(r#"{"credsStore":"hang"}"#);
    let registry = format!("dropped-{}.io", std::process::id());
    let image = format!("{registry}/app");
    let look_up = async { keychain.for_image(&image).await };
    tokio::select! {
        found = look_up => panic!("{found:?}"),
        () = until("the helper's child runs", || runs(&registry)) => {}
    }
    until("the helper's child is dead", || !runs(&registry)).await;
}
