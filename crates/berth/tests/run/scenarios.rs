//! What a user may expect of `berth run`, on any engine.

use std::process::Stdio;
use std::time::Instant;

use rustix::process::Signal;
use serde_json::Value;

use crate::engine::{Cleanup, Engine, Foreground, IMAGE};

/// A pod with one shell container for each script.
pub(crate) fn manifest(name: &str, policy: &str, grace: u32, scripts: &[(&str, &str)]) -> String {
    let containers: Vec<Value> = scripts
        .iter()
        .map(|(name, script)| {
            serde_json::json!({"name": name, "image": IMAGE, "imagePullPolicy": "IfNotPresent", "command": ["sh", "-c", script]})
        })
        .collect();
    serde_json::json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": "test"}},
        "spec": {"restartPolicy": policy, "terminationGracePeriodSeconds": grace, "containers": containers},
    })
    .to_string()
}

pub(crate) const SERVE: &str = "echo serving; trap 'exit 0' TERM; while true; do sleep 0.1; done";

pub(crate) fn a_job_runs_to_its_end_and_its_lines_are_shown(engine: &Engine) {
    let name = engine.name("job");
    let _cleanup = Cleanup(engine, name.clone());
    let ran = engine.run_manifest(
        &[],
        &manifest(
            &name,
            "Never",
            1,
            &[("a", "echo from a; echo to err >&2"), ("b", "echo from b")],
        ),
    );
    assert_eq!(ran.code, Some(0), "{ran:?}");
    for (line, bar) in [
        ("/a | from a", '|'),
        ("/a ! to err", '!'),
        ("/b | from b", '|'),
    ] {
        assert!(ran.out.contains(line), "no {line:?} ({bar}) in {ran:?}");
    }
    assert!(
        ran.err.contains("started container a") && ran.err.contains("exit code 0 (Completed)"),
        "{ran:?}"
    );
    let pod = engine.pod(&name).unwrap();
    assert_eq!(pod["status"]["phase"], "Succeeded");
    let logs = engine.run(&["logs", &name, "-c", "a"]).out;
    assert!(
        logs.contains("from a\n") && logs.contains("to err\n") && !logs.contains("from b"),
        "{logs}"
    );
}

pub(crate) fn a_job_that_fails_is_told_by_the_exit_code(engine: &Engine) {
    let name = engine.name("fails");
    let _cleanup = Cleanup(engine, name.clone());
    let ran = engine.run_manifest(&[], &manifest(&name, "Never", 1, &[("a", "exit 7")]));
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.err.contains("exit code 7 (Error)"), "{ran:?}");
    assert_eq!(engine.pod(&name).unwrap()["status"]["phase"], "Failed");
}

pub(crate) fn what_a_container_writes_is_shown_as_it_is(engine: &Engine) {
    let name = engine.name("bytes");
    let _cleanup = Cleanup(engine, name.clone());
    let script = r"printf '\033[31mred\033[0m and \000 and \a\n2026-11-26T19:15:45Z is text\n'";
    let ran = engine.run_manifest(&[], &manifest(&name, "Never", 1, &[("a", script)]));
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let written = engine.run(&["logs", &name]).out;
    assert!(
        written.contains("\x1b[31mred\x1b[0m and \0 and \x07\n"),
        "{written:?}"
    );
    let prefix = format!("{name}/a | ");
    let shown: String = ran
        .out
        .split_inclusive('\n')
        .map(|line| line.strip_prefix(&prefix).unwrap())
        .collect();
    assert_eq!(shown, written);
}

pub(crate) fn a_reader_that_does_not_read_holds_up_nothing_but_the_lines(engine: &Engine) {
    let name = engine.name("unread");
    let _cleanup = Cleanup(engine, name.clone());
    let word = "x".repeat(1000);
    let script = format!(
        "trap 'exit 0' TERM; i=0; while [ $i -lt 1000 ]; do echo {word}; i=$((i+1)); done; while true; do sleep 0.1; done"
    );
    let manifest = manifest(&name, "Always", 20, &[("a", &script)]);
    let mut berth = Foreground::run_to(Stdio::piped(), engine, &[], &manifest);
    let unread = berth.stdout();
    berth.until("started container a");
    // Nearly what a pipe holds: the next lines do not fit.
    while rustix::io::ioctl_fionread(&unread).unwrap() < 60_000 {}
    berth.signal(Signal::INT);
    berth.until("stopping container a");
    let (code, lines) = berth.end();
    assert_eq!(code, Some(130), "{lines:?}");
    assert_eq!(engine.pod(&name), None, "{lines:?}");
}

