//! Owns expansion: words of a command to arguments, with parameters, substitutions, field splitting and `*`.

use std::sync::{Arc, Mutex, PoisonError};

use super::arithmetic::evaluate;
use super::io::Sink;
use super::parse::{How, Instead, Part, Word};
use super::run::{Io, Shell};
use crate::files::clean;
use crate::script::glob;

/// An argument under construction.
#[derive(Default)]
struct Field {
    text: String,
    /// Something was there, even if empty and quoted.
    present: bool,
    /// It has a `*` that was not quoted.
    pattern: bool,
}

impl Shell {
    /// All words as arguments.
    pub(crate) async fn expand(&mut self, words: &[Word], io: &Io) -> Result<Vec<String>, String> {
        let mut arguments = Vec::new();
        for word in words {
            for field in self.fields(word, io).await? {
                if !field.pattern {
                    arguments.push(field.text);
                    continue;
                }
                let found = self.paths(&field.text);
                if found.is_empty() {
                    arguments.push(field.text)
                } else {
                    arguments.extend(found)
                }
            }
        }
        Ok(arguments)
    }

    /// A word as one text, not split: for assignments and redirections.
    pub(crate) async fn expand_one(&mut self, word: &Word, io: &Io) -> Result<String, String> {
        let mut text = String::new();
        for part in &word.0 {
            text.push_str(&self.part(part, io).await?);
        }
        Ok(text)
    }

    async fn fields(&mut self, word: &Word, io: &Io) -> Result<Vec<Field>, String> {
        let mut fields = Vec::new();
        let mut current = Field::default();
        for part in &word.0 {
            let quoted = match part {
                Part::Text(_, quoted)
                | Part::Parameter { quoted, .. }
                | Part::Substitution { quoted, .. }
                | Part::Arithmetic { quoted, .. } => *quoted,
            };
            if let Part::Parameter {
                name, quoted: true, ..
            } = part
                && name == "@"
            {
                for (index, argument) in self.arguments.clone().iter().skip(1).enumerate() {
                    if index > 0 {
                        fields.push(std::mem::take(&mut current));
                    }
                    current.text.push_str(argument);
                    current.present = true;
                }
                continue;
            }
            let text = self.part(part, io).await?;
            if quoted || matches!(part, Part::Text(..)) {
                current.present |= quoted || !text.is_empty();
                current.pattern |= !quoted && text.contains('*');
                current.text.push_str(&text);
                continue;
            }
            for (index, piece) in text.split([' ', '\t', '\n']).enumerate() {
                if index > 0 && current.present {
                    fields.push(std::mem::take(&mut current));
                }
                current.present |= !piece.is_empty();
                current.pattern |= piece.contains('*');
                current.text.push_str(piece);
            }
        }
        if current.present {
            fields.push(current);
        }
        Ok(fields)
    }

    async fn part(&mut self, part: &Part, io: &Io) -> Result<String, String> {
        match part {
            Part::Text(text, _) => Ok(text.clone()),
            Part::Parameter { name, instead, .. } => {
                let value = self.parameter(name);
                let Some(Instead {
                    how,
                    or_empty,
                    word,
                }) = instead
                else {
                    return Ok(value);
                };
                let unset = !self.is_set(name) || *or_empty && value.is_empty();
                match (how, unset) {
                    (How::Default, true) | (How::Alternative, false) => {
                        Box::pin(self.expand_one(word, io)).await
                    }
                    (How::Assign, true) => {
                        let word = Box::pin(self.expand_one(word, io)).await?;
                        self.assign(name, word.clone());
                        Ok(word)
                    }
                    (How::Error, true) => {
                        let text = Box::pin(self.expand_one(word, io)).await?;
                        Err(match text.as_str() {
                            "" => format!("{name}: parameter not set"),
                            text => format!("{name}: {text}"),
                        })
                    }
                    (How::Alternative, true) => Ok(String::new()),
                    (How::Default | How::Assign | How::Error, false) => Ok(value),
                }
            }
            Part::Arithmetic { expression, .. } => {
                let text = Box::pin(self.expand_one(expression, io)).await?;
                let value = evaluate(&text, &|name| self.parameter(name))?;
                Ok(value.to_string())
            }
            Part::Substitution { command, .. } => {
                let buffer = Arc::new(Mutex::new(Vec::new()));
                let inner = Io {
                    stdout: Sink::Memory(Arc::clone(&buffer)),
                    ..io.clone()
                };
                let mut child = self.subshell();
                let flow = child.run(command, inner).await;
                self.time = self.time.max(child.time);
                self.last = child.finish(flow);
                let bytes =
                    std::mem::take(&mut *buffer.lock().unwrap_or_else(PoisonError::into_inner));
                Ok(String::from_utf8_lossy(&bytes)
                    .trim_end_matches('\n')
                    .to_owned())
            }
        }
    }

    fn is_set(&self, name: &str) -> bool {
        match name {
            "?" | "$" | "#" => true,
            "!" => self.last_job > 0,
            "@" | "*" => self.arguments.len() > 1,
            _ => match name.parse::<usize>() {
                Ok(index) => index < self.arguments.len(),
                Err(_) => self.variables.get(name).is_some(),
            },
        }
    }

    pub(crate) fn parameter(&self, name: &str) -> String {
        match name {
            "?" => self.last.to_string(),
            "$" => "1".to_owned(),
            "!" => self.last_job.to_string(),
            "#" => self.arguments.len().saturating_sub(1).to_string(),
            "@" | "*" => self.arguments.get(1..).unwrap_or_default().join(" "),
            _ => match name.parse::<usize>() {
                Ok(index) => self.arguments.get(index).cloned().unwrap_or_default(),
                Err(_) => self
                    .variables
                    .get(name)
                    .map(|v| v.value.clone())
                    .unwrap_or_default(),
            },
        }
    }

    /// The paths that fit a pattern, sorted.
    fn paths(&self, pattern: &str) -> Vec<String> {
        let absolute = pattern.starts_with('/');
        let mut found = vec![String::new()];
        for part in pattern.split('/').filter(|part| !part.is_empty()) {
            let mut next = Vec::new();
            for prefix in &found {
                let join = |name: &str| match (prefix.as_str(), absolute) {
                    ("", false) => name.to_owned(),
                    (prefix, _) => format!("{prefix}/{name}"),
                };
                if !part.contains('*') {
                    next.push(join(part));
                    continue;
                }
                let directory = clean(
                    &self.directory,
                    if prefix.is_empty() && absolute {
                        "/"
                    } else {
                        prefix
                    },
                );
                let names = self.process.view.list(&directory).unwrap_or_default();
                let visible = |name: &&String| {
                    glob(part, name) && (part.starts_with('.') || !name.starts_with('.'))
                };
                next.extend(names.iter().filter(visible).map(|name| join(name)));
            }
            found = next;
        }
        found.retain(|path| {
            !path.is_empty()
                && self
                    .process
                    .view
                    .lstat(&clean(&self.directory, path))
                    .is_ok()
        });
        found
    }
}
