//! The engine's events.

use std::collections::HashSet;

use berth_docker::api::{
    PutArchive, RemoveContainer, RemoveImage, RestartContainer, StopContainer, TerminalSize,
};
use berth_docker::events::{EventItem, EventsOptions};
use berth_docker::model::{CreateContainer, Event, EventType, Filters, UpdateContainer};

use crate::Violation;
use crate::case::{Case, Events, actions, strings, tarball, within};
use crate::violation::{ensure, equal};

crate::group! {
    "events";
    events_of_a_container_come_in_order,
    an_event_says_who_and_when,
    a_kill_event_names_the_signal,
    an_end_says_its_exit_code,
    a_stop_and_a_restart_are_told,
    changes_of_a_container_are_told,
    commands_are_told,
    a_health_check_is_told,
    images_are_told,
    networks_are_told,
    volumes_are_told,
    events_can_be_filtered,
    the_past_is_replayed,
    a_subscription_without_a_past_begins_now,
    two_subscribers_hear_the_same,
    a_dropped_subscription_is_over,
}

/// A container that has been started, the only one of its check, and its events from then on.
async fn started(case: &Case, container: &CreateContainer) -> Result<(String, Events), Violation> {
    let mut events = case.events(case.own().kind("container")).await?;
    let id = case.start(container).await?;
    events.through("start").await?;
    Ok((id, events))
}

/// Whether those actions come in that order, with others in between.
#[track_caller]
fn in_order(events: &[Event], expected: &[&str]) -> Result<(), Violation> {
    let seen = actions(events);
    let mut rest = seen.iter();
    match expected
        .iter()
        .find(|action| !rest.any(|seen| seen == *action))
    {
        None => Ok(()),
        Some(missing) => Err(Violation::new(format!(
            "{missing:?} does not follow in {seen:?}"
        ))),
    }
}

async fn events_of_a_container_come_in_order(case: Case) -> Result<(), Violation> {
    let mut events = case.events(case.own().kind("container")).await?;
    let id = case.start(&case.shell("exit 4")).await?;
    case.ended(&id).await?;
    case.docker()
        .remove_container(&id, RemoveContainer::default())
        .await?;
    let events = events.through("destroy").await?;
    equal!(
        actions(&events),
        ["create", "start", "die", "destroy"],
        "the events"
    );
    ensure!(
        events.iter().all(|event| event.actor.id == id),
        "they are of another container"
    );
    ensure!(
        events.is_sorted_by_key(|event| event.time),
        "the times go back"
    );
    Ok(())
}

async fn an_event_says_who_and_when(case: Case) -> Result<(), Violation> {
    let before = case.engine_time().await?;
    let mut container = case.idle();
    container.config.labels.insert("colour", "red");
    let id = case.create(&container).await?;
    let options = EventsOptions {
        filters: Filters::new().container(&id),
        since_nanos: Some(before.unix_nanos()),
    };
    let event = match within("an event", case.docker().events(options).next()).await? {
        Some(Ok(EventItem::Event(event))) => event,
        other => return Err(Violation::new(format!("instead of an event: {other:?}"))),
    };
    equal!(
        (&event.kind, event.action.as_str()),
        (&EventType::Container, "create"),
        "kind and action"
    );
    equal!(
        (event.actor.id.as_str(), event.scope.as_str()),
        (id.as_str(), "local"),
        "actor and scope"
    );
    let attributes = &event.actor.attributes;
    equal!(
        attributes.get("name"),
        container.name.as_deref(),
        "the name"
    );
    equal!(attributes.get("image"), Some(case.image()), "the image");
    equal!(attributes.get("colour"), Some("red"), "the label");
    ensure!(
        event.time >= Some(before) && event.time <= Some(case.engine_time().await?),
        "the time is {:?}",
        event.time
    );
    Ok(())
}

async fn a_kill_event_names_the_signal(case: Case) -> Result<(), Violation> {
    let trap = case.shell("trap 'exit 0' USR1; echo ready; while :; do sleep 0.05; done");
    let (id, mut events) = started(&case, &trap).await?;
    case.wait_for_line(&id, "ready").await?;
    case.docker().kill_container(&id, Some("SIGUSR1")).await?;
    let seen = events.through("die").await?;
    equal!(actions(&seen), ["kill", "die"], "the events");
    equal!(
        seen[0].actor.attributes.get("signal"),
        Some("10"),
        "the signal"
    );
    equal!(
        seen[1].actor.attributes.get("exitCode"),
        Some("0"),
        "the exit code"
    );
    Ok(())
}