pub(crate) fn a_second_run_changes_nothing(engine: &Engine) {
    let name = engine.name("twice");
    let _cleanup = Cleanup(engine, name.clone());
    let manifest = manifest(&name, "Always", 1, &[("a", SERVE), ("b", SERVE)]);
    let first = engine.run_manifest(&["-d"], &manifest);
    assert_eq!(first.code, Some(0), "{first:?}");
    assert!(first.err.contains("nothing restarts them"), "{first:?}");
    let before = engine.ids(&name);
    let second = engine.run_manifest(&["-d"], &manifest);
    assert_eq!(second.code, Some(0), "{second:?}");
    assert!(
        second.err.contains("container a is running already") && !second.err.contains("started"),
        "{second:?}"
    );
    assert_eq!(engine.ids(&name), before);
}

pub(crate) fn a_detached_run_says_that_nothing_restarts_what_should_be(engine: &Engine) {
    for (policy, restarts) in [("Always", true), ("OnFailure", true), ("Never", false)] {
        let name = engine.name(&format!("detached-{}", policy.to_lowercase()));
        let _cleanup = Cleanup(engine, name.clone());
        let ran = engine.run_manifest(&["-d"], &manifest(&name, policy, 1, &[("a", SERVE)]));
        assert_eq!(ran.code, Some(0), "{ran:?}");
        assert_eq!(
            ran.err.contains("nothing restarts them"),
            restarts,
            "{policy}: {ran:?}"
        );
    }
}

pub(crate) fn only_the_container_that_changed_is_started_again(engine: &Engine) {
    let name = engine.name("changed");
    let _cleanup = Cleanup(engine, name.clone());
    let ran = engine.run_manifest(
        &["-d"],
        &manifest(&name, "Always", 1, &[("same", SERVE), ("other", SERVE)]),
    );
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let before = engine.ids(&name);
    let changed = format!("echo changed; {SERVE}");
    let ran = engine.run_manifest(
        &["-d"],
        &manifest(&name, "Always", 1, &[("same", SERVE), ("other", &changed)]),
    );
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(
        ran.err.contains("stopping container other") && ran.err.contains("its spec has changed"),
        "{ran:?}"
    );
    let after = engine.ids(&name);
    assert_eq!(before[0], after[0]);
    assert_ne!(before[1], after[1]);
    assert!(
        engine
            .run(&["logs", &name, "-c", "other"])
            .out
            .starts_with("changed\n")
    );
}

pub(crate) fn a_bad_manifest_starts_nothing_and_says_where(engine: &Engine) {
    let good = engine.name("good");
    let text = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {good}}}\nspec:\n  containers:\n  - {{name: a, image: {IMAGE}}}\n---\n\
         apiVersion: v1\nkind: Pod\nmetadata: {{name: bad}}\nspec:\n  containers:\n  - name: a\n    imagePullPolcy: Never\n    image: x\n"
    );
    let ran = engine.run_manifest(&["-d"], &text);
    assert_eq!(ran.code, Some(2), "{ran:?}");
    assert!(
        ran.err
            .contains("<stdin>:14:5: spec.containers[0].imagePullPolcy")
            && ran.err.contains("imagePullPolicy"),
        "{ran:?}"
    );
    assert_eq!(engine.pod(&good), None);
}

pub(crate) fn an_unsupported_field_is_refused_by_name_or_warned_about(engine: &Engine) {
    let name = engine.name("probe");
    let _cleanup = Cleanup(engine, name.clone());
    let text = manifest(&name, "Never", 1, &[("a", "true")]);
    let text = text.replace(
        "\"imagePullPolicy\"",
        "\"livenessProbe\":{\"exec\":{\"command\":[\"true\"]}},\"imagePullPolicy\"",
    );
    let refused = engine.run_manifest(&[], &text);
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(refused.err.contains("livenessProbe"), "{refused:?}");
    assert_eq!(engine.pod(&name), None);
    let warned = engine.run_manifest(&["--validate=warn"], &text);
    assert_eq!(warned.code, Some(0), "{warned:?}");
    assert!(
        warned.err.contains("warning:") && warned.err.contains("livenessProbe"),
        "{warned:?}"
    );
}

