//! What a program that uses the client may expect of an outage.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use berth_docker::api::{Attached, ListContainers, LogsOptions, RemoveImage, WaitCondition};
use berth_docker::events::{EventItem, EventStream, EventsOptions, GapReason};
use berth_docker::model::{Event, ExecConfig, Filters};
use berth_docker::pull::PullImage;
use berth_docker::{Docker, Error, ErrorKind, FrameStream, LineStream};

use crate::engine::{
    Engine, IMAGE, LIMIT, OUTAGES, Outage, PAUSE, SHORT, client, shell, soon, until,
};
use crate::registry::Relay;

/// Counts, a line for each number, until it is asked to end.
const COUNT: &str = "trap 'exit 0' TERM; i=0; while true; do echo $i; i=$((i+1)); sleep 0.05; done";

/// Runs until it is asked to end, and then returns 7.
const SERVE: &str = "trap 'exit 7' TERM; while true; do sleep 0.05; done";

/// Whether the error says that the engine went away, in one of the ways in which it can.
fn is_outage(error: &Error) -> bool {
    // Cut between two chunks, a body is malformed; asked to end, an engine may still say that it breaks off what it does.
    matches!(
        error.kind(),
        ErrorKind::NoAnswer { .. } | ErrorKind::Malformed { .. } | ErrorKind::Connect { .. }
    ) || matches!(error.kind(), ErrorKind::Refused { status: 200 | 500.., message } if !message.is_empty())
}

/// Reads numbers up to the one that is asked for at least; they have to follow each other.
async fn count(lines: &mut LineStream, next: &mut u64, at_least: u64) {
    while *next <= at_least {
        let line = soon("a line", lines.next())
            .await
            .expect("the output goes on")
            .expect("it is not cut");
        assert_eq!(
            String::from_utf8_lossy(&line.bytes),
            next.to_string(),
            "a line is missing or there twice"
        );
        *next += 1;
    }
}

/// Reads to the end of an output, however it ends; gives the error.
async fn end_of(mut output: FrameStream) -> Option<Error> {
    soon("the end of the output", async {
        loop {
            match output.next().await? {
                Ok(_) => {}
                Err(error) => return Some(error),
            }
        }
    })
    .await
}

pub(crate) async fn a_log_follow_ends_with_the_engine_and_outlasts_a_pause(engine: &mut Engine) {
    let docker = engine.client();
    let id = engine.serve(&docker, "count", COUNT).await;
    let follow = LogsOptions {
        follow: true,
        ..LogsOptions::default()
    };
    let mut lines = docker.logs(&id, &follow).await.unwrap().lines(1024);
    let mut next = 0;
    count(&mut lines, &mut next, 3).await;
    engine.pause(async {}).await;
    // More than it could have buffered before.
    let beyond = next + 20 * PAUSE.as_secs();
    count(&mut lines, &mut next, beyond).await;
    drop(lines);
    for outage in OUTAGES {
        let mut output = docker.logs(&id, &follow).await.unwrap();
        soon("output", output.next()).await.unwrap().unwrap();
        let (error, ()) = tokio::join!(end_of(output), engine.end(outage));
        match outage {
            Outage::Kill => assert!(
                is_outage(
                    error
                        .as_ref()
                        .expect("a killed engine is not the end of the log")
                ),
                "{error:?}"
            ),
            // It may have ended the container, and so the log, before itself.
            Outage::Restart => assert!(error.as_ref().is_none_or(is_outage), "{error:?}"),
        }
        engine.start().await;
        docker.start_container(&id).await.unwrap();
        let since = LogsOptions {
            tail: Some(0),
            ..follow.clone()
        };
        let mut output = docker.logs(&id, &since).await.unwrap();
        soon("output of the new run", output.next())
            .await
            .unwrap()
            .unwrap();
    }
}

/// An event stream, which must show nothing twice.
struct Events {
    stream: EventStream,
    seen: HashSet<String>,
}

