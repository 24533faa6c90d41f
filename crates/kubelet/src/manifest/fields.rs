//! Reading typed values out of a tree, and accounting for every field.
//!
//! Owns the wording of type errors, of unknown fields and their suggestions, and of what berth does not support. Refuses to know
//! which object has which field (that is [`super::vocabulary`]) and what the values mean (that is the readers).

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

use super::Validate;
use super::node::{Entry, Node, Value};
use super::problem::{Found, Position, quoted};
use super::vocabulary::{Fate, Field, PLACES, Shape};
use crate::quantity::Quantity;

/// Where problems go while one file is read.
pub(super) struct Reader {
    errors: Found,
    warnings: Found,
    validate: Validate,
}

/// A value with its place.
#[derive(Debug, Clone)]
pub(super) struct At<T> {
    pub(super) at: Position,
    pub(super) path: String,
    pub(super) value: T,
}

impl Reader {
    pub(super) fn new(file: &Arc<str>, validate: Validate) -> Self {
        Self {
            errors: Found::new(file),
            warnings: Found::new(file),
            validate,
        }
    }

    pub(super) fn error(
        &mut self,
        at: Position,
        path: impl Into<String>,
        message: impl Into<String>,
    ) {
        self.errors.add(at, path, message);
    }

    pub(super) fn warn(
        &mut self,
        at: Position,
        path: impl Into<String>,
        message: impl Into<String>,
    ) {
        self.warnings.add(at, path, message);
    }

    /// What the pod can do without: an error, or a warning when the user asked for that.
    pub(super) fn refuse(&mut self, at: Position, path: &str, message: &str) {
        match self.validate {
            Validate::Strict => self.error(at, path, message),
            Validate::Warn => self.warn(at, path, format!("{message}; ignored")),
        }
    }

    pub(super) fn failed(&self) -> bool {
        !self.errors.is_empty()
    }

    /// Errors and warnings, in that order.
    pub(super) fn finish(self) -> (Found, Found) {
        (self.errors, self.warnings)
    }

    fn wrong_type(&mut self, node: &Node, path: &str, expected: &str) {
        self.error(
            node.at,
            path,
            format!("expected {expected}, found {}", node.value.describe()),
        );
    }

    /// The text of a node that must be a string.
    pub(super) fn text(&mut self, node: &Node, path: &str) -> Option<String> {
        match &node.value {
            Value::String(text) => return Some(text.to_string()),
            Value::Bool { .. } | Value::Integer(_) | Value::Number(_) => {
                self.error(
                    node.at,
                    path,
                    format!(
                        "expected a string, found {}: put it in quotes",
                        node.value.describe()
                    ),
                );
            }
            Value::Null | Value::Sequence(_) | Value::Mapping(_) => {
                self.wrong_type(node, path, "a string")
            }
        }
        None
    }

