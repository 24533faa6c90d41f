//! Owns scripts: what a process that is only pretended does, and which processes they stand for. Runs nothing.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::fault::duration_text;
use crate::signals;

/// What a container's process, or an exec, does instead of being interpreted.
///
/// As JSON:
///
/// ```json
/// {
///   "when": {"image": "example/web:*"},
///   "steps": [{"print": "listening\n"}, {"cpu": 0.25}, {"memory": 67108864}, "wait"],
///   "signals": {"TERM": {"print": "bye\n", "exit": 0}}
/// }
/// ```
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Script {
    /// Which processes it stands for.
    #[serde(default)]
    pub when: Match,
    /// What the process does, in order; after the last step it exits with 0.
    pub steps: Vec<Step>,
    /// What it does on a signal, by name (`TERM`); other signals end it as the kernel does, with 128 plus the number.
    #[serde(default)]
    pub signals: BTreeMap<String, OnSignal>,
}

/// Which processes a script stands for; everything given must fit. Texts may hold `*` for any characters.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Match {
    /// The image as the container was created with, such as `busybox:latest`.
    pub image: Option<String>,
    /// The container's name.
    pub name: Option<String>,
    /// Program and arguments, joined by spaces.
    pub command: Option<String>,
    /// Whether it stands for execs instead of a container's first process.
    pub exec: bool,
    /// A test of program and arguments; only for scripts made in code.
    #[serde(skip)]
    pub predicate: Option<Predicate>,
}

/// A test of a command's program and arguments.
pub type Predicate = Arc<dyn Fn(&[String]) -> bool + Send + Sync>;

impl fmt::Debug for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Match")
            .field("image", &self.image)
            .field("name", &self.name)
            .field("command", &self.command)
            .field("exec", &self.exec)
            .field("predicate", &self.predicate.is_some())
            .finish()
    }
}

/// One step of a script.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Step {
    /// Writes to stdout.
    Print(String),
    /// Writes to stderr.
    PrintErr(String),
    /// Waits, on the engine's clock.
    Sleep(#[serde(with = "duration_text")] Duration),
    /// Uses this many cores from now on, as stats show it.
    Cpu(f64),
    /// Uses this many bytes of memory from now on, as stats show it.
    Memory(u64),
    /// Sets the health status: `starting`, `healthy` or `unhealthy`.
    Health(Health),
    /// Copies stdin to stdout until stdin ends.
    Cat,
    /// Waits until a signal ends the process.
    Wait,
    /// Writes a file.
    Write {
        /// Its absolute path; directories above it are made.
        path: String,
        /// Its content.
        text: String,
    },
    /// Repeats steps.
    Repeat {
        /// How often; for ever if absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        times: Option<u64>,
        /// The steps.
        steps: Vec<Step>,
    },
    /// Ends with this exit code.
    Exit(i64),
    /// Is killed by the kernel for want of memory: exit code 137 and `OOMKilled`.
    OomKill,
    /// Does not start at all: the start request fails with this message. Counts only as the first step.
    FailStart(String),
}

/// A container's health.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// Within the start period, nothing known yet.
    Starting,
    /// The last check passed.
    Healthy,
    /// As many checks failed in a row as `Retries` says.
    Unhealthy,
}

impl Health {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        }
    }
}

/// What a script does on a signal.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OnSignal {
    /// First waits this long, on the engine's clock.
    #[serde(with = "duration_text", skip_serializing_if = "Duration::is_zero")]
    pub after: Duration,
    /// Then writes this to stdout.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub print: String,
    /// Then exits with this code; without it the process goes on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit: Option<i64>,
}

/// A script file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ScriptError {
    /// The text is not a list of scripts.
    #[error("the scripts are not valid JSON for a list of scripts: {0}")]
    Syntax(#[from] serde_json::Error),
    /// A signal name is not known.
    #[error("script {index}: {name:?} is not a signal; write TERM, INT, USR1, …")]
    Signal {
        /// Which script of the list, from 0.
        index: usize,
        /// The name.
        name: String,
    },
}