impl Events {
    async fn next(&mut self) -> EventItem {
        let item = soon("an event", self.stream.next())
            .await
            .expect("it goes on")
            .expect("it is not refused");
        if let EventItem::Event(event) = &item {
            assert!(
                self.seen.insert(format!("{event:?}")),
                "shown twice: {event:?}"
            );
        }
        item
    }

    /// Creates a container, waits for the event of that, and gives what came before.
    async fn until_created(&mut self, docker: &Docker, name: &str) -> Vec<EventItem> {
        docker.create_container(&shell(name, "true")).await.unwrap();
        let is_it = |event: &Event| {
            event.action == "create" && event.actor.attributes.get("name") == Some(name)
        };
        let mut before = Vec::new();
        loop {
            match self.next().await {
                EventItem::Event(event) if is_it(&event) => return before,
                item => before.push(item),
            }
        }
    }
}

pub(crate) async fn events_reconnect_and_own_up_to_the_gap(engine: &mut Engine) {
    let docker = engine.client();
    // The engine's clock is ours.
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    let options = EventsOptions {
        filters: Filters::new().kind("container"),
        since_nanos: Some(i64::try_from(now.as_nanos()).unwrap()),
    };
    let mut events = Events {
        stream: docker.events(options),
        seen: HashSet::new(),
    };
    let before = events.until_created(&docker, "first").await;
    assert!(before.is_empty(), "{before:?}");

    engine.pause(async {}).await;
    let before = events.until_created(&docker, "after-pause").await;
    assert!(
        before.is_empty(),
        "nothing was lost, and the connection held: {before:?}"
    );

    // The second follows the first at once.
    for (number, outage) in [Outage::Kill, Outage::Restart, Outage::Kill]
        .into_iter()
        .enumerate()
    {
        engine.end(outage).await;
        loop {
            match events.next().await {
                EventItem::Disconnected(error) => {
                    assert!(is_outage(&error), "{error:?}");
                    break;
                }
                EventItem::Event(_) => {}
                other => panic!("{other:?} before the outage was told"),
            }
        }
        engine.start().await;
        let before = events
            .until_created(&docker, &format!("after-{number}"))
            .await;
        // It has forgotten what it told before, so nothing can prove that nothing was missed.
        let gaps = before
            .iter()
            .filter(|item| matches!(item, EventItem::Gap(GapReason::Reconnected)))
            .count();
        assert_eq!(gaps, 1, "after {outage:?}: {before:?}");
        assert!(
            matches!(before[0], EventItem::Gap(_)),
            "an event came before the gap after {outage:?}: {before:?}"
        );
        let another = before
            .iter()
            .any(|item| matches!(item, EventItem::Disconnected(_)));
        assert!(!another, "one outage was told twice: {before:?}");
    }
}

