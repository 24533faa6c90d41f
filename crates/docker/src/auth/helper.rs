//! Owns one run of a docker credential helper: `docker-credential-NAME get` with the registry on its standard input, JSON or a refusal on
//! its standard output (<https://github.com/docker/docker-credential-helpers>).
//!
//! Whatever the helper does, the run ends by its deadline, reads a bounded amount and leaves no process: the helper is the leader of a
//! process group that is killed unless the helper ended by itself. Nothing that may be a secret is repeated in an error.

use std::ffi::OsStr;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

use super::Credentials;
use crate::config_error::ConfigError;
use crate::config_file::{from_go_json, read_json};

/// What helpers answer when they have nothing for the registry; the same text in all that use Docker's library.
const NOT_FOUND: &str = "credentials not found in native keychain";

/// The user name that marks a secret as an identity token.
const TOKEN_USER: &str = "<token>";

/// The most that is read of a helper's answer, in bytes. Tokens of clouds have some kilobytes.
const MAX_ANSWER: usize = 1024 * 1024;

/// The most that is kept of what a helper says on standard error, in bytes; the rest is read and dropped.
const MAX_WORDS: usize = 64 * 1024;

/// The longest name of a helper, in bytes.
const MAX_NAME: usize = 64;

from_go_json! {
    struct Answer {
        username: String = "username",
        secret: String = "secret",
    }
}

/// Asks the helper `name` for `registry`. `None` when it has nothing. Cancel safe: dropping the future kills the helper.
pub(super) async fn get(
    name: &str,
    registry: &str,
    search_path: Option<&OsStr>,
    deadline: Duration,
) -> Result<Option<Credentials>, ConfigError> {
    let fine = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
    // A name is half of a program's: it must not lead out of the search path.
    if !(1..=MAX_NAME).contains(&name.len())
        || !name.bytes().all(fine)
        || name.starts_with(['-', '.'])
    {
        return Err(ConfigError::value(
            "credential helper",
            name,
            "must be 1 to 64 letters, digits, `-`, `.` and `_`, first a letter or digit",
        ));
    }
    let program = format!("docker-credential-{name}");
    let failed = |rule: String, stderr: &[u8]| {
        ConfigError::helper(&program, registry, rule, &String::from_utf8_lossy(stderr))
    };
    let Some(path) = find(&program, search_path) else {
        return Err(failed(
            "cannot be run: there is no such program in PATH".to_owned(),
            b"",
        ));
    };
    let mut run =
        Run::start(&path).map_err(|error| failed(format!("cannot be run: {error}"), b""))?;
    let ended = tokio::time::timeout(deadline, run.talk(registry)).await;
    let words = std::mem::take(&mut run.words);
    match ended {
        Err(_) => Err(failed(
            format!("gave no answer within {deadline:?} and was killed"),
            &words,
        )),
        Ok(Err(error)) => Err(failed(format!("could not be talked to: {error}"), &words)),
        Ok(Ok(None)) => Err(failed(
            format!("answered more than {MAX_ANSWER} bytes and was killed"),
            &words,
        )),
        Ok(Ok(Some(status))) => interpret(status, &run.answer, &words)
            .map_err(|rule| failed(rule, &words))
            .map(|found| Some(found?.for_server(registry))),
    }
}

/// The first executable file of that name in the absolute directories of the search path. Relative ones are passed over: what runs would
/// depend on the working directory.
fn find(program: &str, search_path: Option<&OsStr>) -> Option<PathBuf> {
    let executable = |path: &PathBuf| {
        std::fs::metadata(path)
            .is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
    };
    std::env::split_paths(search_path?)
        .filter(|dir| dir.is_absolute())
        .map(|dir| dir.join(program))
        .find(executable)
}

/// A running helper. Dropping it kills its process group.
struct Run {
    child: Child,
    /// The group to be killed; `None` once the helper has ended and its number may be another's.
    group: Option<Pid>,
    answer: Vec<u8>,
    words: Vec<u8>,
}