pub(crate) fn ctrl_c_stops_and_removes_what_was_made(engine: &Engine) {
    let name = engine.name("interrupted");
    let _cleanup = Cleanup(engine, name.clone());
    let mut berth = Foreground::run(engine, &[], &manifest(&name, "Always", 20, &[("a", SERVE)]));
    berth.until("started container a");
    // The trap has to be set before the signal can be caught.
    while !engine.run(&["logs", &name]).out.contains("serving") {}
    berth.signal(Signal::INT);
    let begun = Instant::now();
    let (code, lines) = berth.end();
    assert_eq!(code, Some(130), "{lines:?}");
    assert!(
        lines.iter().any(|line| line.contains("removed")),
        "{lines:?}"
    );
    assert!(
        begun.elapsed().as_secs() < 15,
        "a container that ends at SIGTERM was waited for: {lines:?}"
    );
    assert_eq!(engine.pod(&name), None);
}

pub(crate) fn a_second_ctrl_c_kills(engine: &Engine) {
    let name = engine.name("stubborn");
    let _cleanup = Cleanup(engine, name.clone());
    let stubborn = "echo serving; trap '' TERM; while true; do sleep 0.1; done";
    let mut berth = Foreground::run(
        engine,
        &[],
        &manifest(&name, "Always", 300, &[("a", stubborn)]),
    );
    berth.until("started container a");
    while !engine.run(&["logs", &name]).out.contains("serving") {}
    berth.signal(Signal::INT);
    berth.until("stopping container a");
    berth.signal(Signal::INT);
    let (code, lines) = berth.end();
    assert_eq!(code, Some(130), "{lines:?}");
    assert_eq!(engine.pod(&name), None);
}

pub(crate) fn ctrl_c_leaves_a_pod_that_was_there_before(engine: &Engine) {
    let name = engine.name("before");
    let _cleanup = Cleanup(engine, name.clone());
    let manifest = manifest(&name, "Always", 1, &[("a", SERVE)]);
    assert_eq!(engine.run_manifest(&["-d"], &manifest).code, Some(0));
    let before = engine.ids(&name);
    let mut berth = Foreground::run(engine, &[], &manifest);
    berth.until("running already");
    berth.signal(Signal::INT);
    let (code, lines) = berth.end();
    assert_eq!(code, Some(130), "{lines:?}");
    assert_eq!(engine.ids(&name), before);
}

pub(crate) fn ctrl_c_leaves_a_pod_that_was_there_and_had_ended(engine: &Engine) {
    let (crashed, finished, mine) = (
        engine.name("crashed"),
        engine.name("finished"),
        engine.name("mine"),
    );
    let _cleanup = [&crashed, &finished, &mine].map(|name| Cleanup(engine, name.clone()));
    let crashes = manifest(&crashed, "OnFailure", 1, &[("a", "exit 1")]);
    let ends = manifest(&finished, "Never", 1, &[("a", "true")]);
    assert_eq!(engine.run_manifest(&[], &ends).code, Some(0));
    // Left alone between two restarts: what is there does not run.
    let mut berth = Foreground::run(engine, &[], &crashes);
    berth.until("trying again");
    berth.signal(Signal::KILL);
    drop(berth);
    let serves = manifest(&mine, "Always", 1, &[("a", SERVE)]);
    let mut berth = Foreground::run(engine, &[], &[crashes, ends, serves].join("\n---\n"));
    berth.until(&format!("pod {mine}: started container a"));
    berth.signal(Signal::INT);
    let (code, lines) = berth.end();
    assert_eq!(code, Some(130), "{lines:?}");
    assert!(engine.pod(&crashed).is_some(), "{lines:?}");
    assert!(engine.pod(&finished).is_some(), "{lines:?}");
    assert_eq!(engine.pod(&mine), None, "{lines:?}");
}

