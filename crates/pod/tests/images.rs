//! Images against the engine in memory: what is told of them, joined pulls, removals, what they take.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail the test")]

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use berth_docker::api::ImportImage;
use berth_docker::{Body, ConnectOptions, Docker};
use berth_fake_engine::{
    Clock, FakeEngine, Fault, FaultKind, Operation, RegistryAnswer, RegistryBehaviour, When,
};
use berth_pod::image::{Credentials, Image, ImageRef, Images, PullError, PullFailure, PullRequest};
use berth_pod::spec::User;

const PAUSE: &str = "registry.k8s.io/pause:3.9";

/// How long a condition may take to come true.
const LIMIT: Duration = Duration::from_secs(10);

fn engine() -> FakeEngine {
    FakeEngine::builder()
        .image("busybox:1.36")
        .image(PAUSE)
        .build()
        .unwrap()
}

fn docker(engine: &FakeEngine) -> Docker {
    let engine = engine.clone();
    let options = ConnectOptions::new("unix:///fake.sock".parse().unwrap());
    Docker::builder(options)
        .dialer(move || Ok(engine.connect()))
        .build()
        .unwrap()
}

fn images(engine: &FakeEngine) -> Images {
    Images::new(docker(engine), vec![reference(PAUSE)])
}

fn reference(text: &str) -> ImageRef {
    text.parse().unwrap()
}

fn request(name: &str) -> PullRequest {
    PullRequest {
        name: name.parse().unwrap(),
        credentials: None,
        stuck_after: None,
    }
}

async fn pull(images: &Images, name: &str) -> Result<String, PullError> {
    images.pull(request(name), |_| {}).await
}

async fn import(docker: &Docker, name: &str, user: &str) -> String {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_size(name.len() as u64);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    tar.append_data(&mut header, "name", name.as_bytes())
        .unwrap();
    let options = ImportImage {
        reference: name.to_owned(),
        changes: vec![format!("USER {user}")],
        ..ImportImage::default()
    };
    let files = Body::Bytes(tar.into_inner().unwrap().into());
    docker.import_image(files, &options).await.unwrap()
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let came = tokio::time::timeout(LIMIT, waiting).await;
    assert!(came.is_ok(), "not within {LIMIT:?}: {what}");
}

#[tokio::test]
async fn a_list_tells_users_and_the_pinned_image_and_asks_for_each_image_once() {
    let engine = engine();
    let (docker, images) = (docker(&engine), images(&engine));
    let id = import(&docker, "local/app:1", "1002:1003").await;
    docker
        .tag_image("local/app:1", "quay.io/other/app:2")
        .await
        .unwrap();
    import(&docker, "local/web", "www-data").await;

    let list = images.list().await.unwrap();
    let named = |tag: &str| -> &Image {
        list.iter()
            .find(|image| image.repo_tags.iter().any(|name| name == tag))
            .unwrap()
    };
    assert_eq!(list.len(), 4);
    assert_eq!(named("local/app:1").id, id);
    assert_eq!(
        named("local/app:1").repo_tags,
        ["local/app:1", "quay.io/other/app:2"]
    );
    assert_eq!(named("local/app:1").user, Some(User::Id(1002)));
    assert_eq!(
        named("local/web:latest").user,
        Some(User::Name("www-data".into()))
    );
    assert_eq!(named("busybox:1.36").user, None);
    assert_eq!(named("busybox:1.36").repo_digests.len(), 1);
    assert!(list.iter().all(|image| image.size > 0));
    assert!(
        list.iter()
            .all(|image| image.pinned == (image.repo_tags == [PAUSE]))
    );

    let asked = engine.calls().of(Operation::InspectImage);
    assert_eq!(images.list().await.unwrap(), list);
    assert_eq!(engine.calls().of(Operation::InspectImage), asked);
    images.remove(&reference("local/web")).await.unwrap();
    assert_eq!(images.list().await.unwrap().len(), 3);
}

#[tokio::test]
async fn an_image_that_goes_while_it_is_listed_is_left_out() {
    let engine = engine();
    let gone = FaultKind::Error {
        status: 404,
        message: "No such image".into(),
    };
    engine.add_fault(Fault::on(Operation::InspectImage, gone).when(When::Nth(1)));
    let images = images(&engine);
    assert_eq!(images.list().await.unwrap().len(), 1);
    assert_eq!(images.list().await.unwrap().len(), 2);
}

