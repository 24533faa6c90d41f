//! Owns execution: a shell's state, what each command does, traps, jobs. Reads no text (see `parse`) and knows no
//! program (see `applets`).

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use tokio::task::JoinSet;

use super::applets;
use super::io::{Sink, Source};
use super::parse::{Command, Redirect, Target, Word, parse};
use super::variables::{Variable, Variables};
use crate::clock::Nanos;
use crate::files::{FileError, clean};
use crate::log::StreamId;
use crate::process::Process;
use crate::signals::{Disposition, INT};

/// What a pipe between two commands holds, in writes.
const PIPE_DEPTH: usize = 16;
/// The processor time of a command, which stats show: about that of a command of busybox' shell itself.
const COMMAND_COST: Nanos = 2_000;
/// Shells and `eval`s within each other.
pub(super) const NESTING_LIMIT: usize = 40;

/// The standard streams of a command.
#[derive(Clone, Debug)]
pub(crate) struct Io {
    pub(crate) stdin: Source,
    pub(crate) stdout: Sink,
    pub(crate) stderr: Sink,
}

/// What comes after a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    Next,
    Exit(i64),
    Break,
    Continue,
}

/// One shell: of a container's first process, of an exec, or a subshell of one.
pub(crate) struct Shell {
    pub(crate) process: Arc<Process>,
    pub(crate) variables: Variables,
    /// `$0`, `$1`, …
    pub(crate) arguments: Vec<String>,
    pub(crate) directory: String,
    /// `$?`
    pub(crate) last: i64,
    /// `$!`
    pub(crate) last_job: u64,
    /// The shell's own time: every wait counts from where the one before ended, so that time does not drift.
    pub(crate) time: Nanos,
    pub(super) traps: BTreeMap<i32, String>,
    pub(super) exit_trap: Option<String>,
    /// Whether it is the process that signals go to.
    pub(super) leads: bool,
    pub(super) interactive: bool,
    /// `-e`: a command that fails and is not tested ends the shell.
    pub(super) stop_on_error: bool,
    /// How many conditions the command at hand is part of.
    tested: usize,
    pub(super) nesting: usize,
    pub(super) jobs: JoinSet<i64>,
}

type Running<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

impl Shell {
    /// The shell that leads a process.
    pub(crate) fn new(process: Arc<Process>, environment: &[String], directory: &str) -> Self {
        let mut variables = Variables::default();
        for (name, value) in environment
            .iter()
            .filter_map(|variable| variable.split_once('='))
        {
            variables.insert(
                name.to_owned(),
                Variable {
                    value: value.to_owned(),
                    exported: true,
                },
            );
        }
        let time = process.engine.clock.nanos();
        Self {
            process,
            variables,
            arguments: vec!["sh".to_owned()],
            directory: directory.to_owned(),
            last: 0,
            last_job: 0,
            time,
            traps: BTreeMap::new(),
            exit_trap: None,
            leads: true,
            interactive: false,
            stop_on_error: false,
            tested: 0,
            nesting: 0,
            jobs: JoinSet::new(),
        }
    }

    /// A copy that runs on its own: `( … )`, a stage of a pipeline, a job, a substitution.
    pub(crate) fn subshell(&self) -> Self {
        Self {
            process: Arc::clone(&self.process),
            variables: self.variables.clone(),
            arguments: self.arguments.clone(),
            directory: self.directory.clone(),
            last: self.last,
            last_job: self.last_job,
            time: self.time,
            traps: BTreeMap::new(),
            exit_trap: None,
            leads: false,
            interactive: self.interactive,
            stop_on_error: self.stop_on_error,
            tested: self.tested,
            nesting: self.nesting + 1,
            jobs: JoinSet::new(),
        }
    }

    /// The exit code of a shell whose last command ended with `flow`.
    pub(crate) fn finish(&self, flow: Flow) -> i64 {
        match flow {
            Flow::Exit(code) => code,
            _ => self.last,
        }
    }