pub(crate) fn ctrl_c_removes_a_pod_of_the_run_that_has_finished(engine: &Engine) {
    let (job, web) = (engine.name("job"), engine.name("web"));
    let _cleanup = [&job, &web].map(|name| Cleanup(engine, name.clone()));
    let both = format!(
        "{}\n---\n{}",
        manifest(&job, "Never", 1, &[("a", "true")]),
        manifest(&web, "Always", 1, &[("a", SERVE)])
    );
    let mut berth = Foreground::run(engine, &[], &both);
    berth.until("exit code 0 (Completed)");
    // Its worker ends once the sandbox has stopped.
    while engine.pod(&job).unwrap()["status"]["phase"] != "Succeeded" {}
    berth.signal(Signal::INT);
    let (code, lines) = berth.end();
    assert_eq!(code, Some(130), "{lines:?}");
    assert_eq!(engine.pod(&job), None, "{lines:?}");
    assert_eq!(engine.pod(&web), None, "{lines:?}");
}

pub(crate) fn a_pod_that_is_deleted_elsewhere_is_not_made_again(engine: &Engine) {
    let name = engine.name("elsewhere");
    let _cleanup = Cleanup(engine, name.clone());
    for flags in [
        &[][..],
        &["--force"],
        &["--force", "--grace-period=0"],
        &["--grace-period=1"],
    ] {
        let mut berth =
            Foreground::run(engine, &[], &manifest(&name, "Always", 5, &[("a", SERVE)]));
        berth.until("started container a");
        let deleted = engine.run(&[&["delete", "pod", &name], flags].concat());
        assert_eq!(deleted.code, Some(0), "{deleted:?}");
        let (code, lines) = berth.end();
        assert_eq!(code, Some(1), "{lines:?}");
        assert!(
            lines
                .iter()
                .any(|line| line.contains("somebody else removed it")),
            "{lines:?}"
        );
        assert_eq!(engine.pod(&name), None, "{lines:?}");
    }
}

pub(crate) fn rm_removes_a_finished_pod(engine: &Engine) {
    let name = engine.name("rm");
    let _cleanup = Cleanup(engine, name.clone());
    let ran = engine.run_manifest(
        &["--rm"],
        &manifest(&name, "Never", 1, &[("a", "echo done")]),
    );
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.out.contains("done"), "{ran:?}");
    assert_eq!(engine.pod(&name), None);
}

pub(crate) fn pods_are_shown_in_every_format(engine: &Engine) {
    let name = engine.name("formats");
    let _cleanup = Cleanup(engine, name.clone());
    assert_eq!(
        engine
            .run_manifest(&["-d"], &manifest(&name, "Always", 1, &[("a", SERVE)]))
            .code,
        Some(0)
    );
    let table = engine.run(&["get", "pods", &name]).out;
    let mut lines = table.lines();
    assert_eq!(
        lines.next().unwrap().split_whitespace().collect::<Vec<_>>(),
        ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]
    );
    assert_eq!(
        lines
            .next()
            .unwrap()
            .split_whitespace()
            .take(4)
            .collect::<Vec<_>>(),
        [name.as_str(), "1/1", "Running", "0"]
    );
    let wide = engine.run(&["get", "pods", &name, "-o", "wide"]).out;
    assert!(wide.contains("IP") && wide.contains("NODE"), "{wide}");
    assert_eq!(
        engine.run(&["get", "pod", &name, "-o", "name"]).out,
        format!("pod/{name}\n")
    );
    let yaml = engine.run(&["get", "pod", &name, "-o", "yaml"]).out;
    assert!(
        yaml.contains("kind: Pod") && yaml.contains("phase: Running"),
        "{yaml}"
    );
    let all: Value =
        serde_json::from_str(&engine.run(&["get", "pods", "-A", "-o", "json"]).out).unwrap();
    let names: Vec<&str> = all["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|pod| pod["metadata"]["name"].as_str())
        .collect();
    assert!(
        all["kind"] == "List" && names.contains(&name.as_str()),
        "{names:?}"
    );
    assert_eq!(engine.run(&["get", "pods", "-n", "elsewhere"]).out, "");
    // What is shown can be run again, and is the same pod.
    let before = engine.ids(&name);
    let again = engine.run_manifest(&["-d", "--validate=warn"], &yaml);
    assert_eq!(again.code, Some(0), "{again:?}");
    assert_eq!(engine.ids(&name), before);
}

