//! Owns the programs the built-in shell has, each doing what busybox' does as far as tests use it. An option that is not
//! known is refused by name.

use bytes::Bytes;

use super::run::{Io, Shell};
use crate::clock::{Nanos, duration_nanos};
use crate::files::clean;
use crate::terminal::Size;

/// The programs that are built in.
pub(crate) const APPLETS: &[&str] = &[
    "[", "ash", "basename", "cat", "chmod", "chown", "cp", "date", "dirname", "echo", "env",
    "false", "grep", "head", "hostname", "httpd", "id", "ln", "ls", "mkdir", "mv", "nproc",
    "printenv", "printf", "pwd", "rm", "rmdir", "seq", "sh", "sleep", "sort", "stty", "sync",
    "tail", "tee", "test", "touch", "true", "uname", "wc", "whoami", "yes",
];

/// Where a busybox image has its programs.
const PATHS: &[&str] = &["/bin/", "/usr/bin/", "/sbin/", "/usr/sbin/"];

/// A program's name without a directory of [`PATHS`].
pub(crate) fn name(program: &str) -> &str {
    PATHS
        .iter()
        .find_map(|path| program.strip_prefix(path))
        .filter(|rest| !rest.contains('/'))
        .unwrap_or(program)
}

/// Whether a program is built in.
pub(crate) fn known(program: &str) -> bool {
    APPLETS.contains(&name(program))
}

/// What a program failed with.
pub(super) enum Failure {
    /// A message and an exit code.
    Said(String, i64),
    /// Nobody reads what it writes.
    BrokenPipe,
}

pub(super) type Outcome = Result<i64, Failure>;

pub(super) fn said(text: impl Into<String>) -> Failure {
    Failure::Said(text.into(), 1)
}

pub(super) struct Applet<'a> {
    pub(super) shell: &'a mut Shell,
    pub(super) name: &'a str,
    pub(super) io: &'a Io,
}

/// Runs a program that [`known`] knows; `None` when it ended for a broken pipe.
pub(crate) async fn run(shell: &mut Shell, name: &str, argv: &[String], io: &Io) -> Option<i64> {
    let mut applet = Applet { shell, name, io };
    let outcome = applet.run(&argv[1..]).await;
    match outcome {
        Ok(code) => Some(code),
        Err(Failure::BrokenPipe) => None,
        Err(Failure::Said(text, code)) => {
            io.stderr
                .write(applet.shell.time, format!("{name}: {text}\n"))
                .await;
            Some(code)
        }
    }
}

/// Splits one-letter options from the rest; each must be one of `known`.
pub(super) fn options<'a>(
    args: &'a [String],
    known: &str,
) -> Result<(Vec<char>, &'a [String]), Failure> {
    let mut found = Vec::new();
    let mut rest = args;
    while let Some((word, after)) = rest.split_first() {
        let Some(letters) = word.strip_prefix('-').filter(|letters| !letters.is_empty()) else {
            break;
        };
        rest = after;
        if letters == "-" {
            break;
        }
        for letter in letters.chars() {
            if !known.contains(letter) {
                return Err(said(format!(
                    "the fake engine's program does not know -{letter}; use a script"
                )));
            }
            found.push(letter);
        }
    }
    Ok((found, rest))
}