impl Run {
    fn start(path: &PathBuf) -> io::Result<Self> {
        let child = Command::new(path)
            .arg("get")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            // So that tokio reaps it.
            .kill_on_drop(true)
            .spawn()?;
        let group = child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?));
        Ok(Self {
            child,
            group,
            answer: Vec::new(),
            words: Vec::new(),
        })
    }

    /// Writes the registry, reads to the end. `None` when the answer is too long.
    async fn talk(&mut self, registry: &str) -> io::Result<Option<ExitStatus>> {
        let (Some(mut stdin), Some(mut stdout), Some(mut stderr)) = (
            self.child.stdin.take(),
            self.child.stdout.take(),
            self.child.stderr.take(),
        ) else {
            return Err(io::Error::other("a pipe is missing"));
        };
        // It fits in the pipe. A helper that reads nothing may be gone already; its exit status tells.
        let _ = stdin.write_all(registry.as_bytes()).await;
        drop(stdin);
        let (mut answering, mut talking) = (true, true);
        let mut words = [0; 4096];
        let status = loop {
            tokio::select! {
                read = stdout.read_buf(&mut self.answer), if answering => {
                    answering = read? > 0;
                    if self.answer.len() > MAX_ANSWER {
                        return Ok(None);
                    }
                }
                read = stderr.read(&mut words), if talking => {
                    let count = read?;
                    talking = count > 0;
                    let room = MAX_WORDS - self.words.len();
                    self.words.extend_from_slice(&words[..count.min(room)]);
                }
                status = self.child.wait() => break status?,
            }
        };
        self.group = None;
        // A pipe may stay open in a daemon that the helper left behind, so its end is not waited for. What the helper wrote is in it.
        drain(&stderr, &mut self.words, MAX_WORDS)?;
        drain(&stdout, &mut self.answer, MAX_ANSWER + 1)?;
        Ok(if self.answer.len() > MAX_ANSWER {
            None
        } else {
            Some(status)
        })
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if let Some(group) = self.group {
            // It can only fail when nobody is left.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// Reads what is in the pipe without waiting, until `read` has `most` bytes.
fn drain(pipe: &impl AsFd, read: &mut Vec<u8>, most: usize) -> io::Result<()> {
    let mut chunk = [0; 4096];
    while read.len() < most {
        let room = chunk.len().min(most - read.len());
        match rustix::io::read(pipe, &mut chunk[..room]) {
            Ok(0) | Err(Errno::AGAIN) => break,
            Ok(count) => read.extend_from_slice(&chunk[..count]),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// What a helper that ended means, or what is wrong with it.
fn interpret(
    status: ExitStatus,
    answer: &[u8],
    words: &[u8],
) -> Result<Option<Credentials>, String> {
    if !status.success() {
        if [answer, words]
            .iter()
            .any(|text| text.trim_ascii() == NOT_FOUND.as_bytes())
        {
            return Ok(None);
        }
        // Helpers give their reason on standard output. If it may be the JSON of an answer, it is not repeated.
        let reason = String::from_utf8_lossy(answer.trim_ascii());
        return Err(match reason.as_ref() {
            "" => format!("failed ({status})"),
            reason if reason.len() > 500 || reason.contains(['{', '"']) => {
                format!("failed ({status})")
            }
            reason => format!("failed ({status}) with {reason:?}"),
        });
    }
    if answer.trim_ascii().is_empty() {
        return Err("answered nothing".to_owned());
    }
    let Answer { username, secret } = read_json(answer).map_err(|fault| {
        format!(
            "answered what is not the JSON of credentials ({} bytes, line {}, column {})",
            answer.len(),
            fault.line,
            fault.column
        )
    })?;
    let found = if username == TOKEN_USER {
        Credentials::identity_token(secret)
    } else {
        Credentials::password(username, secret)
    };
    Ok(Some(found).filter(|found| !found.is_empty()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use proptest::prelude::*;

    use super::*;

    fn ended(code: i32, answer: &str, words: &str) -> Result<Option<Credentials>, String> {
        interpret(
            ExitStatus::from_raw(code << 8),
            answer.as_bytes(),
            words.as_bytes(),
        )
    }

    #[test]
    fn an_answer_is_a_password_or_an_identity_token() {
        assert_eq!(
            ended(0, r#"{"ServerURL":"r","Username":"me","Secret":"s"}"#, ""),
            Ok(Some(Credentials::password("me", "s")))
        );
        assert_eq!(
            ended(0, r#"{"username":"<token>","SECRET":"t"}"#, "chatter"),
            Ok(Some(Credentials::identity_token("t")))
        );
    }

    #[test]
    fn nothing_found_is_no_failure() {
        assert_eq!(
            ended(1, "credentials not found in native keychain\n", ""),
            Ok(None)
        );
        assert_eq!(
            ended(1, "", " credentials not found in native keychain"),
            Ok(None)
        );
        assert_eq!(
            ended(0, r#"{"ServerURL":"","Username":"","Secret":""}"#, ""),
            Ok(None)
        );
    }

    #[test]
    fn a_failure_gives_the_reason_but_nothing_like_an_answer() {
        assert_eq!(
            ended(1, "The key ring is locked\n", ""),
            Err("failed (exit status: 1) with \"The key ring is locked\"".into())
        );
        assert_eq!(
            ended(3, r#"{"Secret":"hunter2"}"#, ""),
            Err("failed (exit status: 3)".into())
        );
        assert_eq!(
            ended(3, r#""Secret":"hunter2""#, ""),
            Err("failed (exit status: 3)".into())
        );
        assert!(
            interpret(ExitStatus::from_raw(9), b"", b"")
                .is_err_and(|rule| rule.contains("signal: 9"))
        );
        // The text must be the whole answer: one that quotes it is another failure.
        assert!(ended(1, "no store: credentials not found in native keychain", "").is_err());
        assert!(ended(0, "credentials not found in native keychain", "").is_err());
        assert_eq!(ended(0, "\n", ""), Err("answered nothing".into()));
    }

    #[test]
    fn garbage_is_named_by_size_and_place_and_not_repeated() {
        for garbage in [
            "hunter2",
            r#"{"Secret":["hunter2"]}"#,
            r#"{"Secret":"hunter2""#,
            "[\"hunter2\"]",
            "\0\u{1}hunter2",
        ] {
            let rule = ended(0, garbage, "").expect_err(garbage);
            assert!(
                rule.starts_with(&format!(
                    "answered what is not the JSON of credentials ({} bytes, ",
                    garbage.len()
                )),
                "{rule}"
            );
            assert!(!rule.contains("hunter2"), "{rule}");
        }
    }

    proptest! {
        #[test]
        fn any_answer_is_credentials_nothing_or_a_failure(code in 0..3i32, answer: Vec<u8>, words: Vec<u8>) {
            let _ = interpret(ExitStatus::from_raw(code << 8), &answer, &words);
        }
    }
}
