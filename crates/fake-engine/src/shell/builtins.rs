//! Owns what a shell does itself: its built-in commands, traps and jobs, and which program it runs otherwise.

use std::sync::Arc;

use super::applets;
use super::io::Sink;
use super::run::{Flow, Io, NESTING_LIMIT, Shell};
use super::variables::Variable;
use crate::files::clean;
use crate::signals::{self, Disposition};

/// A process that writes into a pipe nobody reads ends with 128 + SIGPIPE.
const BROKEN_PIPE: i64 = 141;

impl Shell {
    /// A command of the shell itself, or a program.
    pub(super) async fn command(&mut self, argv: &[String], io: &Io) -> Flow {
        let number = |index: usize| argv.get(index).and_then(|word| word.parse::<i64>().ok());
        let mut status = 0;
        match argv[0].as_str() {
            ":" => {}
            "exit" => {
                let code = number(1).unwrap_or(self.last) & 0xff;
                return Flow::Exit(code);
            }
            "break" => return Flow::Break,
            "continue" => return Flow::Continue,
            "cd" => {
                let home = self.parameter("HOME");
                let target = argv.get(1).map_or(home.as_str(), String::as_str);
                let path = clean(&self.directory, target);
                if self.process.view.is_dir(&path) {
                    self.directory = path;
                } else {
                    let text = format!(
                        "{}: cd: can't cd to {target}: No such file or directory\n",
                        self.arguments[0]
                    );
                    io.stderr.write(self.time, text).await;
                    status = 2;
                }
            }
            "export" => {
                for word in &argv[1..] {
                    let (name, value) = word
                        .split_once('=')
                        .map_or((word.as_str(), None), |(n, v)| (n, Some(v)));
                    let value = value.map_or_else(|| self.parameter(name), str::to_owned);
                    self.variables.insert(
                        name.to_owned(),
                        Variable {
                            value,
                            exported: true,
                        },
                    );
                }
            }
            "unset" => argv[1..]
                .iter()
                .for_each(|name| self.variables.remove(name)),
            "shift" => drop(self.arguments.drain(1..self.arguments.len().min(2))),
            "eval" => {
                let text = argv[1..].join(" ");
                if self.nesting > NESTING_LIMIT {
                    return self.fail("shells are nested too deeply", io).await;
                }
                self.nesting += 1;
                let flow = Box::pin(self.source(&text, io)).await;
                self.nesting -= 1;
                return flow;
            }
            "trap" => status = self.trap(&argv[1..], io).await,
            "wait" => return self.wait(io).await,
            "read" => {
                let line = io.stdin.line().await;
                self.time = self.time.max(self.process.engine.clock.nanos());
                status = i64::from(line.is_empty());
                self.read_into(&String::from_utf8_lossy(&line), &argv[1..]);
            }
            "exec" if argv.len() > 1 => {
                self.clear_traps();
                let code = self.program(&argv[1..], io).await;
                return Flow::Exit(code);
            }
            "set" if argv.len() == 2 && matches!(argv[1].as_str(), "-e" | "+e") => {
                self.stop_on_error = argv[1] == "-e"
            }
            "exec" | "set" | "." | "source" | "alias" | "local" | "return" | "kill" | "umask"
            | "ulimit" => {
                let text = format!(
                    "the fake engine's shell does not know \"{}\" in this form; use a script",
                    argv[0]
                );
                return self.fail(&text, io).await;
            }
            _ => status = self.program(argv, io).await,
        }
        self.last = status;
        if status == BROKEN_PIPE && matches!(io.stdout, Sink::Pipe(_)) {
            return Flow::Exit(BROKEN_PIPE);
        }
        Flow::Next
    }