    /// Runs a program with arguments as a whole process and gives its exit code.
    pub(crate) fn main<'a>(&'a mut self, argv: &'a [String], io: Io) -> Running<'a, i64> {
        Box::pin(async move {
            match applets::name(&argv[0]) {
                "sh" | "ash" => self.shell(argv, io).await,
                _ => self.program(argv, &io).await,
            }
        })
    }

    /// `sh [-c TEXT [NAME [ARG…]]]`, or commands from stdin.
    async fn shell(&mut self, argv: &[String], io: Io) -> i64 {
        if self.nesting > NESTING_LIMIT {
            io.stderr
                .write(self.time, "sh: shells are nested too deeply\n")
                .await;
            return 2;
        }
        let (mut command, mut rest) = (None, &argv[1..]);
        while let Some(flags) = rest
            .first()
            .and_then(|word| word.strip_prefix('-'))
            .filter(|flags| !flags.is_empty())
        {
            rest = &rest[1..];
            for flag in flags.chars() {
                match flag {
                    'c' => {
                        let Some((text, after)) = rest.split_first() else {
                            io.stderr
                                .write(self.time, "sh: -c requires an argument\n")
                                .await;
                            return 2;
                        };
                        command = Some(text.clone());
                        rest = after;
                    }
                    'e' => self.stop_on_error = true,
                    'l' | 'i' => {}
                    other => {
                        let text = format!("sh: the fake engine's shell does not know -{other}\n");
                        io.stderr.write(self.time, text).await;
                        return 2;
                    }
                }
            }
        }
        if let Some(text) = command {
            self.arguments = if rest.is_empty() {
                vec![argv[0].clone()]
            } else {
                rest.to_vec()
            };
            return self.script(&text, io).await;
        }
        if let Some(file) = rest.first() {
            let path = clean(&self.directory, file);
            self.arguments = rest.to_vec();
            return match self.process.view.read(&path) {
                Ok(text) => self.script(&String::from_utf8_lossy(&text), io).await,
                Err(error) => {
                    io.stderr
                        .write(self.time, format!("sh: can't open '{file}': {error}\n"))
                        .await;
                    2
                }
            };
        }
        self.read_commands(io).await
    }

    async fn script(&mut self, text: &str, io: Io) -> i64 {
        let flow = self.source(text, &io).await;
        let code = self.finish(flow);
        self.end(code, io).await
    }

    /// Runs the exit trap.
    async fn end(&mut self, code: i64, io: Io) -> i64 {
        let Some(text) = self.exit_trap.take() else {
            return code;
        };
        self.last = code;
        match self.source(&text, &io).await {
            Flow::Exit(code) => code,
            _ => code,
        }
    }

    /// Parses and runs text within this shell.
    pub(super) async fn source(&mut self, text: &str, io: &Io) -> Flow {
        match parse(text) {
            Ok(command) => self.run(&command, io.clone()).await,
            Err(error) => {
                io.stderr
                    .write(self.time, format!("{}: {error}\n", self.arguments[0]))
                    .await;
                Flow::Exit(2)
            }
        }
    }

    async fn read_commands(&mut self, io: Io) -> i64 {
        let terminal = self.process.terminal.is_some();
        self.interactive = terminal;
        if terminal && self.leads {
            // An interrupt is for the command in the foreground, not for the shell.
            self.process.signals.set(INT, Disposition::Ignore);
        }
        let mut text = String::new();
        loop {
            if terminal {
                let prompt = if text.is_empty() {
                    format!("{} # ", self.directory)
                } else {
                    "> ".to_owned()
                };
                io.stdout.write(self.time, prompt).await;
            }
            let line = io.stdin.line().await;
            self.time = self.time.max(self.process.engine.clock.nanos());
            text.push_str(&String::from_utf8_lossy(&line));
            match parse(&text) {
                Err(error)
                    if !line.is_empty()
                        && (error.contains("end of file") || error.contains("unterminated")) =>
                {
                    continue;
                }
                Err(error) => {
                    io.stderr.write(self.time, format!("sh: {error}\n")).await;
                    self.last = 2;
                    if !terminal {
                        return 2;
                    }
                }
                Ok(command) => {
                    let before = self.last;
                    let flow = self.run(&command, io.clone()).await;
                    if matches!(&command, Command::Sequence(none) if none.is_empty()) {
                        self.last = before;
                    }
                    if let Flow::Exit(code) = flow {
                        return self.end(code, io).await;
                    }
                }
            }
            text.clear();
            if line.is_empty() {
                let code = self.last;
                return self.end(code, io).await;
            }
        }
    }

