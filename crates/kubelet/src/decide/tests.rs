use proptest::prelude::*;

use super::*;
use crate::history::Outcome;
use crate::observed::Exit;
use crate::world::{World, is_rest, other_hash, pod, start};

#[test]
fn a_new_pod_is_built_in_order_and_then_left_alone() {
    let pod = pod("", "");
    let mut world = World::new();
    assert_eq!(
        world.settle(Wanted::Run(&pod)),
        [
            "sandbox 0",
            "inspect a",
            "pull a",
            "create a0",
            "start a0",
            "inspect b",
            "pull b",
            "create b0",
            "start b0",
            "settled"
        ]
    );
    assert_eq!(world.settle(Wanted::Run(&pod)), ["settled"]);
}

#[test]
fn a_berth_that_remembers_nothing_leaves_a_running_pod_alone() {
    let pod = pod("", "");
    let mut world = World::running(&pod);
    world.history = History::default();
    assert_eq!(world.settle(Wanted::Run(&pod)), ["settled"]);
}

#[test]
fn the_pull_policy_decides_about_pulls() {
    let present = |policy: &str| {
        let pod = pod("", &format!("imagePullPolicy: {policy}"));
        let mut world = World::new();
        world.images.extend(["a:1".to_owned(), "b:1".to_owned()]);
        world.settle(Wanted::Run(&pod))[1..4].join(", ")
    };
    assert_eq!(present("IfNotPresent"), "inspect a, create a0, start a0");
    assert_eq!(present("Never"), "inspect a, create a0, start a0");
    assert_eq!(present("Always"), "inspect a, pull a, create a0");
}

#[test]
fn always_pulls_before_every_restart() {
    let pod = pod("", "imagePullPolicy: Always");
    let mut world = World::running(&pod);
    world.exit("a", 1);
    assert_eq!(
        world.settle(Wanted::Run(&pod)),
        ["inspect a", "pull a", "create a1", "start a1", "settled"]
    );
}

#[test]
fn a_changed_container_is_the_only_one_restarted() {
    let mut world = World::running(&pod("", ""));
    let changed = pod("", "args: [x]");
    assert_eq!(
        world.settle(Wanted::Run(&changed)),
        [
            "stop a0 Changed",
            "inspect a",
            "create a1",
            "start a1",
            "settled"
        ]
    );
    assert_eq!(world.newest("b").attempt, 0);
    assert_eq!(world.settle(Wanted::Run(&changed)), ["settled"]);
}

#[test]
fn a_changed_sandbox_is_replaced_after_its_containers_have_stopped() {
    let mut world = World::running(&pod("", ""));
    assert_eq!(
        world.settle(Wanted::Run(&pod("hostPID: true,", "")))[..6],
        [
            "stop a0 SandboxLost, b0 SandboxLost",
            "remove sandbox s1",
            "sandbox 1",
            "inspect a",
            "create a1",
            "start a1"
        ]
    );
}

#[test]
fn a_dead_sandbox_is_replaced_and_its_containers_restarted() {
    let pod = pod("", "");
    let mut world = World::running(&pod);
    world.seen.sandboxes[0].running = false;
    let steps = world.settle(Wanted::Run(&pod));
    assert_eq!(
        steps[..3],
        [
            "stop a0 SandboxLost, b0 SandboxLost",
            "remove sandbox s1",
            "sandbox 1"
        ]
    );
    assert_eq!(steps.last().expect("steps"), "settled");
}

#[test]
fn a_dead_sandbox_ends_a_pod_that_never_restarts() {
    let pod = pod("restartPolicy: Never,", "");
    let mut world = World::running(&pod);
    world.seen.sandboxes[0].running = false;
    assert_eq!(
        world.settle(Wanted::Run(&pod)),
        ["stop a0 SandboxLost, b0 SandboxLost", "finished false"]
    );
}

#[test]
fn a_sandbox_that_keeps_dying_is_replaced_with_growing_delays() {
    let pod = pod("", "");
    let mut world = World::running(&pod);
    let mut waits = Vec::new();
    for _ in 0..4 {
        world.seen.sandboxes[0].running = false;
        let mut steps = world.settle(Wanted::Run(&pod));
        if let Some(wait) = steps.last().and_then(|step| step.strip_prefix("wait ")) {
            let seconds: u64 = wait.parse().expect("seconds");
            waits.push(seconds);
            world.after(seconds);
            steps = world.settle(Wanted::Run(&pod));
        }
        assert_eq!(steps.last().expect("steps"), "settled");
    }
    assert_eq!(waits, [10, 20, 40]);
}