async fn an_end_says_its_exit_code(case: Case) -> Result<(), Violation> {
    let (_, mut events) = started(&case, &case.shell("exit 77")).await?;
    let seen = events.through("die").await?;
    let end = seen
        .last()
        .map(|event| event.actor.attributes.get("exitCode"));
    equal!(end, Some(Some("77")), "the exit code");
    Ok(())
}

async fn a_stop_and_a_restart_are_told(case: Case) -> Result<(), Violation> {
    let trap = case.shell("trap 'exit 0' TERM; echo ready; while :; do sleep 0.05; done");
    let (id, mut events) = started(&case, &trap).await?;
    case.wait_for_line(&id, "ready").await?;
    let options = RestartContainer {
        seconds: Some(30),
        signal: None,
    };
    case.docker().restart_container(&id, &options).await?;
    let seen = events.through("restart").await?;
    in_order(&seen, &["kill", "die", "start", "restart"])?;
    case.docker()
        .stop_container(
            &id,
            &StopContainer {
                seconds: Some(0),
                signal: None,
            },
        )
        .await?;
    // Engines before 23.0 (API 1.42) tell the end before the stop, later ones in either order.
    let mut seen = vec![events.next().await?];
    while !["die", "stop"]
        .iter()
        .all(|action| seen.iter().any(|event| event.action == *action))
    {
        seen.push(events.next().await?);
    }
    in_order(&seen, &["kill", "die"])?;
    if !case.engine_is(42).await? {
        in_order(&seen, &["die", "stop"])?;
    }
    Ok(())
}

async fn changes_of_a_container_are_told(case: Case) -> Result<(), Violation> {
    let docker = case.docker();
    let mut container = case.idle();
    container.config.tty = true;
    let old = container.name.clone().unwrap_or_default();
    let (id, mut events) = started(&case, &container).await?;
    docker.pause_container(&id).await?;
    docker.unpause_container(&id).await?;
    docker
        .resize_container_tty(
            &id,
            TerminalSize {
                height: 20,
                width: 60,
            },
        )
        .await?;
    docker
        .update_container(
            &id,
            &UpdateContainer {
                cpu_shares: 300,
                ..UpdateContainer::default()
            },
        )
        .await?;
    docker.top(&id, None).await?;
    docker
        .put_archive(
            &id,
            "/tmp",
            berth_docker::Body::Bytes(tarball(&[("file", b"")])?.into()),
            PutArchive::default(),
        )
        .await?;
    drop(docker.get_archive(&id, "/tmp/file").await?);
    let new = case.name();
    docker.rename_container(&id, &new).await?;
    let mut seen = events.through("rename").await?;
    // A loaded Docker Engine tells a pause and its end twice: when it was asked, and when containerd, which is late, reports
    // them.
    let mut told = HashSet::new();
    seen.retain(|event| !event.action.contains("pause") || told.insert(event.action.clone()));
    let expected = [
        "pause",
        "unpause",
        "resize",
        "update",
        "top",
        "extract-to-dir",
        "archive-path",
        "rename",
    ];
    equal!(actions(&seen), expected, "the events");
    let resize = &seen[2].actor.attributes;
    equal!(
        (resize.get("height"), resize.get("width")),
        (Some("20"), Some("60")),
        "the size"
    );
    let rename = &seen[7].actor.attributes;
    equal!(
        (rename.get("name"), rename.get("oldName")),
        (Some(&*new), Some(&*format!("/{old}"))),
        "the names"
    );
    Ok(())
}

async fn commands_are_told(case: Case) -> Result<(), Violation> {
    let (id, mut events) = started(&case, &case.idle()).await?;
    let exec = case
        .docker()
        .create_exec(&id, &case.command("exit 6"))
        .await?;
    let attached = case.docker().start_exec(&exec, false).await?;
    crate::case::output(attached.output).await?;
    let seen = events.through("exec_die").await?;
    equal!(
        actions(&seen),
        ["exec_create", "exec_start", "exec_die"],
        "the events"
    );
    equal!(
        seen[0].action_detail(),
        Some("/bin/sh -c exit 6"),
        "the command"
    );
    equal!(
        seen[2].actor.attributes.get("exitCode"),
        Some("6"),
        "the exit code"
    );
    ensure!(
        seen.iter()
            .all(|event| event.actor.attributes.get("execID") == Some(&*exec)),
        "they are of another command"
    );
    Ok(())
}