pub(crate) fn a_manifest_is_read_from_standard_input(engine: &Engine) {
    let (one, two) = (engine.name("one"), engine.name("two"));
    let _cleanup = (Cleanup(engine, one.clone()), Cleanup(engine, two.clone()));
    let both = format!(
        "{}\n---\n{}",
        manifest(&one, "Never", 1, &[("a", "echo 1")]),
        manifest(&two, "Never", 1, &[("a", "echo 2")])
    );
    let ran = engine.run_manifest(&[], &both);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(
        ran.out.contains(&format!("{one}/a | 1")) && ran.out.contains(&format!("{two}/a | 2")),
        "{ran:?}"
    );
}

pub(crate) fn delete_is_told_what_is_not_there(engine: &Engine) {
    let name = engine.name("nobody");
    let ran = engine.run(&["delete", "pod", &name]);
    assert_eq!(ran.code, Some(3), "{ran:?}");
    assert!(ran.err.contains(&name), "{ran:?}");
    assert_eq!(
        engine
            .run(&["delete", "pod", &name, "--ignore-not-found"])
            .code,
        Some(0)
    );
    assert_eq!(engine.run(&["get", "pod", &name]).code, Some(3));
    assert_eq!(engine.run(&["logs", &name]).code, Some(3));
}

pub(crate) fn facts_of_the_pod_reach_the_environment(engine: &Engine) {
    let name = engine.name("facts");
    let _cleanup = Cleanup(engine, name.clone());
    let text = manifest(
        &name,
        "Never",
        1,
        &[("a", "echo $POD in $NAMESPACE at $IP said $WORD")],
    );
    let field = |path: &str| format!("\"valueFrom\":{{\"fieldRef\":{{\"fieldPath\":\"{path}\"}}}}");
    let env = format!(
        "\"env\":[{{\"name\":\"POD\",{}}},{{\"name\":\"NAMESPACE\",{}}},{{\"name\":\"IP\",{}}},{{\"name\":\"WORD\",\"value\":\"$(POD)!\"}}],",
        field("metadata.name"),
        field("metadata.namespace"),
        field("status.podIP")
    );
    let ran = engine.run_manifest(
        &["--rm"],
        &text.replace("\"imagePullPolicy\"", &format!("{env}\"imagePullPolicy\"")),
    );
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let line = ran
        .out
        .lines()
        .find(|line| line.contains(" said "))
        .unwrap_or_default();
    assert!(
        line.contains(&format!("{name} in default at "))
            && line.ends_with(&format!("said {name}!")),
        "{ran:?}"
    );
    let ip = line
        .split(" at ")
        .nth(1)
        .unwrap()
        .split(' ')
        .next()
        .unwrap();
    assert!(ip.parse::<std::net::IpAddr>().is_ok(), "{ran:?}");
}

pub(crate) fn a_container_that_cannot_start_says_why(engine: &Engine) {
    let name = engine.name("nocommand");
    let _cleanup = Cleanup(engine, name.clone());
    let text = manifest(&name, "Never", 1, &[("a", "x")])
        .replace("\"sh\",\"-c\",\"x\"", "\"/no/such/program\"");
    let ran = engine.run_manifest(&["-d"], &text);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(
        ran.err.contains("/no/such/program") && ran.err.contains("berth delete pod"),
        "{ran:?}"
    );
}

pub(crate) fn a_killed_berth_leaves_containers_that_the_next_one_finds(engine: &Engine) {
    let name = engine.name("killed");
    let _cleanup = Cleanup(engine, name.clone());
    let manifest = manifest(&name, "Always", 1, &[("a", SERVE), ("b", SERVE)]);
    // Killed at different points of the start; the next one ends with the same pod, whatever it finds.
    for words in [
        "sandbox started",
        "started container a",
        "started container b",
    ] {
        let mut berth = Foreground::run(engine, &[], &manifest);
        if words == "sandbox started" {
            berth.until(words);
        }
        berth.signal(Signal::KILL);
        drop(berth);
    }
    let ran = engine.run_manifest(&["-d"], &manifest);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let ids = engine.ids(&name);
    assert_eq!(ids.len(), 2);
    assert!(ids.iter().all(|(_, id)| !id.is_empty()));
    let pod = engine.pod(&name).unwrap();
    assert_eq!(pod["status"]["phase"], "Running");
    assert_eq!(engine.run(&["delete", "pod", &name]).code, Some(0));
    assert_eq!(engine.pod(&name), None);
}