#[test]
fn the_first_restart_is_immediate_and_the_next_ones_wait_longer_and_longer() {
    let pod = pod("", "");
    let mut world = World::running(&pod);
    let mut waits = Vec::new();
    for attempt in 1..=8 {
        world.exit("a", 1);
        let mut steps = world.settle(Wanted::Run(&pod));
        if let Some(wait) = steps.last().and_then(|step| step.strip_prefix("wait ")) {
            let seconds: u64 = wait.parse().expect("seconds");
            waits.push(seconds);
            world.after(seconds - 1);
            assert_eq!(
                world.settle(Wanted::Run(&pod)),
                ["wait 1"],
                "not a second too early"
            );
            world.after(1);
            steps = world.settle(Wanted::Run(&pod));
        }
        assert!(steps.contains(&format!("start a{attempt}")), "{steps:?}");
        world.after(3);
    }
    assert_eq!(waits, [10, 20, 40, 80, 160, 300, 300]);
}

#[test]
fn ten_minutes_of_running_make_the_next_restart_immediate() {
    let pod = pod("", "");
    let mut world = World::running(&pod);
    for _ in 0..3 {
        world.exit("a", 1);
        world.settle(Wanted::Run(&pod));
        world.after(300);
        world.settle(Wanted::Run(&pod));
    }
    world.after(599);
    world.exit("a", 1);
    assert_eq!(
        world.settle(Wanted::Run(&pod)).last().expect("steps"),
        "wait 40"
    );
    world.after(40);
    world.settle(Wanted::Run(&pod));
    world.after(600);
    world.exit("a", 1);
    assert!(
        world
            .settle(Wanted::Run(&pod))
            .contains(&"start a5".to_owned())
    );
    world.exit("a", 1);
    assert_eq!(
        world.settle(Wanted::Run(&pod)).last().expect("steps"),
        "wait 10",
        "the series starts anew"
    );
}

#[test]
fn without_a_memory_the_attempt_number_tells_the_delay() {
    let pod = pod("", "");
    let mut world = World::running(&pod);
    for _ in 0..3 {
        world.exit("a", 1);
        world.settle(Wanted::Run(&pod));
        world.after(300);
        world.settle(Wanted::Run(&pod));
    }
    world.exit("a", 1);
    world.history = History::default();
    assert_eq!(
        world.settle(Wanted::Run(&pod)).last().expect("steps"),
        "wait 40"
    );
}

#[test]
fn a_changed_container_does_not_wait_for_the_back_off_of_the_old_one() {
    let mut world = World::running(&pod("", ""));
    for _ in 0..2 {
        world.exit("a", 1);
        world.settle(Wanted::Run(&pod("", "")));
    }
    assert_eq!(world.settle(Wanted::Run(&pod("", ""))), ["wait 10"]);
    let fixed = pod("", "args: [x]");
    assert_eq!(
        world.settle(Wanted::Run(&fixed)),
        ["inspect a", "create a2", "start a2", "settled"]
    );
    world.exit("a", 1);
    let steps = world.settle(Wanted::Run(&fixed));
    assert!(
        steps.contains(&"start a3".to_owned()),
        "the new spec has its own series: {steps:?}"
    );
}

#[test]
fn an_engine_whose_clock_is_ahead_delays_a_restart_no_longer() {
    let pod = pod("", "");
    let mut world = World::running(&pod);
    world.exit("a", 1);
    world.settle(Wanted::Run(&pod));
    let id = world.newest("a").id.clone();
    for instance in world
        .seen
        .instances
        .iter_mut()
        .filter(|instance| instance.id == id)
    {
        let (started_at, finished_at) = (
            world.now + Duration::from_secs(3600),
            world.now + Duration::from_secs(3601),
        );
        instance.state = State::Exited(Exit {
            exit_code: 1,
            started_at: Some(started_at),
            finished_at: Some(finished_at),
            ..Exit::default()
        });
    }
    assert_eq!(world.settle(Wanted::Run(&pod)), ["remove a0", "wait 10"]);
    world.after(10);
    assert!(
        world
            .settle(Wanted::Run(&pod))
            .contains(&"start a2".to_owned())
    );
}