async fn a_health_check_is_told(case: Case) -> Result<(), Violation> {
    let mut container = case.idle();
    container.config.healthcheck = Some(berth_docker::model::HealthConfig {
        test: strings(["CMD", "true"]),
        interval: 100_000_000,
        ..Default::default()
    });
    let (_, mut events) = started(&case, &container).await?;
    let seen = events.through("health_status").await?;
    equal!(
        seen.last().and_then(Event::action_detail),
        Some("healthy"),
        "the verdict"
    );
    Ok(())
}

async fn images_are_told(case: Case) -> Result<(), Violation> {
    let (first, second) = (case.image_name(), case.image_name());
    let mut events = case.events(Filters::new().kind("image")).await?;
    let id = case.import(&first).await?;
    case.docker().tag_image(&first, &second).await?;
    case.docker()
        .remove_image(&second, RemoveImage::default())
        .await?;
    case.docker()
        .remove_image(
            &first,
            RemoveImage {
                force: false,
                prune_children: true,
            },
        )
        .await?;
    let mut seen = Vec::new();
    // Other images' events come as well.
    while !seen.iter().any(|event: &Event| event.action == "delete") {
        let event = events.next().await?;
        if event.actor.id == id
            || event
                .actor
                .attributes
                .get("name")
                .is_some_and(|name| name == first || name == second)
        {
            seen.push(event);
        }
    }
    in_order(&seen, &["import", "tag", "untag", "untag", "delete"])?;
    ensure!(
        seen.iter().all(|event| event.kind == EventType::Image),
        "another kind: {seen:?}"
    );
    let tag = seen.iter().find(|event| {
        event.action == "tag" && event.actor.attributes.get("name") == Some(&*second)
    });
    ensure!(tag.is_some(), "no tag is told to be {second}: {seen:?}");
    Ok(())
}

async fn networks_are_told(case: Case) -> Result<(), Violation> {
    let docker = case.docker();
    let network = case.network();
    let mut events = case.events(Filters::new().network(&network.name)).await?;
    let id = docker.create_network(&network).await?.id;
    let mut container = case.idle();
    container.host_config.network_mode = "bridge".to_owned();
    let container = case.start(&container).await?;
    docker.connect_network(&id, &container, None).await?;
    docker.disconnect_network(&id, &container, false).await?;
    docker.remove_network(&id).await?;
    let seen = events.through("destroy").await?;
    let mut told = actions(&seen);
    if !case.engine_is(42).await? {
        // Engine 20.10 (API 1.41) may tell a disconnect twice.
        told.dedup();
    }
    equal!(
        told,
        ["create", "connect", "disconnect", "destroy"],
        "the events"
    );
    for event in &seen {
        equal!(
            (&event.kind, event.actor.id.as_str()),
            (&EventType::Network, id.as_str()),
            "kind and actor"
        );
        equal!(
            event.actor.attributes.get("name"),
            Some(&*network.name),
            "the name"
        );
        equal!(
            event.actor.attributes.get("type"),
            Some("bridge"),
            "the driver"
        );
    }
    equal!(
        seen[1].actor.attributes.get("container"),
        Some(&*container),
        "the container"
    );
    Ok(())
}

async fn volumes_are_told(case: Case) -> Result<(), Violation> {
    let volume = case.volume();
    let mut events = case
        .events(Filters::new().kind("volume").with("volume", &volume.name))
        .await?;
    case.docker().create_volume(&volume).await?;
    let mut container = case.shell("exit 0");
    container.host_config.binds = vec![format!("{}:/data", volume.name)];
    let id = case.start(&container).await?;
    case.ended(&id).await?;
    case.docker()
        .remove_container(&id, RemoveContainer::default())
        .await?;
    case.docker().remove_volume(&volume.name, false).await?;
    let seen = events.through("destroy").await?;
    in_order(&seen, &["create", "mount", "unmount", "destroy"])?;
    for event in &seen {
        equal!(
            (&event.kind, &event.actor.id),
            (&EventType::Volume, &volume.name),
            "kind and actor"
        );
        equal!(
            event.actor.attributes.get("driver"),
            Some("local"),
            "the driver"
        );
    }
    let mount = seen.iter().find(|event| event.action == "mount");
    let attributes = mount.map(|event| &event.actor.attributes);
    equal!(
        attributes.and_then(|attributes| attributes.get("container")),
        Some(&*id),
        "the container"
    );
    equal!(
        attributes.and_then(|attributes| attributes.get("destination")),
        Some("/data"),
        "where it is mounted"
    );
    Ok(())
}

