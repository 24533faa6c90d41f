//! Owns the built-in programs about files: test, ls, mkdir, touch, rm, cp, mv, ln, chmod, chown.

use super::applets::{Applet, Failure, Outcome, options, said};
use crate::containers::lifecycle::user_numbers;
use crate::files::{FileError, Kind, Node, clean};

impl Applet<'_> {
    pub(super) fn test(&self, args: &[String]) -> Outcome {
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
            ["-t", _] => Ok(self.shell.process.terminal.is_some()),
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

    pub(super) async fn ls(&mut self, args: &[String]) -> Outcome {
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

    pub(super) async fn mkdir(&mut self, args: &[String]) -> Outcome {
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
                        view.put(&path[..end], Node::dir(self.shell.time).owned(view.user))
                            .map_err(fail)?;
                    }
                }
            } else if view.lstat(&path).is_ok() {
                return Err(fail(FileError::Exists));
            } else {
                view.put(&path, Node::dir(self.shell.time).owned(view.user))
                    .map_err(fail)?;
            }
        }
        Ok(0)
    }

    pub(super) async fn touch(&mut self, args: &[String]) -> Outcome {
        let (_, names) = options(args, "")?;
        for name in names {
            let path = self.path(name);
            let view = &self.shell.process.view;
            let mut node = view
                .stat(&path)
                .unwrap_or_else(|_| Node::file("", 0).owned(view.user));
            node.time = self.shell.time;
            if node.kind != Kind::Dir {
                view.put(&path, node)
                    .map_err(|error| said(format!("{name}: {error}")))?;
            }
        }
        Ok(0)
    }

    pub(super) async fn remove(&mut self, args: &[String]) -> Outcome {
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

    pub(super) async fn copy(&mut self, args: &[String]) -> Outcome {
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

    pub(super) fn link(&self, args: &[String]) -> Outcome {
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
            Node::link(target.as_str(), self.shell.time).owned(view.user)
        } else {
            view.stat(&self.path(target))
                .map_err(|error| said(format!("{target}: {error}")))?
        };
        view.put(&path, node)
            .map_err(|error| said(format!("{name}: {error}")))?;
        Ok(0)
    }

    /// `chown USER[:GROUP] FILE…`
    pub(super) fn chown(&self, args: &[String]) -> Outcome {
        let (_, args) = options(args, "h")?;
        let Some((owner, names)) = args.split_first() else {
            return Err(said("an owner is needed"));
        };
        for name in names {
            let (view, path) = (&self.shell.process.view, self.path(name));
            let mut node = view
                .stat(&path)
                .map_err(|error| said(format!("{name}: {error}")))?;
            let (user, group) = user_numbers(owner);
            let group = if owner.contains(':') {
                group
            } else {
                node.owner.1
            };
            node.owner = (user, group);
            view.put(&path, node)
                .map_err(|error| said(format!("{name}: {error}")))?;
        }
        Ok(0)
    }

    pub(super) fn chmod(&self, args: &[String]) -> Outcome {
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

/// The name of a user or group, or its number.
fn owner_name(number: u32, nobody: &str) -> String {
    match number {
        0 => "root".to_owned(),
        65_534 => nobody.to_owned(),
        other => other.to_string(),
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
        "{kind}{bits}    1 {:8} {:8} {:>9} {} {name}{target}\n",
        owner_name(node.owner.0, "nobody"),
        owner_name(node.owner.1, "nogroup"),
        node.size(),
        &crate::time::rfc3339(node.time)[..10]
    )
}