#[test]
fn the_restart_policy_decides_when_a_pod_is_finished() {
    let ends = |policy: &str, codes: [i64; 2]| {
        let pod = pod(&format!("restartPolicy: {policy},"), "");
        let mut world = World::running(&pod);
        world.exit("a", codes[0]);
        world.exit("b", codes[1]);
        world.settle(Wanted::Run(&pod)).join(", ")
    };
    assert_eq!(ends("Never", [0, 0]), "stop sandbox s1, finished true");
    assert_eq!(ends("Never", [0, 3]), "stop sandbox s1, finished false");
    assert_eq!(ends("OnFailure", [0, 0]), "stop sandbox s1, finished true");
    assert_eq!(
        ends("OnFailure", [0, 3]),
        "inspect b, create b1, start b1, settled"
    );
    assert_eq!(
        ends("Always", [0, 0]),
        "inspect a, create a1, start a1, inspect b, create b1, start b1, settled"
    );
}

#[test]
fn a_finished_pod_stays_finished_until_its_spec_changes() {
    let job = pod("restartPolicy: Never,", "");
    let mut world = World::running(&job);
    world.exit("a", 0);
    world.exit("b", 0);
    world.settle(Wanted::Run(&job));
    world.history = History::default();
    assert_eq!(world.settle(Wanted::Run(&job)), ["finished true"]);
    let changed = pod("restartPolicy: Never,", "args: [x]");
    assert_eq!(
        world.settle(Wanted::Run(&changed)),
        [
            "remove sandbox s1",
            "sandbox 0",
            "inspect a",
            "create a1",
            "start a1",
            "settled"
        ]
    );
    assert_eq!(
        world.newest("b").attempt,
        0,
        "the other container is not run again"
    );
}

#[test]
fn a_container_that_cannot_be_started_has_not_succeeded() {
    let pod = pod("restartPolicy: OnFailure,", "");
    let mut world = World::running(&pod);
    world.exit("b", 0);
    let id = world.newest("a").id.clone();
    for instance in &mut world.seen.instances {
        if instance.id == id {
            instance.state = State::Exited(Exit {
                error: "no such file".to_owned(),
                ..Exit::default()
            });
        }
    }
    assert!(
        world
            .settle(Wanted::Run(&pod))
            .contains(&"create a1".to_owned())
    );
}

#[test]
fn of_two_sandboxes_the_newest_wins() {
    let pod = pod("", "");
    let mut world = World::running(&pod);
    let mut older = world.seen.sandboxes[0].clone();
    older.id = SandboxId("old".to_owned());
    older.created_at = Some(start() - Duration::from_secs(5));
    let mut lost = world.newest("a").clone();
    lost.id = ContainerId("lost".to_owned());
    lost.sandbox = older.id.clone();
    lost.attempt = 0;
    lost.created_at = older.created_at;
    world.seen.sandboxes.insert(0, older);
    world.seen.instances.push(lost);
    assert_eq!(
        world.settle(Wanted::Run(&pod)),
        ["stop a0 SandboxLost", "remove sandbox old", "settled"],
        "the exited instance is the only one of its container, so it stays"
    );
    assert!(world.newest("a").is_running());
}

#[test]
fn containers_not_in_the_spec_go() {
    let pod = pod("", "");
    let mut world = World::running(&pod);
    for (attempt, state) in [
        (0, State::Exited(Exit::default())),
        (1, State::Created),
        (2, State::Running { started_at: None }),
    ] {
        let mut stray = world.newest("a").clone();
        stray.name = "stray".to_owned();
        stray.id = ContainerId(format!("stray{attempt}"));
        stray.attempt = attempt;
        stray.state = state;
        world.seen.instances.push(stray);
    }
    assert_eq!(
        world.settle(Wanted::Run(&pod)),
        [
            "stop stray2 NotWanted",
            "remove stray1",
            "remove stray0",
            "remove stray2",
            "settled"
        ]
    );
}

#[test]
fn what_was_made_and_not_started_is_started_or_replaced() {
    let pod = pod("", "");
    let made = |hash, sandbox: &str| {
        let mut world = World::running(&pod);
        let instance = &mut world.seen.instances[0];
        instance.state = State::Created;
        if let Some(hash) = hash {
            instance.hash = Some(hash);
        }
        if !sandbox.is_empty() {
            instance.sandbox = SandboxId(sandbox.to_owned());
        }
        world.settle(Wanted::Run(&pod)).join(", ")
    };
    assert_eq!(made(None, ""), "start a0, settled");
    assert_eq!(
        made(Some(other_hash()), ""),
        "remove a0, inspect a, create a0, start a0, settled"
    );
    assert_eq!(
        made(None, "gone"),
        "remove a0, inspect a, create a0, start a0, settled"
    );
}