async fn events_can_be_filtered(case: Case) -> Result<(), Violation> {
    let mut starts = case
        .events(case.own().event("start").event("destroy"))
        .await?;
    let mut labelled = case.events(case.own().label("colour=red")).await?;
    let plain = case.start(&case.shell("exit 0")).await?;
    case.ended(&plain).await?;
    let mut container = case.shell("exit 0");
    container.config.labels.insert("colour", "red");
    let name = container.name.clone().unwrap_or_default();
    let mut named = case.events(Filters::new().container(&name)).await?;
    let red = case.start(&container).await?;
    case.ended(&red).await?;
    for id in [&plain, &red] {
        case.docker()
            .remove_container(id, RemoveContainer::default())
            .await?;
    }
    let mut seen = Vec::new();
    while seen.len() < 4 {
        seen.push(starts.next().await?);
    }
    equal!(
        actions(&seen),
        ["start", "start", "destroy", "destroy"],
        "the events of those actions"
    );
    let seen = labelled.through("destroy").await?;
    equal!(
        actions(&seen),
        ["create", "start", "die", "destroy"],
        "the events of the label"
    );
    ensure!(
        seen.iter().all(|event| event.actor.id == red),
        "they are of another container"
    );
    let seen = named.through("destroy").await?;
    ensure!(
        seen.iter().all(|event| event.actor.id == red),
        "they are not of the name"
    );
    Ok(())
}

async fn the_past_is_replayed(case: Case) -> Result<(), Violation> {
    let since = case.engine_time().await?;
    let id = case.start(&case.shell("exit 0")).await?;
    case.ended(&id).await?;
    let options = EventsOptions {
        filters: case.own().kind("container"),
        since_nanos: Some(since.unix_nanos()),
    };
    let mut events = case.docker().events(options);
    let mut times = Vec::new();
    for action in ["create", "start", "die"] {
        match within(action, events.next()).await? {
            Some(Ok(EventItem::Event(event))) => {
                equal!(event.action, action, "the replayed event");
                times.push(event.time);
            }
            other => return Err(Violation::new(format!("instead of {action}: {other:?}"))),
        }
    }
    // From the time of the start on there is no create; the time itself counts.
    let start = times[1].ok_or_else(|| Violation::new("the event has no time"))?;
    let options = EventsOptions {
        filters: case.own().kind("container"),
        since_nanos: Some(start.unix_nanos()),
    };
    match within("start", case.docker().events(options).next()).await? {
        Some(Ok(EventItem::Event(event))) => equal!(
            (event.action.as_str(), event.time),
            ("start", times[1]),
            "the first event"
        ),
        other => return Err(Violation::new(format!("instead of start: {other:?}"))),
    }
    Ok(())
}

async fn a_subscription_without_a_past_begins_now(case: Case) -> Result<(), Violation> {
    let id = case.running().await?;
    let before = case.engine_time().await?;
    let options = EventsOptions {
        filters: Filters::new().container(&id).event("top"),
        since_nanos: None,
    };
    let mut events = case.docker().events(options);
    // It begins in the background, so there are events until it has met one.
    let happening = async {
        loop {
            case.docker().top(&id, None).await?;
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    let first = tokio::select! {
        first = within("an event", events.next()) => first?,
        failed = happening => return failed,
    };
    match first {
        Some(Ok(EventItem::Event(event))) => {
            equal!(event.action, "top", "the event");
            ensure!(
                event.time >= Some(before),
                "it happened before the call: {event:?}"
            );
            Ok(())
        }
        other => Err(Violation::new(format!("instead of an event: {other:?}"))),
    }
}

async fn two_subscribers_hear_the_same(case: Case) -> Result<(), Violation> {
    let mut one = case.events(case.own().kind("container")).await?;
    let mut two = case.events(case.own().kind("container")).await?;
    let id = case.start(&case.shell("exit 0")).await?;
    case.ended(&id).await?;
    equal!(
        one.through("die").await?,
        two.through("die").await?,
        "what they heard"
    );
    Ok(())
}

async fn a_dropped_subscription_is_over(case: Case) -> Result<(), Violation> {
    let id = case.running().await?;
    for _ in 0..20 {
        let mut events = case
            .events(Filters::new().container(&id).event("top"))
            .await?;
        case.docker().top(&id, None).await?;
        equal!(events.next().await?.action, "top", "the event");
    }
    // The engine still answers, and tells a new subscriber.
    let mut events = case.events(case.own().event("kill").event("die")).await?;
    case.docker().kill_container(&id, None).await?;
    equal!(
        actions(&events.through("die").await?),
        ["kill", "die"],
        "the events"
    );
    Ok(())
}