pub(crate) async fn a_pull_fails_with_the_engine_and_can_be_asked_again(engine: &mut Engine) {
    let Ok(registry) = std::env::var("BERTH_TEST_REGISTRY") else {
        assert!(
            std::env::var_os("CI").is_none(),
            "BERTH_TEST_REGISTRY is not set; dev/test sets it"
        );
        eprintln!("skipped: BERTH_TEST_REGISTRY names no registry");
        return;
    };
    let repository = format!("outage/demo-{}", std::process::id());
    let pushed = format!("{registry}/{repository}:1");
    let main = client(&std::env::var("BERTH_TEST_ENGINE").unwrap(), LIMIT);
    main.tag_image(IMAGE, &pushed).await.unwrap();
    let push = match main.push_image(&pushed, None).await {
        Ok(progress) => progress.wait().await,
        Err(error) => Err(error),
    };
    main.remove_image(&pushed, RemoveImage::default())
        .await
        .unwrap();
    push.unwrap();

    let docker = engine.client();
    let relay = Relay::to(registry);
    let reference = format!("{}/{repository}:1", relay.address);
    // With its layers there would be nothing to pull.
    docker
        .remove_image(IMAGE, RemoveImage::default())
        .await
        .unwrap();
    let options = PullImage {
        stuck_after: Some(LIMIT),
        ..PullImage::default()
    };
    let begin = async || {
        relay.set_open(false);
        let docker = docker.clone();
        let pulled = reference.clone();
        let pull = tokio::spawn(async move {
            let running = docker.pull_image(&pulled, options).await?;
            running.wait().await
        });
        until("the pull has come to the layer", async || {
            relay.holds().then_some(())
        })
        .await;
        (pull,)
    };
    for outage in OUTAGES {
        let (pull,) = begin().await;
        engine.end(outage).await;
        let error = soon("the end of the pull", pull)
            .await
            .unwrap()
            .expect_err("it was not complete");
        assert!(is_outage(&error), "{error:?}");
        assert!(error.to_string().contains(&reference), "{error}");
        engine.start().await;
        let lost = docker
            .inspect_image(&reference)
            .await
            .expect_err("half an image is none");
        assert!(lost.is_not_found(), "{lost:?}");
        relay.set_open(true);
        soon(
            "a whole pull",
            docker.pull_image(&reference, options).await.unwrap().wait(),
        )
        .await
        .unwrap();
        docker.inspect_image(&reference).await.unwrap();
        docker
            .remove_image(&reference, RemoveImage::default())
            .await
            .unwrap();
    }
    let (pull,) = begin().await;
    engine.pause(async { relay.set_open(true) }).await;
    soon("the end of the pull", pull)
        .await
        .unwrap()
        .expect("a pull outlasts a pause");
    docker.inspect_image(&reference).await.unwrap();
}

async fn exec(docker: &Docker, container: &str, script: &str) -> (String, FrameStream) {
    let config = ExecConfig {
        attach_stdout: true,
        attach_stderr: true,
        cmd: ["sh", "-c", script].map(str::to_owned).into(),
        ..ExecConfig::default()
    };
    let id = docker.create_exec(container, &config).await.unwrap();
    let Attached { output, .. } = docker.start_exec(&id, false).await.unwrap();
    (id, output)
}

pub(crate) async fn an_exec_ends_with_the_engine_and_outlasts_a_pause(engine: &mut Engine) {
    let docker = engine.client();
    let container = engine.serve(&docker, "serve", SERVE).await;
    let (_, output) = exec(&docker, &container, COUNT).await;
    let (mut lines, mut next) = (output.lines(1024), 0);
    count(&mut lines, &mut next, 3).await;
    engine.pause(async {}).await;
    let beyond = next + 20 * PAUSE.as_secs();
    count(&mut lines, &mut next, beyond).await;
    drop(lines);
    for outage in OUTAGES {
        let (id, mut output) = exec(&docker, &container, COUNT).await;
        soon("output", output.next()).await.unwrap().unwrap();
        let (error, ()) = tokio::join!(end_of(output), engine.end(outage));
        // On a raw connection the end of the engine looks like that of the command; only inspect tells them apart.
        assert!(error.as_ref().is_none_or(is_outage), "{error:?}");
        let error = docker
            .inspect_exec(&id)
            .await
            .expect_err("the engine is away");
        assert!(error.is_connect(), "{error:?}");
        engine.start().await;
        let error = docker
            .inspect_exec(&id)
            .await
            .expect_err("it knows nothing of commands from before");
        assert!(error.is_not_found(), "{error:?}");
        docker.start_container(&container).await.unwrap();
        let (id, mut output) = exec(&docker, &container, "echo again; exit 3").await;
        assert_eq!(
            &soon("output", output.next()).await.unwrap().unwrap().bytes[..],
            b"again\n"
        );
        assert!(end_of(output).await.is_none());
        let code = until("the exit code", async || {
            docker.inspect_exec(&id).await.unwrap().exit_code
        })
        .await;
        assert_eq!(code, 3);
    }
}

