//! The same commands give the same output here and on a real engine with busybox.

use crate::client::{create, engine, output, wait};
use serde_json::json;

async fn check(script: &str, expected: (i64, &str, &str)) {
    let (code, stdout, stderr) = output(&engine(), script).await;
    assert_eq!(
        (code, stdout.as_str(), stderr.as_str()),
        expected,
        "{script}"
    );
}

#[tokio::test]
async fn control_flow_and_exit_codes() {
    check(
        "echo a; false || echo b; true && exit 3; echo never",
        (3, "a\nb\n", ""),
    )
    .await;
    check(
        "for i in 1 2 3; do [ $i = 2 ] && continue; echo $i; done",
        (0, "1\n3\n", ""),
    )
    .await;
    check(
        "i=0; while true; do i=$((i+1)); if [ $i -ge 3 ]; then break; fi; done; echo $i",
        (0, "3\n", ""),
    )
    .await;
    check(
        "until false; do break; done; (exit 4); echo $?",
        (0, "4\n", ""),
    )
    .await;
    check("! true; echo $?; ! false; echo $?", (0, "1\n0\n", "")).await;
    check(
        "set -e; false || true; if false; then :; fi; echo on; false; echo off",
        (1, "on\n", ""),
    )
    .await;
}

#[tokio::test]
async fn words_are_expanded_and_split() {
    check(
        "A='x  y'; echo $A \"$A\" '$A' ${B:-none}",
        (0, "x y x  y $A none\n", ""),
    )
    .await;
    check(
        "echo $(echo a; echo b) `echo c` $((2 * (3 + 4) % 5))",
        (0, "a b c 4\n", ""),
    )
    .await;
    check("A=1 env | grep ^A=; echo \"[$A]\"", (0, "A=1\n[]\n", "")).await;
    check(
        "touch /tmp/b /tmp/a; echo /tmp/* '/tmp/*'",
        (0, "/tmp/a /tmp/b /tmp/*\n", ""),
    )
    .await;
}

#[tokio::test]
async fn a_word_takes_the_place_of_a_parameter() {
    check(
        "echo ${A-x} ${A+y} ${A:+z}; A=; echo ${A-x}.${A:-w}.${A+y}.${A:+z}; A=1; echo ${A+y} ${A:+z}",
        (0, "x\n.w.y.\ny z\n", ""),
    )
    .await;
    check(
        "echo ${B:=q} $B ${C=r} $C; echo ${D?gone}; echo no",
        (2, "q q r r\n", "sh: D: gone\n"),
    )
    .await;
}

#[tokio::test]
async fn files_keep_mode_and_owner() {
    check(
        "echo a > /tmp/a; chmod 640 /tmp/a; chown 5:6 /tmp/a; echo b >> /tmp/a; ls -l /tmp | grep -c '^-rw-r-----    1 5        6 '",
        (0, "1\n", ""),
    )
    .await;
    check(
        "stty size",
        (
            1,
            "",
            "stty: standard input: Inappropriate ioctl for device\n",
        ),
    )
    .await;
}

#[tokio::test]
async fn pipes_and_files() {
    check("seq 1 100 | tail -n 2 | cat", (0, "99\n100\n", "")).await;
    check("yes | head -n 2; echo $?", (0, "y\ny\n0\n", "")).await;
    check(
        "echo x > /tmp/f; echo y >> /tmp/f; cat /tmp/f; wc -c < /tmp/f",
        (0, "x\ny\n4\n", ""),
    )
    .await;
    check(
        "cat /nope 2> /tmp/e; cat /tmp/e >&2",
        (
            0,
            "",
            "cat: can't open '/nope': No such file or directory\n",
        ),
    )
    .await;
    check(
        "echo a b c | while read x y; do echo \"$y|$x\"; done",
        (0, "b c|a\n", ""),
    )
    .await;
    check("head -c 100000 /dev/zero | wc -c", (0, "100000\n", "")).await;
    check(
        "mkdir -p /a/b; cd /a; pwd; ls; rm b; rm -r b; ls | wc -l",
        (0, "/a\nb\n0\n", "rm: 'b' is a directory\n"),
    )
    .await;
    check(
        "ln -s /etc/passwd /l; grep -c root /l; [ -L /l ] && echo link",
        (0, "1\nlink\n", ""),
    )
    .await;
}

#[tokio::test]
async fn what_is_not_there_is_said() {
    check("nope", (127, "", "sh: nope: not found\n")).await;
    check(
        "if",
        (
            2,
            "",
            "sh: syntax error: unexpected end of file (expecting \"then\")\n",
        ),
    )
    .await;
    check(
        "echo x > /no/such",
        (1, "", "sh: can't create /no/such: nonexistent directory\n"),
    )
    .await;
    let (code, _, stderr) = output(&engine(), "ls -Z").await;
    assert_eq!((code, stderr.contains("-Z")), (1, true), "{stderr}");
}

#[tokio::test(start_paused = true)]
async fn jobs_and_traps() {
    check("trap 'echo bye' EXIT; exit 5", (5, "bye\n", "")).await;
    check(
        "(sleep 1; echo late) & echo early; wait; echo done",
        (0, "early\nlate\ndone\n", ""),
    )
    .await;
    let before = tokio::time::Instant::now();
    check("sleep 1.5; sleep 1 1m", (0, "", "")).await;
    assert_eq!(before.elapsed().as_millis(), 62_500);
}

#[tokio::test]
async fn endless_and_deep_input_ends() {
    let engine = engine();
    for script in [
        "f() { f; }; f",
        "eval eval eval eval",
        "x=$(yes); echo ${#x}",
        "sh -c 'sh -c \"sh -c true\"'",
    ] {
        let id = create(&engine, "", json!({ "Cmd": ["sh", "-c", script] })).await;
        crate::client::act(&engine, "POST", &format!("/containers/{id}/start")).await;
        wait(&engine, &id).await;
    }
    let nested = format!("{}true", "sh -c ".repeat(200));
    let (code, ..) = output(&engine, &format!("eval '{}'", nested)).await;
    assert_eq!(code, 0);
    let (code, _, stderr) = output(&engine, "x='eval $x'; eval $x").await;
    assert_eq!(
        (code, stderr.as_str()),
        (2, "sh: shells are nested too deeply\n")
    );
}