    /// The elements of a node that must be a list, each with its path.
    pub(super) fn items<'n>(&mut self, node: &'n Node, path: &str) -> Vec<(&'n Node, String)> {
        match &node.value {
            Value::Sequence(items) => items
                .iter()
                .enumerate()
                .map(|(index, item)| (item, format!("{path}[{index}]")))
                .collect(),
            _ => {
                self.wrong_type(node, path, "a list");
                Vec::new()
            }
        }
    }

    /// A node that must be a mapping, ready to be read field by field.
    pub(super) fn open<'n>(
        &mut self,
        node: &'n Node,
        path: &str,
        table: &'static [Field],
    ) -> Option<Fields<'n>> {
        match &node.value {
            Value::Mapping(entries) => Some(Fields {
                at: node.at,
                path: path.to_owned(),
                left: entries.iter().collect(),
                table,
            }),
            _ => {
                self.wrong_type(node, path, "a mapping");
                None
            }
        }
    }

    /// Looks through a value nobody reads for wrong types and unknown fields. False when there was one.
    fn look_through(&mut self, node: &Node, path: &str, shape: Shape) -> bool {
        let expected = match (shape, &node.value) {
            (_, Value::Null)
            | (Shape::Any, _)
            | (Shape::Text, Value::String(_))
            | (Shape::Number, Value::Integer(_))
            | (Shape::Truth, Value::Bool { .. })
            | (Shape::TextOrNumber, Value::String(_) | Value::Integer(_) | Value::Number(_)) => {
                return true;
            }
            (Shape::List(item_shape), Value::Sequence(items)) => {
                let mut good = true;
                for (index, item) in items.iter().enumerate() {
                    good &= self.look_through(item, &format!("{path}[{index}]"), *item_shape);
                }
                return good;
            }
            (Shape::Map(value_shape), Value::Mapping(entries)) => {
                let mut good = true;
                for entry in entries {
                    good &= self.look_through(&entry.value, &join(path, &entry.key), *value_shape);
                }
                return good;
            }
            (Shape::Object(table), Value::Mapping(entries)) => {
                let mut good = true;
                for entry in entries {
                    let path = join(path, &entry.key);
                    match table.iter().find(|field| field.name == &*entry.key) {
                        None => {
                            self.unknown(entry, &path, table);
                            good = false;
                        }
                        Some(Field {
                            fate: Fate::Read, ..
                        }) => {}
                        Some(Field {
                            fate: Fate::Later(shape, _) | Fate::Ignored(shape, _, _),
                            ..
                        }) => {
                            good &= self.look_through(&entry.value, &path, *shape);
                        }
                    }
                }
                return good;
            }
            (Shape::Text, _) => return self.text(node, path).is_some(),
            (Shape::Number, _) => "a whole number",
            (Shape::Truth, _) => "true or false",
            (Shape::TextOrNumber, _) => "a string or a number",
            (Shape::List(_), _) => "a list",
            (Shape::Map(_) | Shape::Object(_), _) => "a mapping",
        };
        self.wrong_type(node, path, expected);
        false
    }

    fn unknown(&mut self, entry: &Entry, path: &str, table: &[Field]) {
        let hint = match suggestion(&entry.key, table.iter().map(|field| field.name)) {
            Some(name) => format!(" (did you mean \"{name}\"?)"),
            None => match PLACES
                .iter()
                .find(|(_, other)| other.iter().any(|field| field.name == &*entry.key))
            {
                Some((place, _)) => format!(" (it is a field of {place})"),
                None => String::new(),
            },
        };
        self.refuse(entry.key_at, path, &format!("unknown field{hint}"));
    }
}