impl Applet<'_> {
    pub(super) async fn out(&self, data: impl Into<Bytes> + Send) -> Result<(), Failure> {
        if self.io.stdout.write(self.shell.time, data).await {
            Ok(())
        } else {
            Err(Failure::BrokenPipe)
        }
    }

    pub(super) async fn line(&self, text: impl std::fmt::Display) -> Outcome {
        self.out(format!("{text}\n")).await?;
        Ok(0)
    }

    pub(super) async fn complain(&self, text: impl std::fmt::Display) -> i64 {
        self.io
            .stderr
            .write(self.shell.time, format!("{}: {text}\n", self.name))
            .await;
        1
    }

    pub(super) fn path(&self, name: &str) -> String {
        clean(&self.shell.directory, name)
    }

    /// Time went by outside the shell.
    pub(super) fn catch_up(&mut self) {
        self.shell.time = self.shell.time.max(self.shell.process.engine.clock.nanos());
    }

    async fn run(&mut self, args: &[String]) -> Outcome {
        match self.name {
            "true" | "sync" => Ok(0),
            "false" => Ok(1),
            "echo" => self.echo(args).await,
            "printf" => self.printf(args).await,
            "sleep" => self.sleep(args).await,
            "cat" => self.cat(args).await,
            "head" => self.head(args).await,
            "tail" => self.tail(args).await,
            "wc" => self.wc(args).await,
            "seq" => self.seq(args).await,
            "yes" => self.yes(args).await,
            "tee" => self.tee(args).await,
            "grep" => self.grep(args).await,
            "sort" => self.sort(args).await,
            "env" | "printenv" => self.env(args).await,
            "hostname" => self.line(self.shell.process.hostname.clone()).await,
            "pwd" => self.line(self.shell.directory.clone()).await,
            "whoami" => self.line("root").await,
            "id" => self.id(args).await,
            "nproc" => self.line(crate::system::CPUS).await,
            "uname" => self.uname(args).await,
            "date" => self.date(args).await,
            "stty" => self.stty(args).await,
            "basename" => match args {
                [path] => {
                    self.line(
                        path.trim_end_matches('/')
                            .rsplit('/')
                            .next()
                            .unwrap_or_default(),
                    )
                    .await
                }
                _ => Err(said("exactly one path is needed")),
            },
            "dirname" => match args {
                [path] => {
                    self.line(
                        path.rsplit_once('/')
                            .map_or(".", |(dir, _)| if dir.is_empty() { "/" } else { dir }),
                    )
                    .await
                }
                _ => Err(said("exactly one path is needed")),
            },
            "test" => self.test(args),
            "[" => match args.split_last() {
                Some((last, rest)) if last == "]" => self.test(rest),
                _ => Err(Failure::Said("missing ]".to_owned(), 2)),
            },
            "ls" => self.ls(args).await,
            "mkdir" => self.mkdir(args).await,
            "touch" => self.touch(args).await,
            "rm" | "rmdir" => self.remove(args).await,
            "cp" | "mv" => self.copy(args).await,
            "ln" => self.link(args),
            "chmod" => self.chmod(args),
            "chown" => self.chown(args),
            // Runs until a signal ends it; nothing listens behind the fake engine's ports.
            "httpd" => std::future::pending().await,
            _ => Err(Failure::Said("not found".to_owned(), 127)),
        }
    }

    async fn sleep(&mut self, args: &[String]) -> Outcome {
        let mut total: Nanos = 0;
        if args.is_empty() {
            return Err(said("missing operand"));
        }
        for text in args {
            if matches!(text.as_str(), "inf" | "infinity") {
                return std::future::pending().await;
            }
            total = total.saturating_add(
                sleep_time(text).ok_or_else(|| said(format!("invalid number '{text}'")))?,
            );
        }
        let process = std::sync::Arc::clone(&self.shell.process);
        tokio::select! {
            woke = process.engine.clock.sleep_until(self.shell.time.saturating_add(total)) => {
                self.shell.time = woke;
                Ok(0)
            }
            () = process.signals.interrupted.notified(), if self.shell.interactive => {
                self.catch_up();
                Ok(130)
            }
        }
    }

    async fn env(&mut self, args: &[String]) -> Outcome {
        if self.name == "printenv"
            && let [name] = args
        {
            return match self.shell.variables.get(name).filter(|v| v.exported) {
                Some(variable) => self.line(variable.value.clone()).await,
                None => Ok(1),
            };
        }
        if !args.is_empty() {
            return Err(said(
                "the fake engine's program takes no arguments; use a script",
            ));
        }
        let lines: String = self
            .shell
            .variables
            .exported()
            .map(|line| line + "\n")
            .collect();
        self.out(lines).await?;
        Ok(0)
    }

    async fn id(&mut self, args: &[String]) -> Outcome {
        let (flags, _) = options(args, "ugn")?;
        let (user, group) = self.shell.process.user;
        match flags[..] {
            ['u'] => self.line(user).await,
            ['g'] => self.line(group).await,
            [] if user == 0 => {
                self.line("uid=0(root) gid=0(root) groups=0(root),10(wheel)")
                    .await
            }
            [] => {
                let name = if group == 0 { "(root)" } else { "" };
                self.line(format!("uid={user} gid={group}{name} groups={group}{name}"))
                    .await
            }
            _ => self.line("root").await,
        }
    }

    /// `stty size`, and `stty rows N columns N`.
    async fn stty(&mut self, args: &[String]) -> Outcome {
        let Some(terminal) = self.shell.process.terminal.clone() else {
            return Err(said("standard input: Inappropriate ioctl for device"));
        };
        let mut words = args.iter();
        while let Some(word) = words.next() {
            let mut size = terminal.size();
            let field = match word.as_str() {
                // What busybox says of a terminal whose size nobody told.
                "size" if size == Size::default() => {
                    self.complain("standard input").await;
                    continue;
                }
                "size" => {
                    self.line(format!("{} {}", size.rows, size.columns)).await?;
                    continue;
                }
                "rows" => &mut size.rows,
                "cols" | "columns" => &mut size.columns,
                other => return Err(said(format!("invalid argument '{other}'"))),
            };
            let number = words.next().map_or("", String::as_str);
            *field = number
                .parse()
                .map_err(|_| said(format!("invalid number '{number}'")))?;
            terminal.resize(size);
        }
        Ok(0)
    }

    async fn uname(&mut self, args: &[String]) -> Outcome {
        let (flags, _) = options(args, "asrmn")?;
        let host = self.shell.process.hostname.clone();
        let text = match flags[..] {
            [] | ['s'] => "Linux".to_owned(),
            ['r'] => crate::system::KERNEL.to_owned(),
            ['m'] => crate::system::machine().to_owned(),
            ['n'] => host,
            _ => format!(
                "Linux {host} {} #1 SMP {} GNU/Linux",
                crate::system::KERNEL,
                crate::system::machine()
            ),
        };
        self.line(text).await
    }

    async fn date(&mut self, args: &[String]) -> Outcome {
        self.catch_up();
        let seconds = self.shell.time / 1_000_000_000;
        match args {
            [format] if format == "+%s" => self.line(seconds).await,
            [format] if format == "+%s%N" => self.line(self.shell.time).await,
            [] => {
                self.line(crate::time::rfc3339(seconds * 1_000_000_000))
                    .await
            }
            _ => Err(said(
                "the fake engine's program knows +%s and +%s%N only; use a script",
            )),
        }
    }
}

/// `1.5`, `2m`: seconds unless a unit says otherwise.
fn sleep_time(text: &str) -> Option<Nanos> {
    let (digits, scale) = match text.char_indices().last()? {
        (at, 's') => (&text[..at], 1.0),
        (at, 'm') => (&text[..at], 60.0),
        (at, 'h') => (&text[..at], 3600.0),
        (at, 'd') => (&text[..at], 86_400.0),
        _ => (text, 1.0),
    };
    if !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return None;
    }
    let seconds: f64 = digits.parse().ok()?;
    std::time::Duration::try_from_secs_f64(seconds * scale)
        .ok()
        .map(duration_nanos)
}
