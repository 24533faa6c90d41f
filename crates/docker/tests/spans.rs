//! What a subscriber of tracing sees: each call under the kubelet's name for it, and no secret.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use berth_docker::auth::Credentials;
use berth_docker::pull::PullImage;
use berth_docker::{ConnectOptions, Docker};
use berth_fake_engine::{FakeEngine, RegistryAnswer, RegistryBehaviour};
use tracing_subscriber::fmt::format::FmtSpan;

const USER: &str = "the-user-of-this-test";
const PASSWORD: &str = "correct horse battery staple";

#[derive(Clone, Default)]
struct Said(Arc<Mutex<Vec<u8>>>);

impl Write for Said {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no panic").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn every_call_has_a_span_and_no_secret_is_in_any() {
    let said = Said::default();
    let writer = said.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_span_events(FmtSpan::NEW | FmtSpan::CLOSE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let _scope = tracing::subscriber::set_default(subscriber);
    let registries = RegistryBehaviour::default()
        .rule("private.test/*", RegistryAnswer::Unauthorized)
        .rule("open.test/*", RegistryAnswer::Pushed);
    let engine = FakeEngine::builder()
        .image("open.test/app:1")
        .registry(registries)
        .build()
        .expect("an engine");
    let docker = Docker::builder(ConnectOptions::new("fake://".parse().expect("an endpoint")))
        .dialer(move || Ok(engine.connect()))
        .build()
        .expect("a client");
    let credentials = Credentials::password(USER, PASSWORD).for_server("private.test");
    let options = || PullImage {
        credentials: Some(&credentials),
        ..PullImage::default()
    };
    let refused = docker.pull_image("private.test/app:1", options()).await;
    let error = match refused {
        Ok(pull) => pull.wait().await.expect_err("it is refused"),
        Err(error) => error,
    };
    let mut words = format!("{error} {error:?}");
    let _ = docker.check_auth(&credentials).await;
    let push = docker.push_image("open.test/app:1", Some(&credentials));
    push.await
        .expect("it is taken")
        .wait()
        .await
        .expect("pushed");
    words += &String::from_utf8(said.0.lock().expect("no panic").clone()).expect("text");
    // The question for the version is the ping.
    for name in ["ping", "pull_image", "auth", "push_image"] {
        assert!(
            words.contains(&format!("operation=\"{name}\"")),
            "{name}: {words}"
        );
    }
    let json = format!("\"{PASSWORD}\"");
    for secret in [
        PASSWORD.to_owned(),
        STANDARD.encode(PASSWORD),
        URL_SAFE.encode(PASSWORD),
        // In the midst of what is encoded it begins at any of three places.
        STANDARD.encode(&json[..15]),
        STANDARD.encode(&json[1..16]),
        STANDARD.encode(&json[2..17]),
    ] {
        assert!(
            !words.contains(&secret),
            "{secret} is in what was said: {words}"
        );
    }
}