    /// Runs one command.
    pub(crate) fn run<'a>(&'a mut self, command: &'a Command, io: Io) -> Running<'a, Flow> {
        Box::pin(async move {
            self.process
                .worked
                .fetch_add(COMMAND_COST, Ordering::Relaxed);
            let flow = match command {
                Command::Simple {
                    assigns,
                    words,
                    redirects,
                } => self.simple(assigns, words, redirects, io.clone()).await,
                Command::Sequence(commands) => {
                    if commands.is_empty() {
                        self.last = 0;
                    }
                    self.in_order(commands, &io).await
                }
                Command::And(left, right) => self.then(left, right, true, &io).await,
                Command::Or(left, right) => self.then(left, right, false, &io).await,
                Command::Not(inner) => {
                    let flow = self.test(inner, &io).await;
                    self.last = i64::from(self.last == 0);
                    flow
                }
                Command::Pipeline(stages) => self.pipeline(stages, io.clone()).await,
                Command::Background(inner) => self.job(inner, io.clone()),
                Command::Loop {
                    condition,
                    body,
                    until,
                    redirects,
                } => match self.redirected(redirects, &io).await {
                    Some(io) => self.repeat(condition, body, *until, &io).await,
                    None => Flow::Next,
                },
                Command::For {
                    variable,
                    words,
                    body,
                    redirects,
                } => match self.redirected(redirects, &io).await {
                    Some(io) => self.each(variable, words, body, &io).await,
                    None => Flow::Next,
                },
                Command::If {
                    arms,
                    otherwise,
                    redirects,
                } => match self.redirected(redirects, &io).await {
                    Some(io) => self.choose(arms, otherwise.as_deref(), &io).await,
                    None => Flow::Next,
                },
                Command::Group {
                    body,
                    subshell,
                    redirects,
                } => match self.redirected(redirects, &io).await {
                    Some(io) if *subshell => {
                        let mut child = self.subshell();
                        let flow = child.run(body, io).await;
                        self.time = self.time.max(child.time);
                        self.last = child.finish(flow);
                        Flow::Next
                    }
                    Some(io) => self.run(body, io).await,
                    None => Flow::Next,
                },
            };
            let checked = matches!(
                command,
                Command::Simple { .. }
                    | Command::Pipeline(_)
                    | Command::Group { subshell: true, .. }
            );
            match flow {
                Flow::Next
                    if checked && self.stop_on_error && self.tested == 0 && self.last != 0 =>
                {
                    Flow::Exit(self.last)
                }
                Flow::Next => self.run_traps(&io).await,
                other => other,
            }
        })
    }

    /// Runs a command whose failure is an answer, not an error.
    async fn test(&mut self, command: &Command, io: &Io) -> Flow {
        self.tested += 1;
        let flow = self.run(command, io.clone()).await;
        self.tested -= 1;
        flow
    }

    async fn in_order(&mut self, commands: &[Command], io: &Io) -> Flow {
        for command in commands {
            let flow = self.run(command, io.clone()).await;
            if flow != Flow::Next {
                return flow;
            }
        }
        Flow::Next
    }

