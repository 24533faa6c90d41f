use proptest::prelude::*;

use super::*;
use crate::decide::Wanted;
use crate::history::Outcome;
use crate::world::{World, is_rest, pod, start};

/// READY, STATUS, RESTARTS and WHY of the pod in this world, with its phase in front.
fn row(pod: &Pod, world: &World) -> String {
    let status = status(pod, &world.seen, &world.history, world.now);
    let (ready, column, restarts) = (
        status.ready_column(),
        status.status_column(),
        status.restarts_column(world.now),
    );
    let row = format!(
        "{} {ready} {column} {restarts} {}",
        status.phase.as_str(),
        status.why_column()
    );
    row.trim_end().to_owned()
}

/// Takes steps until the first that reads so is next.
fn until(pod: &Pod, world: &mut World, text: &str) {
    for _ in 0..50 {
        let step = world.decide(Wanted::Run(pod));
        if world.show(&step) == text {
            return;
        }
        assert!(!is_rest(&step), "{} came before {text}", world.show(&step));
        world.carry_out(&step);
    }
    panic!("{text} never comes");
}

#[test]
fn a_pod_is_pending_until_every_container_has_started() {
    let pod = pod("", "");
    let mut world = World::new();
    assert_eq!(row(&pod, &world), "Pending 0/2 ContainerCreating 0");
    until(&pod, &mut world, "start a0");
    assert_eq!(row(&pod, &world), "Pending 0/2 ContainerCreating 0");
    until(&pod, &mut world, "create b0");
    assert_eq!(row(&pod, &world), "Pending 1/2 ContainerCreating 0");
    world.settle(Wanted::Run(&pod));
    assert_eq!(row(&pod, &world), "Running 2/2 Running 0");
}

#[test]
fn a_crash_loop_says_how_it_ended_and_when_it_goes_on() {
    let pod = pod("", "");
    let mut world = World::running(&pod);
    world.exit("a", 1);
    assert_eq!(
        row(&pod, &world),
        "Running 1/2 Error 0 a: exit 1",
        "its restart is due"
    );
    world.settle(Wanted::Run(&pod));
    world.after(5);
    assert_eq!(row(&pod, &world), "Running 2/2 Running 1 (5s ago)");
    world.exit("a", 1);
    world.settle(Wanted::Run(&pod));
    world.after(4);
    assert_eq!(
        row(&pod, &world),
        "Running 1/2 CrashLoopBackOff 1 (4s ago) a: exit 1, next try in 6s"
    );
}

#[test]
fn an_observer_without_a_memory_sees_the_back_off_and_then_that_nobody_restarts() {
    let pod = pod("", "");
    let mut world = World::running(&pod);
    world.exit("a", 1);
    world.settle(Wanted::Run(&pod));
    world.exit("a", 1);
    world.history = History::default();
    assert_eq!(
        row(&pod, &world),
        "Running 1/2 CrashLoopBackOff 1 (0s ago) a: exit 1, next try in 10s"
    );
    world.after(11);
    assert_eq!(row(&pod, &world), "Running 1/2 Error 1 (11s ago) a: exit 1");
}

#[test]
fn finished_pods_have_kubernetes_phases() {
    let ends = |policy: &str, codes: [i64; 2]| {
        let pod = pod(&format!("restartPolicy: {policy},"), "");
        let mut world = World::running(&pod);
        world.exit("a", codes[0]);
        world.exit("b", codes[1]);
        row(&pod, &world)
    };
    assert_eq!(ends("Never", [0, 0]), "Succeeded 0/2 Completed 0");
    assert_eq!(ends("OnFailure", [0, 0]), "Succeeded 0/2 Completed 0");
    assert_eq!(
        ends("Never", [0, 2]),
        "Failed 0/2 Completed 0 b: exit 2",
        "kubectl lets the first container have the last word"
    );
    assert_eq!(ends("Never", [2, 0]), "Failed 0/2 Error 0 a: exit 2");
    assert_eq!(
        ends("OnFailure", [0, 2]),
        "Running 0/2 Completed 0 b: exit 2"
    );
    assert_eq!(ends("Always", [0, 0]), "Running 0/2 Completed 0");
}