#[test]
fn a_container_without_a_hash_counts_as_unchanged() {
    let pod = pod("", "");
    let mut world = World::running(&pod);
    world.seen.instances[0].hash = None;
    world.seen.sandboxes[0].hash = None;
    assert_eq!(world.settle(Wanted::Run(&pod)), ["settled"]);
}

#[test]
fn one_exited_instance_of_each_container_is_kept() {
    let pod = pod("", "");
    let mut world = World::running(&pod);
    for _ in 0..4 {
        world.exit("a", 1);
        world.settle(Wanted::Run(&pod));
        world.after(300);
        world.settle(Wanted::Run(&pod));
    }
    let kept: Vec<u32> = world
        .seen
        .instances_of("a")
        .iter()
        .map(|instance| instance.attempt)
        .collect();
    assert_eq!(kept, [4, 3]);
}

#[test]
fn a_failed_pull_backs_off_and_holds_up_no_other_container() {
    let pod = pod("", "");
    let mut world = World::new();
    world
        .faults
        .insert("pull a", Outcome::Failed("no such image".to_owned()));
    assert_eq!(
        world.settle(Wanted::Run(&pod)),
        [
            "sandbox 0",
            "inspect a",
            "pull a",
            "inspect b",
            "pull b",
            "create b0",
            "start b0",
            "wait 10"
        ]
    );
    for seconds in [10, 20, 40, 80, 160, 300] {
        world.after(seconds - 1);
        assert_eq!(world.settle(Wanted::Run(&pod)), ["wait 1"]);
        world.after(1);
        let next = (seconds * 2).min(300);
        assert_eq!(
            world.settle(Wanted::Run(&pod)),
            [
                "inspect a".to_owned(),
                "pull a".to_owned(),
                format!("wait {next}")
            ]
        );
    }
    world.after(300);
    world.images.insert("a:1".to_owned());
    assert_eq!(
        world.settle(Wanted::Run(&pod)),
        ["inspect a", "create a0", "start a0", "settled"],
        "brought by somebody else"
    );
}

#[test]
fn another_image_does_not_wait_for_the_back_off_of_the_first() {
    let mut world = World::new();
    world
        .faults
        .insert("pull a", Outcome::Failed("no such image".to_owned()));
    world.settle(Wanted::Run(&pod("", "")));
    world.faults.clear();
    let mut fixed = pod("", "");
    fixed.spec.containers[0].image = "a:2".to_owned();
    assert_eq!(
        world.settle(Wanted::Run(&fixed)),
        ["inspect a", "pull a", "create a0", "start a0", "settled"]
    );
}

#[test]
fn an_image_that_must_not_be_pulled_is_looked_for_with_growing_delays() {
    let pod = pod("", "imagePullPolicy: Never");
    let mut world = World::new();
    assert_eq!(
        world.settle(Wanted::Run(&pod)).last().expect("steps"),
        "wait 10"
    );
    world.after(10);
    assert_eq!(world.settle(Wanted::Run(&pod)), ["inspect a", "wait 20"]);
    world.images.insert("a:1".to_owned());
    world.after(20);
    assert_eq!(
        world.settle(Wanted::Run(&pod)),
        ["inspect a", "create a0", "start a0", "settled"]
    );
}

#[test]
fn every_kind_of_failure_backs_off_and_is_tried_again() {
    for word in ["sandbox 0", "inspect a", "create a0", "start a0"] {
        let pod = pod("", "");
        let mut world = World::new();
        world.faults.insert(word, Outcome::Failed("no".to_owned()));
        assert_eq!(
            world.settle(Wanted::Run(&pod)).last().expect("steps"),
            "wait 10",
            "{word}"
        );
        world.faults.clear();
        world.after(10);
        let steps = world.settle(Wanted::Run(&pod));
        assert_eq!(steps.last().expect("steps"), "settled", "{word}");
        assert!(steps.contains(&"start a0".to_owned()), "{word}: {steps:?}");
    }
}

