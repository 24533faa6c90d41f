//! What is wrong with a manifest, and where.
//!
//! Owns positions, the wording of one problem's line and the bound on how many are kept. Refuses to know the rules.

use std::fmt;
use std::sync::Arc;

/// The most problems reported for one file; the rest is counted.
pub const MAX_REPORTED: usize = 100;

/// The most problems kept before sorting, so that a hostile file cannot fill memory with them.
const MAX_KEPT: usize = 1_000;

/// The most characters of a manifest's own text repeated in a message.
const MAX_QUOTED: usize = 60;

/// A place in a file: line and column, both from 1, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

impl Position {
    /// The start of a file.
    pub const START: Self = Self { line: 1, column: 1 };
}

/// One thing wrong with a manifest, or worth a warning.
///
/// Prints as `file:line:column: path: message`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file's name as given, or `<stdin>`.
    pub file: Arc<str>,
    /// Where in the file.
    pub at: Position,
    /// Which field, such as `spec.containers[0].image`; empty when the trouble is with the file or the document.
    pub path: String,
    /// What is wrong, lower-case and without a full stop.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: ", self.file, self.at.line, self.at.column)?;
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)
    }
}

/// Why a manifest was refused: one line for each problem, in the order of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Errors {
    /// The problems, at least one and at most [`MAX_REPORTED`].
    pub problems: Vec<Problem>,
    /// How many more there are.
    pub more: usize,
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        if self.more > 0 {
            write!(f, "\n… and {} more", self.more)?;
        }
        Ok(())
    }
}

impl std::error::Error for Errors {}

/// Problems as they are found.
#[derive(Debug)]
pub(super) struct Found {
    file: Arc<str>,
    kept: Vec<Problem>,
    dropped: usize,
}

impl Found {
    pub(super) fn new(file: &Arc<str>) -> Self {
        Self {
            file: Arc::clone(file),
            kept: Vec::new(),
            dropped: 0,
        }
    }

    pub(super) fn add(
        &mut self,
        at: Position,
        path: impl Into<String>,
        message: impl Into<String>,
    ) {
        if self.kept.len() == MAX_KEPT {
            self.dropped += 1;
            return;
        }
        self.kept.push(Problem {
            file: Arc::clone(&self.file),
            at,
            path: path.into(),
            message: message.into(),
        });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// The problems in the order of the file, and how many more there were.
    pub(super) fn finish(mut self) -> Errors {
        self.kept
            .sort_by(|a, b| (a.at, &a.path).cmp(&(b.at, &b.path)));
        self.kept.dedup();
        let more = self.dropped + self.kept.len().saturating_sub(MAX_REPORTED);
        self.kept.truncate(MAX_REPORTED);
        Errors {
            problems: self.kept,
            more,
        }
    }
}

/// A piece of the manifest's text, in quotes, control characters escaped, cut when long.
pub(super) fn quoted(text: &str) -> String {
    match text.char_indices().nth(MAX_QUOTED) {
        Some((cut, _)) => format!("{:?}…", &text[..cut]),
        None => format!("{text:?}"),
    }
}