#[test]
fn one_completed_container_beside_a_running_one_is_not_ready() {
    let pod = pod("restartPolicy: OnFailure,", "");
    let mut world = World::running(&pod);
    world.exit("a", 0);
    assert_eq!(row(&pod, &world), "Running 1/2 NotReady 0");
}

#[test]
fn what_stands_in_the_way_is_named() {
    for (word, outcome, at_once, row_text) in [
        (
            "sandbox 0",
            Outcome::Failed("no network".to_owned()),
            true,
            "CreatePodSandboxError 0 a: no network",
        ),
        (
            "pull a",
            Outcome::Failed("not found".to_owned()),
            true,
            "ImagePullBackOff 0 a: back-off pulling image \"a:1\": not found",
        ),
        (
            "pull a",
            Outcome::Failed("not found".to_owned()),
            false,
            "ErrImagePull 0 a: not found",
        ),
        (
            "inspect a",
            Outcome::Failed("bad name".to_owned()),
            true,
            "ImageInspectError 0 a: bad name",
        ),
        (
            "create a0",
            Outcome::Failed("no disk".to_owned()),
            true,
            "CreateContainerError 0 a: no disk",
        ),
        (
            "create a0",
            Outcome::Misconfigured("runs as root".to_owned()),
            true,
            "CreateContainerConfigError 0 a: runs as root",
        ),
        (
            "start a0",
            Outcome::Failed("busy".to_owned()),
            true,
            "RunContainerError 0 a: busy",
        ),
    ] {
        let pod = pod("", "");
        let mut world = World::new();
        world.faults.insert(word, outcome);
        world.settle(Wanted::Run(&pod));
        if !at_once {
            world.after(10);
        }
        let row = row(&pod, &world);
        assert!(row.ends_with(row_text), "{word}: {row}");
        assert!(row.starts_with("Pending "), "{word}: {row}");
    }
    let pod = pod("", "imagePullPolicy: Never");
    let mut world = World::new();
    world.settle(Wanted::Run(&pod));
    assert_eq!(
        row(&pod, &world),
        "Pending 1/2 ErrImageNeverPull 0 a: image \"a:1\" is not there, and imagePullPolicy is Never"
    );
}

#[test]
fn a_failed_pull_before_a_restart_is_shown_with_the_restarts_cause() {
    let pod = pod("", "imagePullPolicy: Always");
    let mut world = World::running(&pod);
    world.exit("a", 3);
    world
        .faults
        .insert("pull a", Outcome::Failed("registry is down".to_owned()));
    world.settle(Wanted::Run(&pod));
    let status = status(&pod, &world.seen, &world.history, world.now);
    assert_eq!(status.status_column(), "ImagePullBackOff");
    assert_eq!(status.phase, Phase::Running, "it has run before");
    assert_eq!(
        status.containers[0]
            .last_state
            .as_ref()
            .map(|last| last.exit_code),
        Some(3)
    );
}

#[test]
fn the_way_an_instance_ended_has_kubernetes_word() {
    let pod = pod("restartPolicy: Never,", "");
    let reason = |exit: Exit| {
        let mut world = World::running(&pod);
        world.seen.instances[0].state = State::Exited(exit);
        match &status(&pod, &world.seen, &world.history, world.now).containers[0].state {
            ContainerState::Terminated(end) => end.reason,
            state => panic!("{state:?}"),
        }
    };
    let started_at = Some(start());
    assert_eq!(
        reason(Exit {
            started_at,
            ..Exit::default()
        }),
        "Completed"
    );
    assert_eq!(
        reason(Exit {
            exit_code: 1,
            started_at,
            ..Exit::default()
        }),
        "Error"
    );
    assert_eq!(
        reason(Exit {
            exit_code: 137,
            oom_killed: true,
            started_at,
            ..Exit::default()
        }),
        "OOMKilled"
    );
    assert_eq!(
        reason(Exit {
            exit_code: 127,
            error: "no such file".to_owned(),
            ..Exit::default()
        }),
        "ContainerCannotRun"
    );
    assert_eq!(
        reason(Exit {
            error: "no such file".to_owned(),
            ..Exit::default()
        }),
        "ContainerCannotRun"
    );
}