#[tokio::test]
async fn names_that_old_engines_make_up_are_left_out() {
    let engine = FakeEngine::builder().api_version("1.41").build().unwrap();
    let (docker, images) = (docker(&engine), images(&engine));
    let id = import(&docker, "", "0").await;
    let list = images.list().await.unwrap();
    assert_eq!((list.len(), &list[0].id), (1, &id));
    assert!(
        list[0].repo_tags.is_empty() && list[0].repo_digests.is_empty(),
        "{list:?}"
    );
}

#[tokio::test]
async fn every_form_of_a_name_gives_the_same_image() {
    let engine = engine();
    let images = images(&engine);
    let id = pull(&images, "registry.example/team/app").await.unwrap();
    let status = async |text: &str| images.status(&reference(text)).await.unwrap();
    let image = status("registry.example/team/app:latest").await.unwrap();
    assert_eq!(image.id, id);
    let digits = id.strip_prefix("sha256:").unwrap();
    for text in [
        "registry.example/team/app",
        &image.repo_digests[0],
        &image.repo_digests[0].replace('@', ":any@"),
        &id,
        digits,
    ] {
        assert_eq!(status(text).await.as_ref(), Some(&image), "{text}");
    }
    for text in [
        // The engine would take these for the image.
        &digits[..12],
        &digits[..63],
        "registry.example/team/app:2",
        "team/app",
        &format!(
            "other.example/app@{}",
            image.repo_digests[0].split_once('@').unwrap().1
        ),
        &"0".repeat(64),
    ] {
        assert_eq!(status(text).await, None, "{text}");
    }
    let (described, config) = images.describe(&reference(&id)).await.unwrap().unwrap();
    assert_eq!(described, image);
    assert!(config.contains(r#""config":{"Env":["PATH="#), "{config}");
    assert_eq!(images.describe(&reference("nope")).await.unwrap(), None);
}

#[tokio::test]
async fn an_answer_is_right_at_once_after_a_pull_and_a_removal() {
    let engine = engine();
    let images = images(&engine);
    let app = reference("app:1");
    for _ in 0..3 {
        assert_eq!(images.status(&app).await.unwrap(), None);
        let id = pull(&images, "app:1").await.unwrap();
        assert_eq!(images.status(&app).await.unwrap().unwrap().id, id);
        assert!(
            images
                .list()
                .await
                .unwrap()
                .iter()
                .any(|image| image.id == id)
        );
        images.remove(&app).await.unwrap();
        assert!(
            images
                .list()
                .await
                .unwrap()
                .iter()
                .all(|image| image.id != id)
        );
    }
}

#[tokio::test]
async fn a_name_without_a_tag_pulls_latest_and_a_digest_leaves_no_tag() {
    let engine = engine();
    let images = images(&engine);
    pull(&images, "app").await.unwrap();
    let app = images.status(&reference("app")).await.unwrap().unwrap();
    assert_eq!(app.repo_tags, ["app:latest"]);
    let name = format!("other:ignored@sha256:{}", "5".repeat(64));
    let id = pull(&images, &name).await.unwrap();
    let other = images.status(&reference(&name)).await.unwrap().unwrap();
    assert_eq!((other.id, other.repo_tags.len()), (id, 0));
}

/// An engine whose downloads take time on a clock that the test moves.
fn slow_engine() -> (FakeEngine, Clock) {
    let clock = Clock::manual(SystemTime::now());
    let engine = FakeEngine::builder()
        .clock(clock.clone())
        .registry(RegistryBehaviour::default().speed(1 << 20))
        .build()
        .unwrap();
    (engine, clock)
}

#[tokio::test]
async fn an_image_has_the_digest_of_the_repository_it_is_named_by() {
    let engine = engine();
    let (docker, images) = (docker(&engine), images(&engine));
    let id = pull(&images, "quay.io/team/app:1").await.unwrap();
    let by_digest = async |id: &str, name: &str| {
        let found = images.by_digest(&reference(id), name).await;
        found.unwrap()
    };
    let app = by_digest(&id, "quay.io/team/app:1").await.unwrap();
    assert!(app.starts_with("quay.io/team/app@sha256:"), "{app}");
    let asked = engine.calls().total();
    // Also under a name that it has not got from there, or that is none.
    for name in ["other:2", "quay.io/team/app", "", "!"] {
        assert_eq!(by_digest(&id, name).await.as_deref(), Some(app.as_str()));
    }
    assert_eq!(engine.calls().total(), asked, "it was known");
    let local = import(&docker, "local/app:1", "root").await;
    assert_eq!(by_digest(&local, "local/app:1").await, None);
    assert_eq!(by_digest("gone:1", "gone:1").await, None);
}

#[tokio::test]
async fn equal_pulls_are_one_and_callers_may_leave() {
    let (engine, clock) = slow_engine();
    let images = Arc::new(images(&engine));
    let start = |name: &'static str| {
        let images = Arc::clone(&images);
        tokio::spawn(async move {
            let mut seen = 0;
            let id = images
                .pull(request(name), |progress| seen = progress.total())
                .await;
            (id, seen)
        })
    };
    let pulls: Vec<_> = ["app", "app:latest", "docker.io/library/app", "app"]
        .into_iter()
        .map(start)
        .collect();
    until("the download has begun", || clock.sleepers() == 1).await;
    // The first one drives the pull, if anybody.
    pulls[0].abort();
    let advance = async {
        loop {
            clock.advance(Duration::from_secs(60));
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let ended = async {
        let mut ids = Vec::new();
        for pull in pulls.into_iter().skip(1) {
            let (id, seen) = pull.await.unwrap();
            assert_eq!(seen, 29_124_608 + 8_388_608);
            ids.push(id.unwrap());
        }
        ids
    };
    let ids = tokio::select! {
        ids = tokio::time::timeout(LIMIT, ended) => ids.unwrap(),
        () = advance => unreachable!(),
    };
    let app = images.status(&reference("app")).await.unwrap().unwrap();
    assert!(ids.iter().all(|id| *id == app.id), "{ids:?}");
    assert_eq!(engine.calls().of(Operation::PullImage), 1);
}

#[tokio::test]
async fn the_last_who_leaves_ends_the_pull() {
    let (engine, clock) = slow_engine();
    let images = images(&engine);
    images.list().await.unwrap();
    let before = engine.open_connections();
    {
        let mut one = Box::pin(pull(&images, "app"));
        let mut two = Box::pin(pull(&images, "app"));
        tokio::select! {
            _ = &mut one => unreachable!(),
            _ = &mut two => unreachable!(),
            () = until("the download has begun", || clock.sleepers() == 1) => {}
        }
        drop(one);
        let stays = tokio::time::timeout(Duration::from_millis(50), &mut two).await;
        assert!(stays.is_err(), "{stays:?}");
        assert_eq!(clock.sleepers(), 1);
    }
    until("the engine has stopped", || clock.sleepers() == 0).await;
    until("the connection is closed", || {
        engine.open_connections() <= before
    })
    .await;
    assert_eq!(engine.calls().of(Operation::PullImage), 1);
    assert_eq!(images.status(&reference("app")).await.unwrap(), None);
}

#[tokio::test]
async fn other_credentials_are_another_pull() {
    let registry = RegistryBehaviour::default().rule(
        "registry.example/*",
        RegistryAnswer::Credentials {
            username: "me".into(),
            password: "right".into(),
        },
    );
    let engine = FakeEngine::builder().registry(registry).build().unwrap();
    let images = images(&engine);
    let with = |credentials: Option<Credentials>| {
        let request = PullRequest {
            credentials,
            ..request("registry.example/app")
        };
        images.pull(request, |_| {})
    };
    let right = || Credentials::password("me", "right");
    let (good, wrong, nobody, elsewhere) = tokio::join!(
        with(Some(right().for_server("https://registry.example"))),
        with(Some(Credentials::password("me", "wrong"))),
        with(None),
        with(Some(right().for_server("other.example"))),
    );
    good.unwrap();
    for error in [wrong, nobody, elsewhere] {
        let error = error.unwrap_err();
        assert_eq!(error.failure(), PullFailure::Denied, "{error}");
        assert!(
            !format!("{error} {error:?}").contains("wrong\""),
            "{error:?}"
        );
    }
    // Without credentials, and with such as may not be shown, is the same.
    assert_eq!(engine.calls().of(Operation::PullImage), 3);
    let shown = format!(
        "{:?}",
        PullRequest {
            credentials: Some(right()),
            ..request("a")
        }
    );
    assert!(!shown.contains("right"), "{shown}");
}

#[tokio::test]
async fn a_failed_pull_says_what_kind_of_failure_it_is() {
    let answers = [
        ("denied", RegistryAnswer::Denied, PullFailure::Denied),
        (
            "unauthorized",
            RegistryAnswer::Unauthorized,
            PullFailure::Denied,
        ),
        (
            "unknown",
            RegistryAnswer::ManifestUnknown,
            PullFailure::NotFound,
        ),
        (
            "ill",
            RegistryAnswer::Status(503),
            PullFailure::RegistryUnavailable,
        ),
        (
            "away",
            RegistryAnswer::Unreachable,
            PullFailure::RegistryUnavailable,
        ),
        (
            "cut",
            RegistryAnswer::FailMidway {
                message: "unexpected EOF".into(),
            },
            PullFailure::RegistryUnavailable,
        ),
        ("stalled", RegistryAnswer::StallMidway, PullFailure::Stuck),
    ];
    let mut registry = RegistryBehaviour::default();
    for (name, answer, _) in &answers {
        registry = registry.rule(format!("r.example/{name}:*"), answer.clone());
    }
    let engine = FakeEngine::builder().registry(registry).build().unwrap();
    let images = images(&engine);
    for (name, _, failure) in answers {
        let request = PullRequest {
            stuck_after: Some(Duration::from_millis(200)),
            ..request(&format!("r.example/{name}"))
        };
        let error = images.pull(request, |_| {}).await.unwrap_err();
        assert_eq!(error.failure(), failure, "{error}");
    }
    engine.shut_down();
    let error = pull(&images, "app").await.unwrap_err();
    assert_eq!(error.failure(), PullFailure::Other, "{error}");
}

#[tokio::test]
async fn a_removal_takes_all_names_and_several_may_remove_at_once() {
    let engine = engine();
    let (docker, images) = (docker(&engine), images(&engine));
    for name in ["busybox:2", "quay.io/a/busybox:3", "localhost:5000/b:4"] {
        docker.tag_image("busybox:1.36", name).await.unwrap();
    }
    let names = [
        "busybox:2",
        "quay.io/a/busybox:3",
        "busybox:1.36",
        "busybox:2",
    ]
    .map(reference);
    let [a, b, c, d] = &names;
    let removed = tokio::join!(
        images.remove(a),
        images.remove(b),
        images.remove(c),
        images.remove(d)
    );
    for result in [removed.0, removed.1, removed.2, removed.3] {
        result.unwrap();
    }
    for name in names {
        assert_eq!(images.status(&name).await.unwrap(), None);
        images.remove(&name).await.unwrap();
    }
    assert_eq!(images.list().await.unwrap().len(), 1);
}

#[tokio::test]
async fn another_remover_on_the_engine_is_no_failure() {
    let engine = engine();
    let images = images(&engine);
    // What an engine says when two removals meet, the first time; the image is there still, so it is tried again.
    let clash = FaultKind::Error {
        status: 500,
        message: "unrecognized image ID".into(),
    };
    engine.add_fault(Fault::on(Operation::RemoveImage, clash).when(When::Nth(1)));
    images.remove(&reference("busybox:1.36")).await.unwrap();
    // And once more, when the other one was faster.
    engine.clear_faults();
    engine.add_image("busybox:1.36").unwrap();
    let late = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 2\r\n\r\n{}".to_vec();
    engine.add_fault(Fault::on(Operation::RemoveImage, FaultKind::Garbage(late)));
    let before = engine.calls().of(Operation::RemoveImage);
    images.remove(&reference("busybox:1.36")).await.unwrap();
    assert_eq!(engine.calls().of(Operation::RemoveImage), before + 1);
}

#[tokio::test]
async fn an_image_is_kept_by_a_running_container_alone() {
    let engine = engine();
    let images = images(&engine);
    engine
        .create_running_container("web", "busybox:1.36")
        .unwrap();
    let error = images.remove(&reference("busybox:1.36")).await.unwrap_err();
    assert!(
        error.is_conflict() && error.message().contains("running container"),
        "{error}"
    );
    assert!(
        images
            .status(&reference("busybox:1.36"))
            .await
            .unwrap()
            .is_some()
    );
    engine.create_exited_container("done", PAUSE).unwrap();
    // Pinned or not: whoever names an image means it.
    images.remove(&reference(PAUSE)).await.unwrap();
    assert_eq!(images.status(&reference(PAUSE)).await.unwrap(), None);
}

#[tokio::test]
async fn what_images_take_is_measured_once_for_a_while() {
    for (version, calls) in [("1.41", 2), ("1.47", 0), ("1.52", 0)] {
        let engine = FakeEngine::builder()
            .api_version(version)
            .image("busybox")
            .image("app:1")
            .build()
            .unwrap();
        let images = images(&engine);
        let (one, two) = tokio::join!(images.usage(), images.usage());
        assert_eq!(one.unwrap(), two.unwrap());
        assert_eq!(
            images.usage().await.unwrap().bytes,
            4_269_694 + 29_124_608 + 8_388_608,
            "{version}"
        );
        assert_eq!(engine.calls().of(Operation::ImageHistory), calls);
        assert!(engine.calls().of(Operation::SystemDf) <= 1);
    }
}