    fn read_into(&mut self, line: &str, names: &[String]) {
        let names: Vec<&String> = names.iter().filter(|name| *name != "-r").collect();
        let mut rest = line.trim_end_matches('\n').trim_matches([' ', '\t']);
        let last = names.len().saturating_sub(1);
        for (index, name) in names.iter().enumerate() {
            let (word, after) = match rest.split_once([' ', '\t']) {
                Some((word, after)) if index < last => {
                    (word, after.trim_start_matches([' ', '\t']))
                }
                _ => (rest, ""),
            };
            self.assign(name, word.to_owned());
            rest = after;
        }
    }

    /// A program: one that is built in, or none.
    pub(super) async fn program(&mut self, argv: &[String], io: &Io) -> i64 {
        let name = applets::name(&argv[0]);
        if !self.process.has_shell || !applets::known(&argv[0]) {
            let known_path = argv[0].contains('/')
                && self
                    .process
                    .view
                    .stat(&clean(&self.directory, &argv[0]))
                    .is_ok();
            let (text, code) = if known_path {
                ("Permission denied", 126)
            } else {
                ("not found", 127)
            };
            io.stderr
                .write(
                    self.time,
                    format!("{}: {}: {text}\n", self.arguments[0], argv[0]),
                )
                .await;
            return code;
        }
        if matches!(name, "sh" | "ash") {
            let mut child = self.subshell();
            let code = child.main(argv, io.clone()).await;
            self.time = self.time.max(child.time);
            return code;
        }
        let code = Box::pin(applets::run(self, name, argv, io)).await;
        code.unwrap_or(BROKEN_PIPE)
    }

    async fn trap(&mut self, words: &[String], io: &Io) -> i64 {
        let words = if words.first().is_some_and(|word| word == "--") {
            &words[1..]
        } else {
            words
        };
        let Some((action, names)) = words.split_first() else {
            return 0;
        };
        for name in names {
            let action = (action != "-").then(|| action.clone());
            if name == "EXIT" || name == "0" {
                self.exit_trap = action;
                continue;
            }
            let Some(signal) = signals::parse(name) else {
                io.stderr
                    .write(
                        self.time,
                        format!(
                            "{}: trap: {name}: invalid signal specification\n",
                            self.arguments[0]
                        ),
                    )
                    .await;
                return 1;
            };
            if self.leads {
                match action.as_deref() {
                    None => self.process.signals.unset(signal),
                    Some("") => self.process.signals.set(signal, Disposition::Ignore),
                    Some(_) => self.process.signals.set(signal, Disposition::Handle),
                }
            }
            match action {
                Some(action) => drop(self.traps.insert(signal, action)),
                None => drop(self.traps.remove(&signal)),
            }
        }
        0
    }

    fn clear_traps(&mut self) {
        if self.leads {
            for signal in self.traps.keys() {
                self.process.signals.unset(*signal);
            }
        }
        self.traps.clear();
        self.exit_trap = None;
    }

    /// What signals asked for since the last command.
    pub(super) async fn run_traps(&mut self, io: &Io) -> Flow {
        while self.leads
            && let Some(signal) = self.process.signals.pending()
        {
            self.time = self.time.max(self.process.engine.clock.nanos());
            let Some(action) = self.traps.get(&signal).cloned() else {
                continue;
            };
            let before = self.last;
            let flow = Box::pin(self.source(&action, io)).await;
            if flow != Flow::Next {
                return flow;
            }
            self.last = before;
        }
        Flow::Next
    }

    /// Waits for all jobs, or until a trapped signal comes.
    async fn wait(&mut self, io: &Io) -> Flow {
        let process = Arc::clone(&self.process);
        loop {
            if self.leads && process.signals.has_pending() {
                self.last = 128;
                return self.run_traps(io).await;
            }
            tokio::select! {
                ended = self.jobs.join_next() => if ended.is_none() {
                    self.last = 0;
                    return Flow::Next;
                },
                () = process.signals.arrived.notified(), if self.leads => {}
            }
            self.time = self.time.max(process.engine.clock.nanos());
        }
    }
}