#[test]
fn a_pod_being_deleted_is_terminating_unless_it_has_ended() {
    let pod = pod("restartPolicy: Never,", "");
    let mut world = World::running(&pod);
    let column = |world: &World| {
        let mut status = status(&pod, &world.seen, &world.history, world.now);
        status.deleting = true;
        status.status_column()
    };
    assert_eq!(column(&world), "Terminating");
    world.exit("a", 0);
    world.exit("b", 0);
    assert_eq!(column(&world), "Completed");
}

#[test]
fn durations_are_printed_as_kubectl_prints_them() {
    for (seconds, text) in [
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (125, "2m5s"),
        (599, "9m59s"),
        (600, "10m"),
        (10_799, "179m"),
        (10_800, "3h"),
        (11_000, "3h3m"),
        (28_800, "8h"),
        (172_799, "47h"),
        (172_800, "2d"),
        (180_000, "2d2h"),
        (691_200, "8d"),
        (63_072_000, "2y"),
        (64_000_000, "2y10d"),
        (252_288_000, "8y"),
        (u64::MAX, "584942417355y"),
    ] {
        assert_eq!(
            human_duration(Duration::from_secs(seconds)),
            text,
            "{seconds}"
        );
    }
}

#[test]
fn the_printed_form_is_kubernetes_pod_status() {
    let pod = pod("", "");
    let mut world = World::running(&pod);
    world.after(90);
    world.exit("a", 1);
    world.settle(Wanted::Run(&pod));
    world.exit("b", 0);
    let status = status(&pod, &world.seen, &world.history, world.now);
    let json = serde_json::to_value(&status).expect("serialises");
    assert_eq!(
        json,
        serde_json::json!({
            "phase": "Running",
            "conditions": [
                {"type": "Ready", "status": "False", "reason": "ContainersNotReady"},
                {"type": "ContainersReady", "status": "False", "reason": "ContainersNotReady"},
            ],
            "podIP": "172.17.0.2",
            "podIPs": [{"ip": "172.17.0.2"}],
            "startTime": "1970-01-12T13:46:40Z",
            "containerStatuses": [
                {
                    "name": "a",
                    "image": "a:1",
                    "imageID": "sha256:0",
                    "containerID": "docker://c4",
                    "ready": true,
                    "started": true,
                    "restartCount": 1,
                    "state": {"running": {"startedAt": "1970-01-12T13:48:10Z"}},
                    "lastState": {"terminated": {
                        "exitCode": 1,
                        "reason": "Error",
                        "startedAt": "1970-01-12T13:46:40Z",
                        "finishedAt": "1970-01-12T13:48:10Z",
                        "containerID": "docker://c2",
                    }},
                },
                {
                    "name": "b",
                    "image": "b:1",
                    "imageID": "sha256:0",
                    "containerID": "docker://c3",
                    "ready": false,
                    "started": false,
                    "restartCount": 0,
                    "state": {"terminated": {
                        "exitCode": 0,
                        "reason": "Completed",
                        "startedAt": "1970-01-12T13:46:40Z",
                        "finishedAt": "1970-01-12T13:48:10Z",
                        "containerID": "docker://c3",
                    }},
                },
            ],
        })
    );
}

proptest! {
    /// Whatever is seen, at whatever time: an answer, as many containers as in the spec, and columns that say something.
    #[test]
    fn every_state_has_a_status(
        (pod, world) in crate::decide::tests::any_case(),
        ahead in 0_u64..10_000,
    ) {
        let now = world.now - Duration::from_secs(5_000) + Duration::from_secs(ahead);
        let status = status(&pod, &world.seen, &world.history, now);
        prop_assert_eq!(status.containers.len(), 2);
        prop_assert!(!status.status_column().is_empty() && !status.restarts_column(now).is_empty() && !status.age_column(now).is_empty());
        prop_assert!(serde_json::to_value(&status).is_ok());
    }
}