/// The candidate a misspelt word most likely stands for: at most a third of it differs, upper and lower case aside.
pub(super) fn suggestion<'c>(
    word: &str,
    candidates: impl Iterator<Item = &'c str>,
) -> Option<&'c str> {
    const LONGEST: usize = 64;
    if word.len() > LONGEST {
        return None;
    }
    let lower = word.to_ascii_lowercase();
    candidates
        .map(|candidate| {
            (
                strsim::osa_distance(&lower, &candidate.to_ascii_lowercase()),
                candidate,
            )
        })
        .filter(|(distance, candidate)| {
            *distance <= candidate.len().min(word.len()).div_ceil(3).min(3)
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// `path.key`, with a key that is no plain word in brackets.
pub(super) fn join(path: &str, key: &str) -> String {
    let plain = key.bytes().all(|byte| byte.is_ascii_alphanumeric()) && key.len() <= 64;
    match (path.is_empty(), plain) {
        (true, true) => key.to_owned(),
        (false, true) => format!("{path}.{key}"),
        (_, false) => format!("{path}[{}]", quoted(key)),
    }
}

/// The fields of one object that have not been read yet.
///
/// A null counts as absent, as in Kubernetes. [`Fields::close`] must come last: it accounts for what is left.
#[must_use]
pub(super) struct Fields<'n> {
    pub(super) at: Position,
    pub(super) path: String,
    left: Vec<&'n Entry>,
    table: &'static [Field],
}

impl<'n> Fields<'n> {
    /// Takes a field out. `None` when it is not there or null.
    pub(super) fn take(&mut self, name: &str) -> Option<At<&'n Node>> {
        debug_assert!(
            self.table
                .iter()
                .any(|field| field.name == name && matches!(field.fate, Fate::Read)),
            "{name} is read, so the vocabulary must say so"
        );
        let index = self.left.iter().position(|entry| &*entry.key == name)?;
        let entry = self.left.swap_remove(index);
        (entry.value.value != Value::Null).then(|| At {
            at: entry.value.at,
            path: self.path_of(name),
            value: &entry.value,
        })
    }

    pub(super) fn path_of(&self, name: &str) -> String {
        join(&self.path, name)
    }

    /// Says that a field is missing that must be there.
    pub(super) fn require(&self, reader: &mut Reader, name: &str) {
        reader.error(self.at, self.path_of(name), "is required");
    }

    pub(super) fn string(&mut self, reader: &mut Reader, name: &str) -> Option<At<String>> {
        let At { at, path, value } = self.take(name)?;
        let value = reader.text(value, &path)?;
        Some(At { at, path, value })
    }

    /// A string in which empty means absent, as in Kubernetes.
    pub(super) fn filled_string(&mut self, reader: &mut Reader, name: &str) -> Option<At<String>> {
        self.string(reader, name)
            .filter(|text| !text.value.is_empty())
    }

    pub(super) fn required_string(
        &mut self,
        reader: &mut Reader,
        name: &str,
    ) -> Option<At<String>> {
        match self.take(name) {
            Some(At { at, path, value }) => {
                let value = reader.text(value, &path)?;
                if value.is_empty() {
                    reader.error(at, path, "is required, and empty here");
                    return None;
                }
                Some(At { at, path, value })
            }
            None => {
                self.require(reader, name);
                None
            }
        }
    }

    pub(super) fn boolean(&mut self, reader: &mut Reader, name: &str) -> Option<At<bool>> {
        let At { at, path, value } = self.take(name)?;
        match value.value {
            Value::Bool { value, .. } => Some(At { at, path, value }),
            _ => {
                reader.wrong_type(value, &path, "true or false");
                None
            }
        }
    }

    /// A whole number in a range.
    pub(super) fn number(
        &mut self,
        reader: &mut Reader,
        name: &str,
        range: RangeInclusive<i64>,
    ) -> Option<At<i64>> {
        let At { at, path, value } = self.take(name)?;
        let value = number(reader, value, &path, range)?;
        Some(At { at, path, value })
    }

    pub(super) fn quantity(&mut self, reader: &mut Reader, name: &str) -> Option<At<Quantity>> {
        let At { at, path, value } = self.take(name)?;
        let value = quantity(reader, value, &path)?;
        Some(At { at, path, value })
    }

    /// The strings of a list, each with its place; none when the field is absent.
    pub(super) fn strings(&mut self, reader: &mut Reader, name: &str) -> Vec<At<String>> {
        let Some(list) = self.take(name) else {
            return Vec::new();
        };
        let items = reader.items(list.value, &list.path);
        items
            .into_iter()
            .filter_map(|(item, path)| {
                let value = reader.text(item, &path)?;
                Some(At {
                    at: item.at,
                    path,
                    value,
                })
            })
            .collect()
    }

    /// The elements of a list, each with its path; none when the field is absent.
    pub(super) fn items(&mut self, reader: &mut Reader, name: &str) -> Vec<(&'n Node, String)> {
        match self.take(name) {
            Some(list) => reader.items(list.value, &list.path),
            None => Vec::new(),
        }
    }

    /// A mapping of strings to strings, each with its place; none when the field is absent.
    pub(super) fn string_map(
        &mut self,
        reader: &mut Reader,
        name: &str,
    ) -> BTreeMap<String, At<String>> {
        let Some(At { path, value, .. }) = self.take(name) else {
            return BTreeMap::new();
        };
        let Value::Mapping(entries) = &value.value else {
            reader.wrong_type(value, &path, "a mapping");
            return BTreeMap::new();
        };
        let mut map = BTreeMap::new();
        for entry in entries {
            let path = join(&path, &entry.key);
            // A null among strings is the empty string to Kubernetes.
            let text = match entry.value.value {
                Value::Null => Some(String::new()),
                _ => reader.text(&entry.value, &path),
            };
            if let Some(value) = text {
                map.insert(
                    entry.key.to_string(),
                    At {
                        at: entry.key_at,
                        path,
                        value,
                    },
                );
            }
        }
        map
    }

    /// A nested object; `None` when it is absent or not a mapping.
    pub(super) fn object(
        &mut self,
        reader: &mut Reader,
        name: &str,
        table: &'static [Field],
    ) -> Option<Fields<'n>> {
        let At { path, value, .. } = self.take(name)?;
        reader.open(value, &path, table)
    }

    /// A nested object that must be there.
    pub(super) fn required_object(
        &mut self,
        reader: &mut Reader,
        name: &str,
        table: &'static [Field],
    ) -> Option<Fields<'n>> {
        match self.take(name) {
            Some(At { path, value, .. }) => reader.open(value, &path, table),
            None => {
                self.require(reader, name);
                None
            }
        }
    }

    /// One of several words. The empty string counts as absent.
    pub(super) fn word<T: Copy>(
        &mut self,
        reader: &mut Reader,
        name: &str,
        words: &[(&'static str, T)],
    ) -> Option<At<T>> {
        let At {
            at,
            path,
            value: text,
        } = self.filled_string(reader, name)?;
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
            return Some(At {
                at,
                path,
                value: *value,
            });
        }
        let expected = match words {
            [(only, _)] => format!("expected \"{only}\""),
            _ => format!(
                "expected one of {}",
                words
                    .iter()
                    .map(|(word, _)| *word)
                    .collect::<Vec<_>>()
                    .join(", ")
            ),
        };
        let hint = match suggestion(&text, words.iter().map(|(word, _)| *word)) {
            Some(word) => format!(" (did you mean \"{word}\"?)"),
            None => String::new(),
        };
        reader.error(
            at,
            path,
            format!("{expected}, found {}{hint}", quoted(&text)),
        );
        None
    }

    /// Accounts for every field that nobody took: unknown, not supported, or ignored with a warning.
    pub(super) fn close(self, reader: &mut Reader) {
        for entry in &self.left {
            let path = self.path_of(&entry.key);
            let Some(field) = self.table.iter().find(|field| field.name == &*entry.key) else {
                reader.unknown(entry, &path, self.table);
                continue;
            };
            match &field.fate {
                Fate::Read => reader.refuse(entry.key_at, &path, NOT_YET),
                Fate::Later(shape, harmless) => {
                    if reader.look_through(&entry.value, &path, *shape)
                        && !is_harmless(&entry.value, harmless)
                    {
                        reader.refuse(entry.key_at, &path, NOT_YET);
                    }
                }
                Fate::Ignored(shape, harmless, why) => {
                    if reader.look_through(&entry.value, &path, *shape)
                        && !is_harmless(&entry.value, harmless)
                    {
                        reader.warn(entry.key_at, &path, format!("ignored: {why}"));
                    }
                }
            }
        }
    }

    /// Drops a field that has been dealt with in another way.
    pub(super) fn forget(&mut self, name: &str) {
        self.left.retain(|entry| &*entry.key != name);
    }

    /// The first field left that berth does not support yet and that says something.
    pub(super) fn first_unsupported(&self) -> Option<(&'static str, Position)> {
        self.left
            .iter()
            .filter(|entry| !entry.value.value.is_empty())
            .find_map(|entry| {
                let field = self.table.iter().find(|field| field.name == &*entry.key)?;
                matches!(field.fate, Fate::Later(..)).then_some((field.name, entry.key_at))
            })
    }

    /// Whether a field is still there and says something.
    pub(super) fn has(&self, name: &str) -> bool {
        self.left
            .iter()
            .any(|entry| &*entry.key == name && !entry.value.value.is_empty())
    }
}

