//! A file of settings: one mapping of names to words, numbers, or lists of them.
//!
//! Owns the shape of such a file. Refuses to know what its settings mean.

use std::sync::Arc;

use super::fields::suggestion;
use super::node::{Node, Value};
use super::problem::{Errors, Found, Position, Problem, quoted};
use super::{text, trees};

/// One setting, as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// Its name.
    pub name: String,
    /// Its value, or values if it is a list; at least one.
    pub values: Vec<String>,
    /// Where its value begins.
    pub at: Position,
}

/// Reads the settings of a file, YAML or JSON, in its order. A null counts as absent, and so does an empty file.
///
/// `file` is its name for messages, `known` are the names that there are. Never panics, whatever the bytes; takes at most
/// [`MAX_BYTES`](super::MAX_BYTES) of them.
///
/// # Errors
/// Everything that is wrong with the shape of the file and with the names in it.
pub fn settings(bytes: &[u8], file: &str, known: &[String]) -> Result<Vec<Setting>, Errors> {
    let file: Arc<str> = file.into();
    let mut found = Found::new(&file);
    let mut settings = Vec::new();
    match text(bytes) {
        Err(malformed) => found.add(malformed.at, "", malformed.message),
        Ok(text) => {
            let trees = trees(text);
            let mut documents = trees.documents.iter();
            if let Some(node) = documents.next() {
                read(node, known, &mut settings, &mut found);
            }
            if let Some(second) = documents.next() {
                found.add(second.at, "", "a second document: settings are one");
            }
            for malformed in trees.problems.into_iter().chain(trees.stopped) {
                found.add(malformed.at, "", malformed.message);
            }
        }
    }
    if found.is_empty() {
        Ok(settings)
    } else {
        Err(found.finish())
    }
}

/// The problem of a setting whose value its reader does not take.
pub fn refused(file: &str, setting: &Setting, message: impl Into<String>) -> Problem {
    Problem {
        file: file.into(),
        at: setting.at,
        path: setting.name.clone(),
        message: message.into(),
    }
}

fn read(node: &Node, known: &[String], settings: &mut Vec<Setting>, found: &mut Found) {
    let entries = match &node.value {
        Value::Null => return,
        Value::Mapping(entries) => entries,
        other => {
            let message = format!(
                "expected settings (name: value), found {}",
                other.describe()
            );
            return found.add(node.at, "", message);
        }
    };
    for entry in entries {
        if !known.iter().any(|name| **name == *entry.key) {
            let hint = suggestion(&entry.key, known.iter().map(String::as_str))
                .map(|name| format!(" (did you mean {name:?}?)"))
                .unwrap_or_default();
            let message = format!("unknown setting {}{hint}", quoted(&entry.key));
            found.add(entry.key_at, "", message);
            continue;
        }
        let items = match &entry.value.value {
            Value::Null => continue,
            Value::Sequence(items) => items.as_slice(),
            _ => std::slice::from_ref(&entry.value),
        };
        if items.is_empty() {
            continue;
        }
        let mut values = Vec::with_capacity(items.len());
        for item in items {
            match word(&item.value) {
                Some(word) => values.push(word),
                None => {
                    let message = format!(
                        "expected a word, a number or a list of them, found {}",
                        item.value.describe()
                    );
                    found.add(item.at, &*entry.key, message);
                }
            }
        }
        settings.push(Setting {
            name: entry.key.to_string(),
            values,
            at: entry.value.at,
        });
    }
}

fn word(value: &Value) -> Option<String> {
    match value {
        Value::Bool { value, written } => Some(match written {
            Some(written) => written.to_string(),
            None => value.to_string(),
        }),
        Value::Integer(number) => Some(number.to_string()),
        Value::Number(text) | Value::String(text) => Some(text.to_string()),
        Value::Null | Value::Sequence(_) | Value::Mapping(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> Vec<String> {
        ["listen", "cniConfDir", "socketGroup"]
            .map(str::to_owned)
            .into()
    }

    #[test]
    fn settings_are_words_numbers_and_lists() {
        let text = "# mine\nlisten: unix:///a.sock\ncniConfDir: [/a, /b]\nsocketGroup: 998\n";
        let read = settings(text.as_bytes(), "f", &known()).expect("it is well formed");
        let read: Vec<_> = read
            .iter()
            .map(|setting| {
                (
                    setting.name.as_str(),
                    setting.values.join("|"),
                    setting.at.line,
                )
            })
            .collect();
        assert_eq!(
            read,
            [
                ("listen", "unix:///a.sock".to_owned(), 2),
                ("cniConfDir", "/a|/b".to_owned(), 3),
                ("socketGroup", "998".to_owned(), 4),
            ]
        );
        for empty in [
            "",
            "# nothing\n",
            "---\n",
            "{}",
            "listen:\ncniConfDir: []\n",
        ] {
            assert_eq!(
                settings(empty.as_bytes(), "f", &known()),
                Ok(Vec::new()),
                "{empty:?}"
            );
        }
    }

    #[test]
    fn everything_wrong_with_a_file_is_told_with_its_place() {
        let text = "listn: a\nsocketGroup: {a: b}\ncniConfDir: [x, [y]]\nlisten: b\nlisten: c\n";
        let errors = settings(text.as_bytes(), "berth.yaml", &known()).expect_err("it is wrong");
        assert_eq!(
            errors.to_string(),
            "berth.yaml:1:1: unknown setting \"listn\" (did you mean \"listen\"?)\n\
             berth.yaml:2:14: socketGroup: expected a word, a number or a list of them, found a mapping\n\
             berth.yaml:3:17: cniConfDir: expected a word, a number or a list of them, found a list\n\
             berth.yaml:5:1: the key \"listen\" is already there, on line 4"
        );
        for (text, words) in [
            ("just words", "1:1: expected settings"),
            ("listen: a\n---\nlisten: b\n", "3:1: a second document"),
            ("listen: [", "not YAML"),
        ] {
            let errors = settings(text.as_bytes(), "f", &known()).expect_err(text);
            assert!(errors.to_string().contains(words), "{errors}");
        }
    }
}
