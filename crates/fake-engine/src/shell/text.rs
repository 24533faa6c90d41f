//! Owns the built-in programs that make and move text: echo, printf, cat, head, tail, wc, seq, tee, grep, sort.

use bytes::Bytes;

use super::applets::{Applet, Failure, Outcome, options, said};
use crate::files::FileError;

/// What head and tail are told.
struct Counts<'a> {
    lines: Option<u64>,
    bytes: Option<u64>,
    follow: bool,
    files: &'a [String],
}

impl Applet<'_> {
    pub(super) async fn echo(&mut self, args: &[String]) -> Outcome {
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

    pub(super) async fn printf(&mut self, args: &[String]) -> Outcome {
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

    pub(super) async fn cat(&mut self, args: &[String]) -> Outcome {
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
    fn counts(args: &[String]) -> Result<Counts<'_>, Failure> {
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
                .parse()
                .map_err(|_| said(format!("invalid number '{text}'")))?;
            if letter == b'n' {
                lines = Some(number)
            } else {
                bytes = Some(number)
            }
        }
        Ok(Counts {
            lines,
            bytes,
            follow,
            files: rest,
        })
    }

    pub(super) async fn head(&mut self, args: &[String]) -> Outcome {
        let Counts {
            lines,
            bytes,
            follow,
            files,
        } = Self::counts(args)?;
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

    pub(super) async fn tail(&mut self, args: &[String]) -> Outcome {
        let Counts {
            lines,
            bytes,
            follow,
            files,
        } = Self::counts(args)?;
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
        if !follow {
            return Ok(0);
        }
        loop {
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

    pub(super) async fn wc(&mut self, args: &[String]) -> Outcome {
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

    pub(super) async fn seq(&mut self, args: &[String]) -> Outcome {
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

    pub(super) async fn yes(&mut self, args: &[String]) -> Outcome {
        let line = if args.is_empty() {
            "y\n".to_owned()
        } else {
            format!("{}\n", args.join(" "))
        };
        // Written by the block, as stdio does.
        let block = Bytes::from(line.repeat((4096 / line.len()).max(1)));
        loop {
            self.out(block.clone()).await?;
            tokio::task::yield_now().await;
        }
    }

    pub(super) async fn tee(&mut self, args: &[String]) -> Outcome {
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
    pub(super) async fn grep(&mut self, args: &[String]) -> Outcome {
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

    pub(super) async fn sort(&mut self, args: &[String]) -> Outcome {
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