impl Script {
    /// A script for the first process of containers of an image (`busybox:*`).
    pub fn for_image(image: impl Into<String>, steps: Vec<Step>) -> Self {
        Self {
            when: Match {
                image: Some(image.into()),
                ..Match::default()
            },
            steps,
            signals: BTreeMap::new(),
        }
    }

    /// A script for the first process of the containers with this name.
    pub fn for_name(name: impl Into<String>, steps: Vec<Step>) -> Self {
        Self {
            when: Match {
                name: Some(name.into()),
                ..Match::default()
            },
            steps,
            signals: BTreeMap::new(),
        }
    }

    /// A script for the execs of a command (`cat /etc/*`).
    pub fn for_exec(command: impl Into<String>, steps: Vec<Step>) -> Self {
        let when = Match {
            command: Some(command.into()),
            exec: true,
            ..Match::default()
        };
        Self {
            when,
            steps,
            signals: BTreeMap::new(),
        }
    }

    /// The same script with an answer to a signal.
    #[must_use]
    pub fn on_signal(mut self, name: impl Into<String>, action: OnSignal) -> Self {
        self.signals.insert(name.into(), action);
        self
    }

    /// Reads a JSON list of scripts.
    ///
    /// # Errors
    ///
    /// Says where the text is wrong, or which signal of which script is not known.
    pub fn parse_list(text: &str) -> Result<Vec<Self>, ScriptError> {
        let scripts: Vec<Self> = serde_json::from_str(text)?;
        for (index, script) in scripts.iter().enumerate() {
            if let Some(name) = script
                .signals
                .keys()
                .find(|name| signals::parse(name).is_none())
            {
                return Err(ScriptError::Signal {
                    index,
                    name: name.clone(),
                });
            }
        }
        Ok(scripts)
    }

    pub(crate) fn fits(&self, image: &str, name: &str, argv: &[String], exec: bool) -> bool {
        let fits =
            |pattern: &Option<String>, text: &str| pattern.as_ref().is_none_or(|p| glob(p, text));
        let tagged = crate::reference::Reference::parse(image)
            .map(|r| r.tagged().familiar())
            .unwrap_or_default();
        self.when.exec == exec
            && (fits(&self.when.image, image) || fits(&self.when.image, &tagged))
            && fits(&self.when.name, name)
            && fits(&self.when.command, &argv.join(" "))
            && self
                .when
                .predicate
                .as_ref()
                .is_none_or(|predicate| predicate(argv))
    }
}

/// Whether `text` fits a pattern in which `*` stands for any characters.
pub(crate) fn glob(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    let mut star = None;
    while t < text.len() {
        if pattern.get(p) == Some(&b'*') {
            star = Some((p, t));
            p += 1;
        } else if pattern.get(p) == Some(&text[t]) {
            p += 1;
            t += 1;
        } else if let Some((star_p, star_t)) = star {
            star = Some((star_p, star_t + 1));
            p = star_p + 1;
            t = star_t + 1;
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|b| *b == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_characters() {
        assert!(glob("a*c", "abbc") && glob("*", "") && glob("a*b*", "aXbY") && glob("a", "a"));
        assert!(!glob("a*c", "abb") && !glob("a", "ab") && !glob("", "a"));
    }

    #[test]
    fn a_script_reads_from_json_and_names_its_mistakes() {
        let text = r#"[{"when":{"image":"web:*"},"steps":[{"print":"hi"},{"sleep":"1.5s"},"wait"],
            "signals":{"TERM":{"exit":0}}}]"#;
        let scripts = Script::parse_list(text).unwrap();
        assert_eq!(
            scripts[0].steps[1],
            Step::Sleep(Duration::from_millis(1500))
        );
        assert!(scripts[0].fits("web:1", "x", &[], false));
        assert!(!scripts[0].fits("web:1", "x", &[], true));
        let wrong = Script::parse_list(r#"[{"steps":[],"signals":{"TERMINATE":{}}}]"#).unwrap_err();
        assert!(wrong.to_string().contains("TERMINATE"));
        assert!(Script::parse_list(r#"[{"steps":[{"prnt":"x"}]}]"#).is_err());
    }
}