const NOT_YET: &str = "is a Kubernetes field that berth does not support yet";

/// Whether a value nobody reads changes nothing: it is empty, or the default written out.
fn is_harmless(node: &Node, harmless: &[&str]) -> bool {
    match &node.value {
        Value::Bool { value, .. } => harmless.contains(&if *value { "true" } else { "false" }),
        Value::Integer(number) => harmless.contains(&number.to_string().as_str()),
        Value::String(text) => text.is_empty() || harmless.contains(&&**text),
        value => value.is_empty(),
    }
}

/// A whole number in a range.
pub(super) fn number(
    reader: &mut Reader,
    node: &Node,
    path: &str,
    range: RangeInclusive<i64>,
) -> Option<i64> {
    match &node.value {
        Value::Integer(number) if range.contains(number) => Some(*number),
        Value::Integer(number) => {
            reader.error(
                node.at,
                path,
                format!(
                    "expected a number from {} to {}, found {number}",
                    range.start(),
                    range.end()
                ),
            );
            None
        }
        _ => {
            reader.wrong_type(node, path, "a whole number");
            None
        }
    }
}

/// A quantity, written as a string or as a number.
pub(super) fn quantity(reader: &mut Reader, node: &Node, path: &str) -> Option<Quantity> {
    let text = match &node.value {
        Value::String(text) | Value::Number(text) => text.to_string(),
        Value::Integer(number) => number.to_string(),
        _ => {
            reader.wrong_type(node, path, "a quantity such as 500m or 64Mi");
            return None;
        }
    };
    match text.parse() {
        Ok(quantity) => Some(quantity),
        Err(error) => {
            reader.error(
                node.at,
                path,
                format!(
                    "expected a quantity such as 500m or 64Mi, found {}: {error}",
                    quoted(&text)
                ),
            );
            None
        }
    }
}