#[test]
fn a_container_that_cannot_be_stopped_is_not_replaced_and_is_tried_again() {
    let mut world = World::running(&pod("", ""));
    let changed = pod("", "args: [x]");
    world
        .faults
        .insert("stop a0", Outcome::Failed("busy".to_owned()));
    assert_eq!(
        world.settle(Wanted::Run(&changed)),
        ["stop a0 Changed", "wait 10"]
    );
    world.after(10);
    assert_eq!(
        world.settle(Wanted::Run(&changed)),
        ["stop a0 Changed", "wait 20"]
    );
    world.faults.clear();
    world.after(20);
    assert_eq!(
        world.settle(Wanted::Run(&changed)).last().expect("steps"),
        "settled"
    );
}

#[test]
fn deletion_stops_everything_at_once_then_removes_it() {
    let pod = pod("", "");
    let mut world = World::running(&pod);
    let wanted = Wanted::Delete {
        grace: Duration::from_secs(7),
    };
    match world.decide(wanted) {
        Step::StopContainers { grace, .. } => assert_eq!(grace, Duration::from_secs(7)),
        step => panic!("{step:?}"),
    }
    assert_eq!(
        world.settle(wanted),
        [
            "stop a0 Deleted, b0 Deleted",
            "remove a0",
            "remove b0",
            "remove sandbox s1",
            "gone"
        ]
    );
    assert_eq!(world.settle(wanted), ["gone"]);
}

#[test]
fn deletion_goes_on_past_what_cannot_be_removed() {
    let pod = pod("", "");
    let mut world = World::running(&pod);
    let wanted = Wanted::Delete {
        grace: Duration::ZERO,
    };
    world
        .faults
        .insert("remove a0", Outcome::Failed("busy".to_owned()));
    assert_eq!(
        world.settle(wanted),
        [
            "stop a0 Deleted, b0 Deleted",
            "remove a0",
            "remove b0",
            "wait 10"
        ]
    );
    world.faults.clear();
    world.after(10);
    assert_eq!(
        world.settle(wanted),
        ["remove a0", "remove sandbox s1", "gone"]
    );
}

/// Any state, likely or not: up to three sandboxes and eight instances, of wanted and other containers.
fn any_world(pod: &Pod) -> impl Strategy<Value = World> + use<> {
    let hashes: Vec<SpecHash> = pod
        .spec
        .containers
        .iter()
        .map(|container| container_hash(pod, container))
        .collect();
    let own_sandbox = sandbox_hash(pod);
    let moment = || {
        prop::option::of((0_u64..2000).prop_map(|seconds| start() - Duration::from_secs(seconds)))
    };
    let hash = move |own: SpecHash| prop_oneof![3 => Just(Some(own)), 1 => Just(Some(other_hash())), 1 => Just(None)];
    let sandbox = (moment(), any::<bool>(), hash(own_sandbox), 0_u32..3);
    let state = prop_oneof![
        1 => Just(State::Created),
        1 => Just(State::Removing),
        3 => moment().prop_map(|started_at| State::Running { started_at }),
        3 => (moment(), moment(), -1_i64..3, any::<bool>()).prop_map(|(started_at, finished_at, exit_code, oom_killed)| {
            State::Exited(Exit { exit_code, oom_killed, error: String::new(), started_at, finished_at })
        }),
    ];
    let instance = (0_usize..3, 0_usize..4, moment(), state).prop_flat_map(
        move |(name, sandbox, created_at, state)| {
            let own = hashes.get(name).copied().unwrap_or_else(other_hash);
            (
                Just(name),
                Just(sandbox),
                Just(created_at),
                Just(state),
                hash(own),
            )
        },
    );
    (
        prop::collection::vec(sandbox, 0..3),
        prop::collection::vec(instance, 0..8),
    )
        .prop_map(|(sandboxes, instances)| {
            let mut world = World::new();
            for (index, (created_at, running, hash, attempt)) in sandboxes.into_iter().enumerate() {
                let id = SandboxId(format!("p{index}"));
                world.seen.sandboxes.push(Sandbox {
                    id,
                    attempt,
                    created_at,
                    running,
                    ip: None,
                    hash,
                });
            }
            for (index, (name, sandbox, created_at, state, hash)) in
                instances.into_iter().enumerate()
            {
                let name = ["a", "b", "stray"][name].to_owned();
                // An attempt number names an instance, so no two have the same.
                let attempt = u32::try_from(index).expect("small");
                world.seen.instances.push(Instance {
                    id: ContainerId(format!("i{index}")),
                    sandbox: SandboxId(format!("p{sandbox}")),
                    name,
                    attempt,
                    created_at,
                    state,
                    image: String::new(),
                    image_id: String::new(),
                    hash,
                });
            }
            world
        })
}