pub(crate) async fn a_wait_ends_with_the_engine_and_outlasts_a_pause(engine: &mut Engine) {
    let docker = engine.client();
    let container = engine.serve(&docker, "serve", SERVE).await;
    let begin = || {
        let (docker, container) = (docker.clone(), container.clone());
        tokio::spawn(async move {
            docker
                .wait_container(&container, WaitCondition::NotRunning)
                .await
        })
    };
    for outage in OUTAGES {
        let wait = begin();
        // That it has begun shows by the stream it holds open.
        until("the wait has begun", async || {
            (docker.metrics().streams_open() > 0).then_some(())
        })
        .await;
        engine.end(outage).await;
        match (outage, soon("the end of the wait", wait).await.unwrap()) {
            // It was ended by the engine before that ended itself.
            (Outage::Restart, Ok(result)) => assert_eq!(result.status_code, 7),
            (_, result) => assert!(
                is_outage(result.as_ref().expect_err("the container had not ended")),
                "{result:?}"
            ),
        }
        engine.start().await;
        let result = soon("the code of the end", begin()).await.unwrap().unwrap();
        assert!(
            outage_code(outage, result.status_code),
            "{outage:?}: {result:?}"
        );
        docker.start_container(&container).await.unwrap();
    }
    let wait = begin();
    until("the wait has begun", async || {
        (docker.metrics().streams_open() > 0).then_some(())
    })
    .await;
    engine.pause(async {}).await;
    assert!(!wait.is_finished(), "a pause is not an end");
    docker
        .kill_container(&container, Some("TERM"))
        .await
        .unwrap();
    assert_eq!(soon("the end", wait).await.unwrap().unwrap().status_code, 7);
}

/// Asked to end, the engine lets the container end by itself; after a kill it ends it when it is back, by whatever signal.
fn outage_code(outage: Outage, code: i64) -> bool {
    match outage {
        Outage::Restart => code == 7,
        Outage::Kill => [7, 128 + 9, 255].contains(&code),
    }
}

pub(crate) async fn short_calls_end_in_time_and_work_again_on_the_same_client(engine: &mut Engine) {
    let docker = engine.client();
    let container = docker
        .create_container(&shell("there", "true"))
        .await
        .unwrap()
        .id;
    // Unused connections from before an outage are not taken for good ones, not even by a call that must not be sent twice.
    for outage in OUTAGES {
        let many = ListContainers {
            all: true,
            ..ListContainers::default()
        };
        let _ = tokio::join!(
            docker.list_containers(&many),
            docker.list_containers(&many),
            docker.list_containers(&many)
        );
        assert!(
            docker.idle_connections() > 1,
            "there is something to be tested"
        );
        engine.outage(outage).await;
        let created = docker
            .create_container(&shell(&format!("{outage:?}").to_lowercase(), "true"))
            .await;
        created.unwrap_or_else(|error| panic!("the first call after {outage:?}: {error}"));
    }

    let (good, bad) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let calls = tokio::spawn({
        let (docker, good, bad) = (docker.clone(), good.clone(), bad.clone());
        async move {
            loop {
                let begun = Instant::now();
                let result = docker.inspect_container(&container).await;
                // A second for a busy machine.
                assert!(
                    begun.elapsed() < SHORT + std::time::Duration::from_secs(1),
                    "{:?}: {result:?}",
                    begun.elapsed()
                );
                match result {
                    Ok(_) => good.fetch_add(1, Ordering::Relaxed),
                    Err(error) => {
                        assert!(is_outage(&error) || error.is_timeout(), "{error:?}");
                        bad.fetch_add(1, Ordering::Relaxed)
                    }
                };
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        }
    });
    let now = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let grows = async |what: &str, counter: &AtomicU64| {
        let before = now(counter);
        until(what, async || {
            assert!(!calls.is_finished(), "the calls ended, see above");
            (now(counter) > before + 2).then_some(())
        })
        .await;
    };
    grows("calls work", &good).await;
    for outage in OUTAGES {
        engine.end(outage).await;
        grows("calls fail", &bad).await;
        engine.start().await;
        grows("calls work again", &good).await;
    }
    let before = now(&bad);
    engine
        .pause(async {
            until("a call runs into its deadline", async || {
                (now(&bad) > before).then_some(())
            })
            .await;
        })
        .await;
    grows("calls work after the pause", &good).await;
    calls.abort();
}
