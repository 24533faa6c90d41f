//! Owns the programs the built-in shell has, each doing what busybox' does as far as tests use it. An option that is not
//! known is refused by name.

use bytes::Bytes;

use super::run::{Io, Shell};
use crate::clock::{Nanos, duration_nanos};
use crate::files::{FileError, Kind, Node, clean};

/// The programs that are built in.
pub(crate) const APPLETS: &[&str] = &[
    "[", "ash", "basename", "cat", "chmod", "cp", "date", "dirname", "echo", "env", "false",
    "grep", "head", "hostname", "httpd", "id", "ln", "ls", "mkdir", "mv", "nproc", "printenv",
    "printf", "pwd", "rm", "rmdir", "seq", "sh", "sleep", "sort", "sync", "tail", "tee", "test",
    "touch", "true", "uname", "wc", "whoami", "yes",
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
enum Failure {
    /// A message and an exit code.
    Said(String, i64),
    /// Nobody reads what it writes.
    BrokenPipe,
}

type Outcome = Result<i64, Failure>;

fn said(text: impl Into<String>) -> Failure {
    Failure::Said(text.into(), 1)
}

struct Applet<'a> {
    shell: &'a mut Shell,
    name: &'a str,
    io: &'a Io,
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
fn options<'a>(args: &'a [String], known: &str) -> Result<(Vec<char>, &'a [String]), Failure> {
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
    async fn out(&self, data: impl Into<Bytes> + Send) -> Result<(), Failure> {
        if self.io.stdout.write(self.shell.time, data).await {
            Ok(())
        } else {
            Err(Failure::BrokenPipe)
        }
    }

    async fn line(&self, text: impl std::fmt::Display) -> Outcome {
        self.out(format!("{text}\n")).await?;
        Ok(0)
    }

    async fn complain(&self, text: impl std::fmt::Display) -> i64 {
        self.io
            .stderr
            .write(self.shell.time, format!("{}: {text}\n", self.name))
            .await;
        1
    }

    fn path(&self, name: &str) -> String {
        clean(&self.shell.directory, name)
    }

    /// Time went by outside the shell.
    fn catch_up(&mut self) {
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
            "yes" => loop {
                let word = if args.is_empty() {
                    "y".to_owned()
                } else {
                    args.join(" ")
                };
                self.line(word).await?;
                tokio::task::yield_now().await;
            },
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
            // Runs until a signal ends it; nothing listens behind the fake engine's ports.
            "httpd" => std::future::pending().await,
            _ => Err(Failure::Said("not found".to_owned(), 127)),
        }
    }

    async fn echo(&mut self, args: &[String]) -> Outcome {
        let (mut newline, mut escapes, mut rest) = (true, false, args);
        while let Some((word, after)) = rest.split_first() {
            match word.as_str() {
                "-n" => newline = false,
                "-e" => escapes = true,
                "-ne" | "-en" => (newline, escapes) = (false, true),
                _ => break,
            }
            rest = after;
        }
        let mut text = rest.join(" ");
        if escapes {
            text = unescape(&text);
        }
        if newline {
            text.push('\n');
        }
        self.out(text).await?;
        Ok(0)
    }

    async fn printf(&mut self, args: &[String]) -> Outcome {
        let Some((format, mut rest)) = args.split_first() else {
            return Err(said("a format is needed"));
        };
        let format = unescape(format);
        let mut out = String::new();
        loop {
            let mut used = false;
            let mut chars = format.chars().peekable();
            while let Some(c) = chars.next() {
                if c != '%' {
                    out.push(c);
                    continue;
                }
                let mut spec = String::new();
                while let Some(c) = chars.next_if(|c| c.is_ascii_digit() || "-.".contains(*c)) {
                    spec.push(c);
                }
                let mut argument = || {
                    used = true;
                    let (first, after) = rest
                        .split_first()
                        .map_or(("", rest), |(first, after)| (first.as_str(), after));
                    rest = after;
                    first
                };
                match chars.next() {
                    Some('%') => out.push('%'),
                    Some('s') => out.push_str(&pad(argument(), &spec)),
                    Some('b') => out.push_str(&unescape(argument())),
                    Some('d' | 'i' | 'u') => {
                        let text = argument();
                        let number: i64 = if text.is_empty() {
                            0
                        } else {
                            text.parse()
                                .map_err(|_| said(format!("invalid number '{text}'")))?
                        };
                        out.push_str(&pad(&number.to_string(), &spec));
                    }
                    Some('x') => out.push_str(&pad(
                        &format!("{:x}", argument().parse::<i64>().unwrap_or(0)),
                        &spec,
                    )),
                    other => {
                        return Err(said(format!(
                            "%{}: invalid format",
                            other.map(String::from).unwrap_or_default()
                        )));
                    }
                }
            }
            if rest.is_empty() || !used {
                break;
            }
        }
        self.out(out).await?;
        Ok(0)
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
            () = process.signals.interrupted.notified() => {
                self.catch_up();
                Ok(130)
            }
        }
    }

    async fn cat(&mut self, args: &[String]) -> Outcome {
        let (_, files) = options(args, "u")?;
        let stdin = ["-".to_owned()];
        let mut code = 0;
        for name in if files.is_empty() { &stdin } else { files } {
            if name == "-" || name == "/dev/stdin" {
                loop {
                    let data = self.io.stdin.read().await;
                    self.catch_up();
                    if data.is_empty() {
                        break;
                    }
                    self.out(data).await?;
                }
            } else if self.path(name) == "/dev/zero" {
                self.zeros(u64::MAX).await?;
            } else {
                match self.read(name) {
                    Ok(data) => self.out(data).await?,
                    Err(error) => {
                        code = self.complain(format!("can't open '{name}': {error}")).await
                    }
                }
            }
        }
        Ok(code)
    }

    fn read(&self, name: &str) -> Result<Bytes, FileError> {
        let path = self.path(name);
        if path == "/dev/null" {
            Ok(Bytes::new())
        } else {
            self.shell.process.view.read(&path)
        }
    }

    async fn zeros(&mut self, mut count: u64) -> Result<(), Failure> {
        let block = Bytes::from_static(&[0; 4096]);
        while count > 0 {
            let size = usize::try_from(count.min(4096)).unwrap_or(4096);
            self.out(block.slice(..size)).await?;
            count -= size as u64;
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// `-n N`, `-nN`, `-N` and `-c N`; the rest are files.
    fn counts<'a>(
        args: &'a [String],
    ) -> Result<(Option<u64>, Option<u64>, bool, &'a [String]), Failure> {
        let (mut lines, mut bytes, mut follow, mut rest) = (None, None, false, args);
        while let Some((word, after)) = rest.split_first() {
            let Some(option) = word.strip_prefix('-').filter(|o| !o.is_empty()) else {
                break;
            };
            rest = after;
            if option == "f" {
                follow = true;
                continue;
            }
            let (letter, attached) = match option.as_bytes()[0] {
                b'n' | b'c' => (option.as_bytes()[0], &option[1..]),
                b'0'..=b'9' => (b'n', option),
                _ => {
                    return Err(said(format!(
                        "the fake engine's program does not know -{option}; use a script"
                    )));
                }
            };
            let text = if attached.is_empty() {
                let (value, after) = rest
                    .split_first()
                    .ok_or_else(|| said(format!("-{option} needs a number")))?;
                rest = after;
                value.as_str()
            } else {
                attached
            };
            let number = text
                .trim_start_matches('+')
                .parse()
                .map_err(|_| said(format!("invalid number '{text}'")))?;
            if letter == b'n' {
                lines = Some(number)
            } else {
                bytes = Some(number)
            }
        }
        Ok((lines, bytes, follow, rest))
    }

    async fn head(&mut self, args: &[String]) -> Outcome {
        let (lines, bytes, follow, files) = Self::counts(args)?;
        if follow {
            return Err(said(
                "the fake engine's program does not know -f; use a script",
            ));
        }
        let source = match files {
            [] => self.io.stdin.clone(),
            [name] if self.path(name) == "/dev/zero" => {
                self.zeros(bytes.ok_or_else(|| said("/dev/zero needs -c"))?)
                    .await?;
                return Ok(0);
            }
            [name] => self
                .shell
                .open(name)
                .map_err(|error| said(format!("{name}: {error}")))?,
            _ => {
                return Err(said(
                    "the fake engine's program reads one file; use a script",
                ));
            }
        };
        if let Some(mut left) = bytes {
            while left > 0 {
                let data = source
                    .read_at_most(usize::try_from(left).unwrap_or(usize::MAX))
                    .await;
                self.catch_up();
                if data.is_empty() {
                    break;
                }
                left -= data.len() as u64;
                self.out(data).await?;
            }
            return Ok(0);
        }
        for _ in 0..lines.unwrap_or(10) {
            let line = source.line().await;
            self.catch_up();
            if line.is_empty() {
                break;
            }
            self.out(line).await?;
        }
        Ok(0)
    }

    async fn tail(&mut self, args: &[String]) -> Outcome {
        let (lines, bytes, follow, files) = Self::counts(args)?;
        let data = self.input(files).await?;
        let start = match (bytes, lines.unwrap_or(10)) {
            (Some(count), _) => data
                .len()
                .saturating_sub(usize::try_from(count).unwrap_or(usize::MAX)),
            (None, count) => {
                let ends = data
                    .iter()
                    .enumerate()
                    .rev()
                    .filter(|(at, byte)| **byte == b'\n' && at + 1 < data.len());
                match usize::try_from(count).unwrap_or(usize::MAX).checked_sub(1) {
                    Some(skip) => ends.map(|(at, _)| at + 1).nth(skip).unwrap_or(0),
                    None => data.len(),
                }
            }
        };
        let mut seen = data.len();
        self.out(data.slice(start..)).await?;
        while follow {
            let Some(name) = files.first().filter(|name| self.path(name) != "/dev/null") else {
                return std::future::pending().await;
            };
            // busybox looks once a second.
            self.shell.time = self
                .shell
                .process
                .engine
                .clock
                .sleep_until(self.shell.time + 1_000_000_000)
                .await;
            let now = self.read(name).unwrap_or_default();
            if now.len() > seen {
                self.out(now.slice(seen..)).await?;
            }
            seen = now.len();
        }
        Ok(0)
    }

    /// All of the named files, or all of stdin.
    async fn input(&mut self, files: &[String]) -> Result<Bytes, Failure> {
        let mut all = Vec::new();
        for name in files {
            let data = self
                .read(name)
                .map_err(|error| said(format!("{name}: {error}")))?;
            all.extend_from_slice(&data);
        }
        while files.is_empty() {
            let data = self.io.stdin.read().await;
            self.catch_up();
            if data.is_empty() {
                break;
            }
            all.extend_from_slice(&data);
        }
        Ok(all.into())
    }

    async fn wc(&mut self, args: &[String]) -> Outcome {
        let (flags, files) = options(args, "lcw")?;
        let (mut lines, mut words, mut bytes, mut in_word) = (0u64, 0u64, 0u64, false);
        let mut count = |data: &[u8]| {
            bytes += data.len() as u64;
            for byte in data {
                lines += u64::from(*byte == b'\n');
                words += u64::from(!in_word && !byte.is_ascii_whitespace());
                in_word = !byte.is_ascii_whitespace();
            }
        };
        for name in files {
            count(
                &self
                    .read(name)
                    .map_err(|error| said(format!("{name}: {error}")))?,
            );
        }
        while files.is_empty() {
            // Counted as it comes: the input may be large.
            let data = self.io.stdin.read().await;
            if data.is_empty() {
                break;
            }
            count(&data);
        }
        self.catch_up();
        let all = flags.is_empty();
        let mut shown: Vec<String> = [('l', lines), ('w', words), ('c', bytes)]
            .into_iter()
            .filter(|(flag, _)| all || flags.contains(flag))
            .map(|(_, n)| {
                if all {
                    format!("{n:>9}")
                } else {
                    n.to_string()
                }
            })
            .collect();
        shown.extend(files.first().cloned());
        self.line(shown.join(" ")).await
    }

    async fn seq(&mut self, args: &[String]) -> Outcome {
        let numbers: Vec<i64> = args
            .iter()
            .map(|text| {
                text.parse()
                    .map_err(|_| said(format!("invalid number '{text}'")))
            })
            .collect::<Result<_, _>>()?;
        let (first, step, last) = match numbers[..] {
            [last] => (1, 1, last),
            [first, last] => (first, 1, last),
            [first, step, last] if step != 0 => (first, step, last),
            _ => return Err(said("one to three numbers are needed")),
        };
        // Written by the block, as stdio does.
        let mut block = String::new();
        let mut value = first;
        while (step > 0 && value <= last) || (step < 0 && value >= last) {
            block.push_str(&format!("{value}\n"));
            if block.len() >= 4096 {
                self.out(std::mem::take(&mut block)).await?;
                tokio::task::yield_now().await;
            }
            value = match value.checked_add(step) {
                Some(next) => next,
                None => break,
            };
        }
        self.out(block).await?;
        Ok(0)
    }

    async fn tee(&mut self, args: &[String]) -> Outcome {
        let (flags, files) = options(args, "a")?;
        let view = self.shell.process.view.clone();
        for name in files.iter().filter(|_| flags.is_empty()) {
            view.write(&self.path(name), b"", false, self.shell.time)
                .map_err(|e| said(format!("{name}: {e}")))?;
        }
        loop {
            let data = self.io.stdin.read().await;
            self.catch_up();
            if data.is_empty() {
                return Ok(0);
            }
            for name in files {
                view.write(&self.path(name), &data, true, self.shell.time)
                    .map_err(|e| said(format!("{name}: {e}")))?;
            }
            self.out(data).await?;
        }
    }

    /// Lines that hold a text; the pattern is a plain text with `^` and `$` at its ends.
    async fn grep(&mut self, args: &[String]) -> Outcome {
        let (flags, rest) = options(args, "qvcFi")?;
        let Some((pattern, files)) = rest.split_first() else {
            return Err(Failure::Said("a pattern is needed".into(), 2));
        };
        if !flags.contains(&'F') && pattern.contains(['*', '[', '\\', '.', '+', '(']) {
            let text = "the fake engine's program knows plain patterns only; use -F or a script";
            return Err(Failure::Said(text.to_owned(), 2));
        }
        let fold = |text: &str| {
            if flags.contains(&'i') {
                text.to_lowercase()
            } else {
                text.to_owned()
            }
        };
        let pattern = fold(pattern);
        let fixed = flags.contains(&'F');
        let fits = |line: &str| {
            let line = fold(line);
            let (start, middle) = pattern
                .strip_prefix('^')
                .filter(|_| !fixed)
                .map_or((false, &*pattern), |p| (true, p));
            let (end, middle) = middle
                .strip_suffix('$')
                .filter(|_| !fixed)
                .map_or((false, middle), |p| (true, p));
            match (start, end) {
                (true, true) => line == middle,
                (true, false) => line.starts_with(middle),
                (false, true) => line.ends_with(middle),
                (false, false) => line.contains(middle),
            }
        };
        let data = self.input(files).await?;
        let text = String::from_utf8_lossy(&data).into_owned();
        let found: Vec<&str> = text
            .lines()
            .filter(|line| fits(line) != flags.contains(&'v'))
            .collect();
        if flags.contains(&'c') {
            self.line(found.len()).await?;
        } else if !flags.contains(&'q') {
            self.out(
                found
                    .iter()
                    .map(|line| format!("{line}\n"))
                    .collect::<String>(),
            )
            .await?;
        }
        Ok(i64::from(found.is_empty()))
    }

    async fn sort(&mut self, args: &[String]) -> Outcome {
        let (flags, files) = options(args, "rnu")?;
        let data = self.input(files).await?;
        let text = String::from_utf8_lossy(&data).into_owned();
        let mut lines: Vec<&str> = text.lines().collect();
        let number = |line: &str| {
            let end = line
                .find(|c: char| !c.is_ascii_digit() && c != '-')
                .unwrap_or(line.len());
            line[..end].parse::<i64>().unwrap_or(0)
        };
        if flags.contains(&'n') {
            lines.sort_by_key(|line| number(line))
        } else {
            lines.sort_unstable()
        }
        if flags.contains(&'u') {
            lines.dedup();
        }
        if flags.contains(&'r') {
            lines.reverse();
        }
        self.out(
            lines
                .iter()
                .map(|line| format!("{line}\n"))
                .collect::<String>(),
        )
        .await?;
        Ok(0)
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
        let lines: String = self.shell.variables.exported().map(|line| line + "\n").collect();
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

    fn test(&self, args: &[String]) -> Outcome {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        self.condition(&args)
            .map(|holds| i64::from(!holds))
            .map_err(|text| Failure::Said(text, 2))
    }

    fn condition(&self, args: &[&str]) -> Result<bool, String> {
        if let Some(at) = args
            .iter()
            .position(|word| *word == "-o")
            .filter(|at| *at > 0)
        {
            return Ok(self.condition(&args[..at])? || self.condition(&args[at + 1..])?);
        }
        if let Some(at) = args
            .iter()
            .position(|word| *word == "-a")
            .filter(|at| *at > 0)
        {
            return Ok(self.condition(&args[..at])? && self.condition(&args[at + 1..])?);
        }
        let view = &self.shell.process.view;
        let node = |name: &str| match self.path(name).as_str() {
            "/dev/null" | "/dev/zero" | "/dev/stdout" | "/dev/stderr" => Some(Node::file("", 0)),
            path => view.stat(path).ok(),
        };
        let number = |text: &str| {
            text.trim()
                .parse::<i64>()
                .map_err(|_| format!("{text}: bad number"))
        };
        match *args {
            [] => Ok(false),
            ["!", ref rest @ ..] if !rest.is_empty() => Ok(!self.condition(rest)?),
            [word] => Ok(!word.is_empty()),
            ["-n", text] => Ok(!text.is_empty()),
            ["-z", text] => Ok(text.is_empty()),
            ["-e" | "-r" | "-w", name] => Ok(node(name).is_some()),
            ["-f", name] => Ok(node(name).is_some_and(|n| matches!(n.kind, Kind::File(_)))),
            ["-d", name] => Ok(node(name).is_some_and(|n| n.kind == Kind::Dir)),
            ["-s", name] => Ok(node(name).is_some_and(|n| n.size() > 0)),
            ["-x", name] => Ok(node(name).is_some_and(|n| n.mode & 0o111 != 0)),
            ["-L" | "-h", name] => Ok(view
                .lstat(&self.path(name))
                .is_ok_and(|n| matches!(n.kind, Kind::Link(_)))),
            ["-t", _] => Ok(self.shell.process.tty),
            [left, "=" | "==", right] => Ok(left == right),
            [left, "!=", right] => Ok(left != right),
            [left, "-eq", right] => Ok(number(left)? == number(right)?),
            [left, "-ne", right] => Ok(number(left)? != number(right)?),
            [left, "-lt", right] => Ok(number(left)? < number(right)?),
            [left, "-le", right] => Ok(number(left)? <= number(right)?),
            [left, "-gt", right] => Ok(number(left)? > number(right)?),
            [left, "-ge", right] => Ok(number(left)? >= number(right)?),
            [first, ..] => Err(format!("{first}: unknown operand")),
        }
    }

    async fn ls(&mut self, args: &[String]) -> Outcome {
        let (flags, names) = options(args, "la1d")?;
        let here = [".".to_owned()];
        let (mut lines, mut code) = (String::new(), 0);
        let view = self.shell.process.view.clone();
        let show = |path: &str, name: &str| match view.lstat(path) {
            Ok(node) if flags.contains(&'l') => long_line(name, &node),
            _ => format!("{name}\n"),
        };
        for name in if names.is_empty() { &here[..] } else { names } {
            let path = self.path(name);
            match view.stat(&path).or_else(|_| view.lstat(&path)) {
                Ok(node) if node.kind == Kind::Dir && !flags.contains(&'d') => {
                    if names.len() > 1 {
                        lines.push_str(&format!(
                            "{}{name}:\n",
                            if lines.is_empty() { "" } else { "\n" }
                        ));
                    }
                    let entries = view
                        .list(&path)
                        .map_err(|error| said(format!("{name}: {error}")))?;
                    for entry in entries
                        .iter()
                        .filter(|e| flags.contains(&'a') || !e.starts_with('.'))
                    {
                        lines.push_str(&show(&clean(&path, entry), entry));
                    }
                }
                Ok(_) => lines.push_str(&show(&path, name)),
                Err(error) => code = self.complain(format!("{name}: {error}")).await,
            }
        }
        self.out(lines).await?;
        Ok(code)
    }

    async fn mkdir(&mut self, args: &[String]) -> Outcome {
        let (flags, names) = options(args, "p")?;
        let view = self.shell.process.view.clone();
        for name in names {
            let path = self.path(name);
            let fail = |error: FileError| said(format!("can't create directory '{name}': {error}"));
            if flags.contains(&'p') {
                let ends = path
                    .match_indices('/')
                    .map(|(at, _)| at)
                    .skip(1)
                    .chain([path.len()]);
                for end in ends.filter(|end| *end > 0) {
                    if !view.is_dir(&path[..end]) {
                        view.put(&path[..end], Node::dir(self.shell.time))
                            .map_err(fail)?;
                    }
                }
            } else if view.lstat(&path).is_ok() {
                return Err(fail(FileError::Exists));
            } else {
                view.put(&path, Node::dir(self.shell.time)).map_err(fail)?;
            }
        }
        Ok(0)
    }

    async fn touch(&mut self, args: &[String]) -> Outcome {
        let (_, names) = options(args, "")?;
        for name in names {
            let path = self.path(name);
            let view = &self.shell.process.view;
            let mut node = view.stat(&path).unwrap_or_else(|_| Node::file("", 0));
            node.time = self.shell.time;
            if node.kind != Kind::Dir {
                view.put(&path, node)
                    .map_err(|error| said(format!("{name}: {error}")))?;
            }
        }
        Ok(0)
    }

    async fn remove(&mut self, args: &[String]) -> Outcome {
        let (flags, names) = options(args, "rRf")?;
        let (recursive, force) = (
            flags.contains(&'r') || flags.contains(&'R'),
            flags.contains(&'f'),
        );
        let view = self.shell.process.view.clone();
        let mut code = 0;
        for name in names {
            let path = self.path(name);
            let result = match view.lstat(&path) {
                Err(FileError::Missing) if force => Ok(()),
                Err(error) => Err(error),
                Ok(node) if node.kind == Kind::Dir && self.name == "rm" && !recursive => {
                    Err(FileError::IsDir)
                }
                Ok(node) if node.kind == Kind::Dir && self.name == "rmdir" => {
                    match view.list(&path) {
                        Ok(entries) if entries.is_empty() => view.remove(&path),
                        _ => Err(FileError::NotEmpty),
                    }
                }
                Ok(_) => view.remove(&path),
            };
            if result == Err(FileError::IsDir) {
                code = self.complain(format!("'{name}' is a directory")).await;
            } else if let Err(error) = result {
                code = self
                    .complain(format!("can't remove '{name}': {error}"))
                    .await;
            }
        }
        Ok(code)
    }

    async fn copy(&mut self, args: &[String]) -> Outcome {
        let (flags, names) = options(args, if self.name == "cp" { "rRaf" } else { "f" })?;
        let recursive = self.name == "mv" || flags.iter().any(|flag| "rRa".contains(*flag));
        let [from, to] = names else {
            return Err(said("exactly two paths are needed"));
        };
        let view = self.shell.process.view.clone();
        let (source, mut target) = (self.path(from), self.path(to));
        if view.is_dir(&target) {
            target = clean(&target, source.rsplit('/').next().unwrap_or_default());
        }
        let fail = |name: &str| {
            let name = name.to_owned();
            move |error: FileError| said(format!("can't use '{name}': {error}"))
        };
        let nodes = view.walk(&source).map_err(fail(from))?;
        if nodes[0].1.kind == Kind::Dir && !recursive {
            return Err(said(format!("omitting directory '{from}'")));
        }
        for (path, node) in nodes {
            let rest = path.strip_prefix(&source).unwrap_or_default();
            view.put(&format!("{target}{rest}"), node)
                .map_err(fail(to))?;
        }
        if self.name == "mv" {
            view.remove(&source).map_err(fail(from))?;
        }
        Ok(0)
    }

    fn link(&self, args: &[String]) -> Outcome {
        let (flags, names) = options(args, "sf")?;
        let [target, name] = names else {
            return Err(said("exactly two paths are needed"));
        };
        let (view, path) = (&self.shell.process.view, self.path(name));
        if view.lstat(&path).is_ok() {
            if !flags.contains(&'f') {
                return Err(said(format!("{name}: {}", FileError::Exists)));
            }
            view.remove(&path)
                .map_err(|error| said(format!("{name}: {error}")))?;
        }
        let node = if flags.contains(&'s') {
            Node {
                kind: Kind::Link(target.clone()),
                mode: 0o777,
                time: self.shell.time,
            }
        } else {
            view.stat(&self.path(target))
                .map_err(|error| said(format!("{target}: {error}")))?
        };
        view.put(&path, node)
            .map_err(|error| said(format!("{name}: {error}")))?;
        Ok(0)
    }

    fn chmod(&self, args: &[String]) -> Outcome {
        let Some((mode, names)) = args.split_first() else {
            return Err(said("a mode is needed"));
        };
        for name in names {
            let (view, path) = (&self.shell.process.view, self.path(name));
            let mut node = view
                .stat(&path)
                .map_err(|error| said(format!("{name}: {error}")))?;
            node.mode = match (u32::from_str_radix(mode, 8), mode.as_str()) {
                (Ok(mode), _) => mode,
                (_, "+x" | "a+x") => node.mode | 0o111,
                _ => {
                    return Err(said(format!(
                        "the fake engine's program does not know the mode {mode}; use octal"
                    )));
                }
            };
            view.put(&path, node)
                .map_err(|error| said(format!("{name}: {error}")))?;
        }
        Ok(0)
    }
}

fn long_line(name: &str, node: &Node) -> String {
    let kind = match &node.kind {
        Kind::Dir => 'd',
        Kind::File(_) => '-',
        Kind::Link(_) => 'l',
    };
    let bits: String = (0..9)
        .map(|i| {
            if node.mode & (0o400 >> i) != 0 {
                ['r', 'w', 'x'][i % 3]
            } else {
                '-'
            }
        })
        .collect();
    let target = if let Kind::Link(target) = &node.kind {
        format!(" -> {target}")
    } else {
        String::new()
    };
    format!(
        "{kind}{bits}    1 root     root     {:>9} {} {name}{target}\n",
        node.size(),
        &crate::time::rfc3339(node.time)[..10]
    )
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

fn pad(text: &str, spec: &str) -> String {
    let (left, spec) = spec
        .strip_prefix('-')
        .map_or((false, spec), |spec| (true, spec));
    let (width, precision) = spec.split_once('.').unwrap_or((spec, ""));
    let text: String = match precision.parse::<usize>() {
        Ok(limit) => text.chars().take(limit).collect(),
        Err(_) => text.to_owned(),
    };
    let zero = !left && width.len() > 1 && width.starts_with('0');
    // A width is outside input: it must not become an allocation of any size.
    let width = width.parse::<usize>().unwrap_or(0).min(4096);
    match (left, zero) {
        (true, _) => format!("{text:<width$}"),
        (_, true) => format!("{text:0>width$}"),
        _ => format!("{text:>width$}"),
    }
}

/// `\n`, `\t`, `\\`, `\r`, `\0NNN` and `\xHH`.
fn unescape(text: &str) -> String {
    let mut out = String::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('n') => out.push('\n'),
            Some('t') => out.push('\t'),
            Some('r') => out.push('\r'),
            Some('a') => out.push('\x07'),
            Some('\\') => out.push('\\'),
            Some('x') => {
                let mut value = 0;
                for _ in 0..2 {
                    if let Some(digit) = chars
                        .next_if(char::is_ascii_hexdigit)
                        .and_then(|c| c.to_digit(16))
                    {
                        value = value * 16 + digit;
                    }
                }
                out.push(char::from_u32(value).unwrap_or_default());
            }
            Some(digit @ '0'..='7') => {
                let mut value = digit.to_digit(8).unwrap_or_default();
                for _ in 0..3 {
                    if let Some(digit) = chars
                        .next_if(|c| ('0'..='7').contains(c))
                        .and_then(|c| c.to_digit(8))
                    {
                        value = value * 8 + digit;
                    }
                }
                out.push(char::from_u32(value & 0xff).unwrap_or_default());
            }
            Some(other) => out.extend(['\\', other]),
            None => out.push('\\'),
        }
    }
    out
}