/// The running instances that are as they should be.
fn untouchable(pod: &Pod, world: &World) -> Vec<ContainerId> {
    let Some(sandbox) = usable_sandbox(pod, &world.seen) else {
        return Vec::new();
    };
    let fine = |container: &Container| {
        let newest = world
            .seen
            .instances_of(&container.name)
            .first()
            .copied()
            .cloned()?;
        let unchanged = !newest.is_changed(container_hash(pod, container));
        (newest.is_running() && unchanged && newest.sandbox == sandbox.id).then_some(newest.id)
    };
    pod.spec.containers.iter().filter_map(fine).collect()
}

fn touched(step: &Step) -> Vec<ContainerId> {
    match step {
        Step::StopContainers { containers, .. } => {
            containers.iter().map(|stop| stop.id.clone()).collect()
        }
        Step::RemoveContainer { id, .. } => vec![id.clone()],
        _ => Vec::new(),
    }
}

pub(crate) fn any_case() -> impl Strategy<Value = (Pod, World)> {
    prop::sample::select(vec!["Always", "OnFailure", "Never"]).prop_flat_map(|policy| {
        let pod = pod(&format!("restartPolicy: {policy},"), "");
        let world = any_world(&pod);
        (Just(pod), world)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// With an engine that does as told the steps reach a rest, and a container that is as it should be is never touched.
    #[test]
    fn from_any_state_the_steps_reach_a_rest((pod, mut world) in any_case()) {
        let mut steps = Vec::new();
        loop {
            let step = world.decide(Wanted::Run(&pod));
            steps.push(world.show(&step));
            prop_assert!(steps.len() < 60, "{:?}", steps);
            for id in touched(&step) {
                prop_assert!(!untouchable(&pod, &world).contains(&id), "{:?}", steps);
            }
            match step {
                Step::Wait { until } => world.now = until,
                Step::Settled => {
                    let live = pod.spec.containers.iter().filter(|container| world.newest(&container.name).is_running()).count();
                    prop_assert!(live > 0, "{:?}", steps);
                    break;
                }
                Step::Finished { .. } => {
                    prop_assert!(!world.seen.instances.iter().any(Instance::is_running), "{:?}", steps);
                    break;
                }
                step => world.carry_out(&step),
            }
        }
        let sandboxes = world.seen.sandboxes.len();
        prop_assert!(sandboxes <= 1, "{} sandboxes are left", sandboxes);
        prop_assert!(world.seen.instances.iter().all(|instance| pod.container(&instance.name).is_some()));
        // The rest is one: the same question has the same answer.
        let again = world.decide(Wanted::Run(&pod));
        prop_assert_eq!(Some(&world.show(&again)), steps.last());
    }

    /// Whatever fails, a step that failed is not repeated before its back-off is over, and once nothing fails all is well.
    #[test]
    fn failures_are_never_repeated_at_once((pod, mut world) in any_case(), failing in prop::collection::vec(any::<bool>(), 0..40)) {
        let mut failing = failing.into_iter();
        let mut failed_at: Vec<(Step, SystemTime)> = Vec::new();
        for count in 0.. {
            prop_assert!(count < 200, "no end");
            let step = world.decide(Wanted::Run(&pod));
            if let Step::Wait { until } = step {
                prop_assert!(until > world.now);
                world.now = until;
                continue;
            }
            if is_rest(&step) {
                break;
            }
            for (earlier, at) in &failed_at {
                prop_assert!(*earlier != step || world.now >= *at + backoff::FIRST, "{:?} again", step);
            }
            if failing.next() == Some(true) {
                world.history.record(&step, &Outcome::Failed("no".to_owned()), world.now);
                failed_at.push((step, world.now));
            } else {
                world.carry_out(&step);
            }
        }
    }

    #[test]
    fn deletion_from_any_state_ends_with_nothing_left(mut world in any_world(&pod("", ""))) {
        let steps = world.settle(Wanted::Delete { grace: Duration::ZERO });
        prop_assert_eq!(steps.last().map(String::as_str), Some("gone"));
        prop_assert_eq!(&world.seen, &Observed::default());
    }
}