    async fn then(&mut self, left: &Command, right: &Command, and: bool, io: &Io) -> Flow {
        let flow = self.test(left, io).await;
        if flow == Flow::Next && (self.last == 0) == and {
            return self.run(right, io.clone()).await;
        }
        flow
    }

    async fn pipeline(&mut self, stages: &[Command], io: Io) -> Flow {
        if self.nesting > NESTING_LIMIT {
            io.stderr
                .write(self.time, "sh: shells are nested too deeply\n")
                .await;
            return Flow::Exit(2);
        }
        let mut stdin = io.stdin.clone();
        let mut running = Vec::new();
        for (index, stage) in stages.iter().enumerate() {
            let mut child = self.subshell();
            let mut own = Io {
                stdin: stdin.clone(),
                ..io.clone()
            };
            if index + 1 < stages.len() {
                let (sender, receiver) = tokio::sync::mpsc::channel::<Bytes>(PIPE_DEPTH);
                own.stdout = Sink::Pipe(sender);
                stdin = Source::channel(receiver);
            }
            running.push(async move {
                let flow = child.run(stage, own).await;
                (child.finish(flow), child.time)
            });
        }
        // The pipe's reader is the stage alone: it must be gone when the stage is.
        drop(stdin);
        let ended = futures_util::future::join_all(running).await;
        for (code, time) in ended {
            self.last = code;
            self.time = self.time.max(time);
        }
        Flow::Next
    }

    fn job(&mut self, command: &Command, io: Io) -> Flow {
        let mut child = self.subshell();
        let command = command.clone();
        let io = Io {
            stdin: Source::empty(),
            ..io
        };
        self.jobs.spawn(async move {
            let flow = child.run(&command, io).await;
            child.finish(flow)
        });
        self.last_job = self.last_job.max(1) + 1;
        self.last = 0;
        Flow::Next
    }

    async fn repeat(&mut self, condition: &Command, body: &Command, until: bool, io: &Io) -> Flow {
        let mut code = 0;
        loop {
            // A loop without a wait must not keep the others from running.
            tokio::task::yield_now().await;
            match self.test(condition, io).await {
                Flow::Next => {}
                other => return other,
            }
            if (self.last == 0) == until {
                self.last = code;
                return Flow::Next;
            }
            match self.run(body, io.clone()).await {
                Flow::Next | Flow::Continue => code = self.last,
                Flow::Break => return Flow::Next,
                exit => return exit,
            }
        }
    }

    async fn each(&mut self, variable: &str, words: &[Word], body: &Command, io: &Io) -> Flow {
        let values = match self.expand(words, io).await {
            Ok(values) => values,
            Err(error) => return self.fail(&error, io).await,
        };
        self.last = 0;
        for value in values {
            tokio::task::yield_now().await;
            self.assign(variable, value);
            match self.run(body, io.clone()).await {
                Flow::Next | Flow::Continue => {}
                Flow::Break => return Flow::Next,
                exit => return exit,
            }
        }
        Flow::Next
    }

    async fn choose(
        &mut self,
        arms: &[(Command, Command)],
        otherwise: Option<&Command>,
        io: &Io,
    ) -> Flow {
        for (condition, body) in arms {
            match self.test(condition, io).await {
                Flow::Next if self.last == 0 => return self.run(body, io.clone()).await,
                Flow::Next => {}
                other => return other,
            }
        }
        self.last = 0;
        match otherwise {
            Some(body) => self.run(body, io.clone()).await,
            None => Flow::Next,
        }
    }

    pub(super) async fn fail(&mut self, error: &str, io: &Io) -> Flow {
        io.stderr
            .write(self.time, format!("{}: {error}\n", self.arguments[0]))
            .await;
        self.last = 2;
        Flow::Exit(2)
    }

    pub(crate) fn assign(&mut self, name: &str, value: String) {
        let exported = self.variables.get(name).is_some_and(|v| v.exported);
        self.variables
            .insert(name.to_owned(), Variable { value, exported });
    }

