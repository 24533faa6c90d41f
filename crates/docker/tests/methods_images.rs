//! What the calls for images and files send, and what they make of the answers: progress, failures in streams, stuck pulls.

mod scripted;

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use berth_docker::api::*;
use berth_docker::auth::Credentials;
use berth_docker::model::*;
use berth_docker::pull::{LayerPhase, PullImage};
use berth_docker::{Body, Docker, Error, ErrorKind};
use bytes::Bytes;
use scripted::{Answer, Scripted, asked, chunks, ok, open_chunks, reply, sent};

/// A password whose JSON has the two values of base64 that differ between its alphabets.
fn credentials() -> Credentials {
    Credentials::password("me", "~~~???>>>\u{ff}").for_server("reg.example")
}

fn body(pieces: &'static [&'static str]) -> Body {
    Body::Stream(Box::pin(futures_util::stream::iter(
        pieces
            .iter()
            .map(|piece| Ok(Bytes::from_static(piece.as_bytes()))),
    )))
}

#[tokio::test]
async fn image_calls_are_as_asked() {
    let options = ListImages {
        all: true,
        shared_size: true,
        filters: Filters::new().reference("a*"),
    };
    assert_eq!(
        asked(ok("null"), async |docker| docker
            .list_images(&options)
            .await)
        .await,
        "GET /v1.44/images/json?all=1&shared-size=1&filters=%7B%22reference%22%3A%5B%22a%2A%22%5D%7D"
    );
    assert_eq!(
        asked(ok("[]"), async |docker| docker
            .list_images(&ListImages::default())
            .await)
        .await,
        "GET /v1.44/images/json"
    );
    assert_eq!(
        asked(ok("{}"), async |docker| docker
            .inspect_image("reg:5000/a/b@sha256:00")
            .await)
        .await,
        "GET /v1.44/images/reg:5000/a/b@sha256:00/json"
    );
    assert_eq!(
        asked(ok("[]"), async |docker| docker.image_history("a").await).await,
        "GET /v1.44/images/a/history"
    );
    assert_eq!(
        asked(ok("[]"), async |docker| docker
            .remove_image("a", RemoveImage::default())
            .await)
        .await,
        "DELETE /v1.44/images/a?noprune=1"
    );
    let options = RemoveImage {
        force: true,
        prune_children: true,
    };
    let (request, removed) = sent(
        ok(r#"[{"Untagged":"a:1"},{"Deleted":"sha256:00"}]"#),
        async |docker| docker.remove_image("a", options).await,
    )
    .await;
    assert_eq!(request.line, "DELETE /v1.44/images/a?force=1");
    let removed = removed.expect("removed");
    assert_eq!(
        (removed[0].untagged.as_str(), removed[1].deleted.as_str()),
        ("a:1", "sha256:00")
    );
    let created = || reply("201 Created", "", "");
    assert_eq!(
        asked(created(), async |docker| docker
            .tag_image("sha256:00", "reg:5000/a:b")
            .await)
        .await,
        "POST /v1.44/images/sha256:00/tag?repo=reg%3A5000%2Fa&tag=b"
    );
    assert_eq!(
        asked(created(), async |docker| docker.tag_image("a", "b").await).await,
        "POST /v1.44/images/a/tag?repo=b&tag=latest"
    );
    assert_eq!(
        asked(ok("{}"), async |docker| docker
            .prune_images(&Filters::new().dangling(false))
            .await)
        .await,
        "POST /v1.44/images/prune?filters=%7B%22dangling%22%3A%5B%22false%22%5D%7D"
    );
    let (request, inspect) = sent(
        ok(r#"{"Descriptor":{"digest":"sha256:00"}}"#),
        async |docker| {
            docker
                .inspect_distribution("reg/a:b", Some(&credentials()))
                .await
        },
    )
    .await;
    assert_eq!(request.line, "GET /v1.44/distribution/reg/a:b/json");
    assert!(request.field("x-registry-auth").is_some());
    assert_eq!(
        inspect.expect("a description").descriptor.digest,
        "sha256:00"
    );
}

#[tokio::test]
async fn credentials_travel_in_url_safe_base64() {
    let done = || chunks("", &[b"{\"status\":\"done\"}\r\n"]);
    let (request, pull) = sent(done(), async |docker| {
        let options = PullImage {
            credentials: Some(&credentials()),
            ..Default::default()
        };
        docker
            .pull_image("a", options)
            .await
            .expect("begun")
            .wait()
            .await
    })
    .await;
    pull.expect("pulled");
    let header = request.field("x-registry-auth").expect("credentials");
    assert!(
        header.contains(['-', '_']) && !header.contains(['+', '/']),
        "{header}"
    );
    let json: serde_json::Value = serde_json::from_slice(
        &URL_SAFE
            .decode(header)
            .expect("URL-safe base64 with padding"),
    )
    .expect("JSON");
    assert_eq!(json["password"], "~~~???>>>\u{ff}");
    let (request, _) = sent(done(), async |docker| {
        docker
            .push_image("a", None)
            .await
            .expect("begun")
            .wait()
            .await
    })
    .await;
    assert!(
        request.field("x-registry-auth").is_some(),
        "a push needs the header, be it for nobody"
    );
}

#[tokio::test]
async fn a_pull_names_repository_and_tag_and_adds_up_its_layers() {
    let answer = chunks(
        "",
        &[
            b"{\"status\":\"Pulling from library/nginx\",\"id\":\"1.27\"}\r\n{\"status\":\"Pulling fs layer\",\"id\":\"aa\"}\r\n",
            b"{\"status\":\"Downloading\",\"progressDetail\":{\"current\":5,\"total\":10},\"id\":\"a",
            b"a\"}\r\n{\"status\":\"Pull complete\",\"id\":\"aa\"}\r\n{\"status\":\"Digest: sha256:12\"}\r\n",
        ],
    );
    let (request, progress) = sent(answer, async |docker| {
        let options = PullImage {
            platform: Some("linux/arm64"),
            ..Default::default()
        };
        docker
            .pull_image("reg:5000/nginx:1.27", options)
            .await
            .expect("begun")
            .wait()
            .await
    })
    .await;
    assert_eq!(
        request.line,
        "POST /v1.44/images/create?fromImage=reg%3A5000%2Fnginx&tag=1.27&platform=linux%2Farm64"
    );
    assert_eq!(request.field("x-registry-auth"), None);
    let progress = progress.expect("pulled");
    assert_eq!(
        (progress.downloaded(), progress.total(), progress.complete()),
        (10, 10, 1)
    );
    assert_eq!(progress.layers[0].phase, LayerPhase::Complete);
    assert_eq!(progress.digest.as_deref(), Some("sha256:12"));
}

/// Calls that end in a stream, each to be given the same answer.
async fn streamed(answer: &Answer) -> Vec<(&'static str, Result<(), Error>)> {
    let call = async |answer: &Answer, call: &str| -> Result<(), Error> {
        let engine = Scripted::new("1.44", [answer.clone()]);
        let docker: &Docker = &engine.docker;
        match call {
            "pull" => docker
                .pull_image("a", PullImage::default())
                .await?
                .wait()
                .await
                .map(drop),
            "push" => docker.push_image("a", None).await?.wait().await,
            "load" => docker.load_images(body(&["tar"])).await.map(drop),
            _ => docker
                .import_image(body(&["tar"]), &ImportImage::default())
                .await
                .map(drop),
        }
    };
    let mut results = Vec::new();
    for name in ["pull", "push", "load", "import"] {
        results.push((name, call(answer, name).await));
    }
    results
}

#[tokio::test]
async fn a_failure_inside_the_stream_is_an_error_of_the_call() {
    let many = "{\"status\":\"Downloading\",\"progressDetail\":{\"current\":1},\"id\":\"aa\"}\r\n"
        .repeat(5000);
    let detail =
        "{\"errorDetail\":{\"code\":5,\"message\":\"no space left\"},\"error\":\"no space left\"}";
    let old = "{\"error\":\"no space left\"}";
    for (how, text) in [
        ("both forms", format!("{detail}\r\n")),
        ("only error", format!("{old}\r\n")),
        (
            "without a newline",
            format!("{{\"status\":\"a\"}}\r\n{old}"),
        ),
        ("after many", format!("{many}{detail}\r\n")),
        (
            "not last",
            format!("{detail}\r\n{{\"status\":\"sha256:00\"}}\r\n"),
        ),
    ] {
        let pieces: Vec<&[u8]> = text.as_bytes().chunks(1000).collect();
        for (call, result) in streamed(&chunks("", &pieces)).await {
            let error = result.expect_err(how);
            assert_eq!(
                (error.status(), error.message()),
                (Some(200), "no space left"),
                "{call}, {how}"
            );
            assert!(
                error.is_refused() && !error.effect_is_unknown(),
                "{call}, {how}"
            );
        }
    }
}

#[tokio::test]
async fn a_stream_that_is_cut_or_is_not_json_is_an_error() {
    for answer in [
        Answer::SayAndClose(open_chunks("", &[b"{\"status\":\"a\"}\r\n"])),
        Answer::SayAndClose(open_chunks("", &[b"{\"status\":"])),
        chunks("", &[b"{\"status\":"]),
        chunks("", &[b"{\"status\":[]}\r\n"]),
        chunks("", &[b"<html>\r\n"]),
    ] {
        for (call, result) in streamed(&answer).await {
            let error = result.expect_err("cut");
            assert!(error.effect_is_unknown(), "{call}: {error}");
        }
    }
}

#[tokio::test]
async fn a_refused_pull_is_refused_at_once() {
    let answer = reply("404 Not Found", "", r#"{"message":"manifest unknown"}"#);
    let (_, result) = sent(answer, async |docker| {
        docker.pull_image("a", PullImage::default()).await.map(drop)
    })
    .await;
    let error = result.expect_err("missing");
    assert!(
        error.is_not_found()
            && error
                .to_string()
                .starts_with("pull image a: manifest unknown"),
        "{error}"
    );
}

async fn stuck(answer: Answer, stuck_after: u64) -> (u64, Error) {
    let engine = Scripted::new("1.44", [answer]);
    // The version is asked for before the clock of the pull starts.
    engine.docker.api_version().await.expect("a version");
    let began = tokio::time::Instant::now();
    let options = PullImage {
        stuck_after: Some(Duration::from_secs(stuck_after)),
        ..Default::default()
    };
    let result = match engine.docker.pull_image("a", options).await {
        Ok(pull) => pull.wait().await.map(drop),
        Err(error) => Err(error),
    };
    (began.elapsed().as_secs(), result.expect_err("stuck"))
}

#[tokio::test(start_paused = true)]
async fn a_pull_without_progress_is_stuck_and_says_where() {
    let downloading: &[u8] = b"{\"status\":\"Downloading\",\"progressDetail\":{\"current\":5,\"total\":10},\"id\":\"aa\"}\r\n";
    for (at, head, expected, words) in [
        ("before the head", Vec::new(), 20, ""),
        ("behind the head", open_chunks("", &[]), 20, "its very beginning"),
        ("while downloading", open_chunks("", &[downloading]), 20, "0 of 1 layers, 5 of 10 bytes downloaded; layer aa is being downloaded"),
        (
            "while unpacking",
            open_chunks("", &[downloading, b"{\"status\":\"Extracting\",\"progressDetail\":{\"current\":1,\"units\":\"s\"},\"id\":\"aa\"}\r\n"]),
            1200,
            "layer aa is being unpacked",
        ),
        ("when all is downloaded", open_chunks("", &[b"{\"status\":\"Download complete\",\"id\":\"aa\"}\r\n"]), 1200, "has been downloaded"),
    ] {
        let (after, error) = stuck(Answer::SayAndHang(head), 20).await;
        assert!(error.is_timeout(), "{at}: {error}");
        assert_eq!(after, expected, "{at}");
        let ErrorKind::TimedOut { last, .. } = error.kind() else { unreachable!("it is a time-out") };
        assert!(last.as_deref().unwrap_or_default().contains(words), "{at}: {last:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_prune_may_take_as_long_as_other_work() {
    for what in ["containers", "images", "networks", "volumes", "build"] {
        let engine = Scripted::new("1.44", [Answer::SayAndHang(Vec::new())]);
        let docker = &engine.docker;
        docker.api_version().await.expect("a version");
        let began = tokio::time::Instant::now();
        let all = Filters::new();
        let pruned = match what {
            "containers" => docker.prune_containers(&all).await.map(drop),
            "images" => docker.prune_images(&all).await.map(drop),
            "networks" => docker.prune_networks(&all).await.map(drop),
            "volumes" => docker.prune_volumes(&all).await.map(drop),
            _ => docker
                .prune_build_cache(&Default::default())
                .await
                .map(drop),
        };
        assert!(pruned.expect_err(what).is_timeout(), "{what}");
        assert_eq!(began.elapsed().as_secs(), 600, "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_pull_without_a_limit_is_never_stuck() {
    // A limit beyond the end of time is none.
    for (head, stuck_after) in [
        (Vec::new(), None),
        (open_chunks("", &[]), None),
        (Vec::new(), Some(Duration::MAX)),
        (open_chunks("", &[]), Some(Duration::MAX)),
    ] {
        let engine = Scripted::new("1.44", [Answer::SayAndHang(head)]);
        let options = PullImage {
            stuck_after,
            ..Default::default()
        };
        let pull = async { engine.docker.pull_image("a", options).await?.wait().await };
        let day = Duration::from_secs(24 * 60 * 60);
        let ended = tokio::time::timeout(day, pull).await;
        assert!(ended.is_err(), "{ended:?}");
    }
}

/// Answers the pull, then writes one message a second.
async fn slow(docker_messages: Vec<String>) -> Result<(), Error> {
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    let ours = std::sync::Mutex::new(Some(ours));
    let options =
        berth_docker::ConnectOptions::new("unix:///slow.sock".parse().expect("an endpoint"))
            .with_api_version(berth_docker::ApiVersion::new(1, 44))
            .expect("a version");
    let docker = Docker::builder(options)
        .dialer(move || {
            Ok(ours
                .lock()
                .expect("not poisoned")
                .take()
                .expect("one connection"))
        })
        .build()
        .expect("a client");
    let engine = tokio::spawn(async move {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let mut theirs = theirs;
        let mut head = [0; 4096];
        let _ = theirs.read(&mut head).await;
        let _ = theirs.write_all(&open_chunks("", &[])).await;
        for message in docker_messages {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let chunk = format!("{:x}\r\n{message}\r\n", message.len());
            if theirs.write_all(chunk.as_bytes()).await.is_err() {
                return;
            }
        }
        let _ = theirs.write_all(b"0\r\n\r\n").await;
    });
    let options = PullImage {
        stuck_after: Some(Duration::from_secs(5)),
        ..Default::default()
    };
    let result = docker
        .pull_image("a", options)
        .await
        .expect("begun")
        .wait()
        .await
        .map(drop);
    engine.abort();
    result
}

#[tokio::test(start_paused = true)]
async fn a_slow_pull_that_moves_is_not_stuck_and_a_chatty_one_that_does_not_is() {
    let downloading = |current: u32| {
        format!(
            "{{\"status\":\"Downloading\",\"progressDetail\":{{\"current\":{current},\"total\":900}},\"id\":\"aa\"}}\r\n"
        )
    };
    slow((0..600).map(downloading).collect())
        .await
        .expect("it moves");
    let error = slow((0..600).map(|_| downloading(7)).collect())
        .await
        .expect_err("it only talks");
    assert!(error.is_timeout(), "{error}");
    // Seconds of unpacking are no progress, but unpacking may take ten times as long.
    let unpacking = |second: u32| {
        format!(
            "{{\"status\":\"Extracting\",\"progressDetail\":{{\"current\":{second},\"units\":\"s\"}},\"id\":\"aa\"}}\r\n"
        )
    };
    slow((1..45).map(unpacking).collect())
        .await
        .expect("unpacking takes its time");
    let error = slow((1..600).map(unpacking).collect())
        .await
        .expect_err("not for ever");
    assert!(error.is_timeout(), "{error}");
}

#[tokio::test]
async fn load_save_and_import_move_archives() {
    let answer = chunks(
        "",
        &[b"{\"stream\":\"Loaded image: a:1\\nLoaded image ID: sha256:00\\n\"}\r\n"],
    );
    let (request, loaded) = sent(answer, async |docker| {
        docker.load_images(body(&["ta", "r"])).await
    })
    .await;
    assert_eq!(request.line, "POST /v1.44/images/load?quiet=1");
    assert_eq!(
        (request.field("content-type"), request.body.as_slice()),
        (Some("application/x-tar"), &b"tar"[..])
    );
    assert_eq!(loaded.expect("loaded").images, ["a:1", "sha256:00"]);

    let (request, archive) = sent(ok("tar"), async |docker| {
        docker.save_images(&["a:1", "reg/b"]).await
    })
    .await;
    assert_eq!(
        request.line,
        "GET /v1.44/images/get?names=a%3A1&names=reg%2Fb"
    );
    let mut archive = archive.expect("an archive");
    assert_eq!(
        &archive.next().await.expect("bytes").expect("fine")[..],
        b"tar"
    );
    let engine = Scripted::new("1.44", []);
    assert!(engine.docker.save_images(&[]).await.is_err() && engine.requests().is_empty());

    let options = ImportImage {
        reference: "a:1".to_owned(),
        message: "m".to_owned(),
        changes: vec!["CMD [\"a\"]".to_owned(), "USER 1".to_owned()],
        platform: Some("linux".to_owned()),
    };
    let answer = chunks("", &[b"{\"status\":\"sha256:00\"}\r\n"]);
    let (request, id) = sent(answer, async |docker| {
        docker.import_image(body(&["tar"]), &options).await
    })
    .await;
    assert_eq!(
        request.line,
        "POST /v1.44/images/create?fromSrc=-&repo=a&tag=1&message=m&changes=CMD%20%5B%22a%22%5D&changes=USER%201&platform=linux"
    );
    assert_eq!(
        (id.expect("an id").as_str(), request.body.as_slice()),
        ("sha256:00", &b"tar"[..])
    );
}

#[tokio::test]
async fn a_push_shows_its_progress() {
    let answer = chunks(
        "",
        &[b"{\"status\":\"Pushing\",\"id\":\"aa\"}\r\n{\"aux\":{\"Digest\":\"sha256:00\"}}\r\n"],
    );
    let (request, push) = sent(answer, async |docker| {
        docker
            .push_image("reg:5000/a:1", Some(&credentials()))
            .await
    })
    .await;
    assert_eq!(request.line, "POST /v1.44/images/reg:5000/a/push?tag=1");
    let mut push = push.expect("begun");
    assert_eq!(
        push.next().await.expect("a message").expect("fine").status,
        "Pushing"
    );
    let aux = push
        .next()
        .await
        .expect("a message")
        .expect("fine")
        .aux
        .expect("the digest");
    assert_eq!(aux.digest, "sha256:00");
    assert!(push.next().await.is_none());
    let engine = Scripted::new("1.44", []);
    assert!(
        engine.docker.push_image("a@sha256:00", None).await.is_err()
            && engine.requests().is_empty()
    );
}

#[tokio::test]
async fn files_travel_as_archives_with_their_description() {
    let stat = STANDARD.encode(r#"{"name":"etc","size":4096,"mode":2147484141,"mtime":"2026-11-23T00:00:00Z","linkTarget":""}"#);
    let fields = format!("X-Docker-Container-Path-Stat: {stat}\r\n");
    let head = Answer::Say(format!("HTTP/1.1 200 OK\r\n{fields}\r\n").into());
    let (request, path) = sent(head, async |docker| {
        docker.stat_archive("web", "/etc").await
    })
    .await;
    assert_eq!(
        request.line,
        "HEAD /v1.44/containers/web/archive?path=%2Fetc"
    );
    let path = path.expect("a description");
    assert!(path.is_dir() && path.name == "etc" && path.permissions() == 0o755);

    let (request, archive) = sent(chunks(&fields, &[b"tar"]), async |docker| {
        docker.get_archive("web", "/etc").await
    })
    .await;
    assert_eq!(
        request.line,
        "GET /v1.44/containers/web/archive?path=%2Fetc"
    );
    let mut archive = archive.expect("an archive");
    assert_eq!(
        (archive.stat.name.as_str(), archive.stat.size),
        ("etc", 4096)
    );
    assert_eq!(
        &archive.tar.next().await.expect("bytes").expect("fine")[..],
        b"tar"
    );

    let options = PutArchive {
        no_overwrite_dir_non_dir: true,
        copy_uid_gid: true,
    };
    let (request, put) = sent(ok(""), async |docker| {
        docker
            .put_archive("web", "/tmp", body(&["t", "ar"]), options)
            .await
    })
    .await;
    assert_eq!(
        request.line,
        "PUT /v1.44/containers/web/archive?path=%2Ftmp&noOverwriteDirNonDir=1&copyUIDGID=1"
    );
    assert_eq!(request.body, b"tar");
    put.expect("unpacked");

    for fields in [
        "",
        "X-Docker-Container-Path-Stat: %%%\r\n",
        "X-Docker-Container-Path-Stat: bnVsbA\r\n",
    ] {
        let head = Answer::Say(format!("HTTP/1.1 200 OK\r\n{fields}\r\n").into());
        let (_, path) = sent(head, async |docker| {
            docker.stat_archive("web", "/etc").await
        })
        .await;
        assert!(matches!(
            path.expect_err("no description").kind(),
            ErrorKind::Malformed { .. }
        ));
    }
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_does_not_move_for_a_minute_times_out() {
    let engine = Scripted::new("1.44", [Answer::SayAndHang(Vec::new())]);
    engine.docker.api_version().await.expect("a version");
    let began = tokio::time::Instant::now();
    let result = engine
        .docker
        .put_archive("web", "/tmp", body(&["tar"]), PutArchive::default())
        .await;
    assert!(result.expect_err("silence").is_timeout());
    assert_eq!(began.elapsed().as_secs(), 60);
}