    /// The streams after redirections; `None` if a file could not be used, which was reported.
    async fn redirected(&mut self, redirects: &[Redirect], io: &Io) -> Option<Io> {
        let mut io = io.clone();
        for redirect in redirects {
            if let Err(error) = self.redirect(redirect, &mut io).await {
                io.stderr
                    .write(self.time, format!("{}: {error}\n", self.arguments[0]))
                    .await;
                self.last = 1;
                return None;
            }
        }
        Some(io)
    }

    async fn redirect(&mut self, redirect: &Redirect, io: &mut Io) -> Result<(), String> {
        let sink = match &redirect.target {
            Target::Same(1) => io.stdout.clone(),
            Target::Same(_) => io.stderr.clone(),
            Target::Read(word) => {
                let path = self.expand_one(word, io).await?;
                io.stdin = self
                    .open(&path)
                    .map_err(|error| format!("can't open {path}: {error}"))?;
                return Ok(());
            }
            Target::Write(word) | Target::Append(word) => {
                let name = self.expand_one(word, io).await?;
                let path = clean(&self.directory, &name);
                let view = &self.process.view;
                match path.as_str() {
                    "/dev/null" => Sink::Null,
                    "/dev/stdout" | "/proc/self/fd/1" => io.stdout.clone(),
                    "/dev/stderr" | "/proc/self/fd/2" => io.stderr.clone(),
                    "/proc/1/fd/1" => Sink::Process(self.process.output.clone(), StreamId::Stdout),
                    "/proc/1/fd/2" => Sink::Process(self.process.output.clone(), StreamId::Stderr),
                    _ => {
                        let keep = matches!(redirect.target, Target::Append(_))
                            && view.stat(&path).is_ok();
                        let made = if keep {
                            Ok(())
                        } else {
                            view.write(&path, b"", false, self.time)
                        };
                        made.map_err(|error| match error {
                            FileError::Missing => {
                                format!("can't create {name}: nonexistent directory")
                            }
                            other => format!("can't create {name}: {other}"),
                        })?;
                        Sink::File(view.clone(), path)
                    }
                }
            }
        };
        match redirect.descriptor {
            2 => io.stderr = sink,
            _ => io.stdout = sink,
        }
        Ok(())
    }

    /// A file to read, or nothing from `/dev/null`.
    pub(crate) fn open(&self, name: &str) -> Result<Source, FileError> {
        let path = clean(&self.directory, name);
        if path == "/dev/null" {
            return Ok(Source::empty());
        }
        self.process.view.read(&path).map(Source::bytes)
    }

    async fn simple(
        &mut self,
        assigns: &[(String, Word)],
        words: &[Word],
        redirects: &[Redirect],
        io: Io,
    ) -> Flow {
        let argv = match self.expand(words, &io).await {
            Ok(argv) => argv,
            Err(error) => return self.fail(&error, &io).await,
        };
        let mut values = Vec::new();
        if argv.is_empty() {
            self.last = 0;
        }
        for (name, word) in assigns {
            match self.expand_one(word, &io).await {
                Ok(value) => values.push((name.clone(), value)),
                Err(error) => return self.fail(&error, &io).await,
            }
        }
        let Some(io) = self.redirected(redirects, &io).await else {
            return Flow::Next;
        };
        if argv.is_empty() {
            for (name, value) in values {
                self.assign(&name, value);
            }
            return Flow::Next;
        }
        // Variables before a command are for that command alone.
        let before: Vec<_> = values
            .iter()
            .map(|(name, _)| (name.clone(), self.variables.get(name).cloned()))
            .collect();
        for (name, value) in values {
            self.variables.insert(
                name,
                Variable {
                    value,
                    exported: true,
                },
            );
        }
        let flow = self.command(&argv, &io).await;
        for (name, old) in before {
            match old {
                Some(old) => self.variables.insert(name, old),
                None => self.variables.remove(&name),
            }
        }
        flow
    }
}
