//! A document as a tree in which every value knows where it stands.
//!
//! Owns the shape that YAML and JSON have in common, the limits both obey, and what a plain YAML scalar means. Refuses to know
//! Kubernetes' fields.

use std::collections::HashMap;

use super::problem::{Position, quoted};

/// The deepest nesting taken. A Pod needs about 12; the limit bounds recursion.
pub(super) const MAX_DEPTH: usize = 64;

/// The most one file may weigh once aliases are expanded: every value counts [`NODE_WEIGHT`] and the bytes of its text.
pub(super) const MAX_WEIGHT: usize = 64 * 1024 * 1024;

/// What a value weighs apart from its text; about its size in memory.
pub(super) const NODE_WEIGHT: usize = 64;

/// A value and where it starts.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    pub(super) at: Position,
    pub(super) value: Value,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Null,
    Bool {
        value: bool,
        /// As written, when that is not plainly `true` or `false`.
        written: Option<Box<str>>,
    },
    /// A whole number that fits in 64 bits, signed.
    Integer(i64),
    /// Any other number, as written.
    Number(Box<str>),
    String(Box<str>),
    Sequence(Vec<Node>),
    Mapping(Vec<Entry>),
}

/// One `key: value` of a mapping. Keys are strings and differ from each other.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    pub(super) key: Box<str>,
    pub(super) key_at: Position,
    pub(super) value: Node,
}

/// What a file holds, as far as it could be read.
#[derive(Debug, Default)]
pub(super) struct Trees {
    /// The documents before the place where reading stopped.
    pub(super) documents: Vec<Node>,
    /// What is wrong but did not stop the reading.
    pub(super) problems: Vec<Malformed>,
    /// Why reading stopped before the end.
    pub(super) stopped: Option<Malformed>,
}

/// Entries of a mapping under construction, each key once.
#[derive(Debug, Default)]
pub(super) struct Entries {
    entries: Vec<Entry>,
    lines: HashMap<Box<str>, usize>,
}

impl Entries {
    /// Adds an entry; notes a problem instead when its key is there already.
    pub(super) fn push(
        &mut self,
        key: Box<str>,
        key_at: Position,
        value: Node,
        problems: &mut Vec<Malformed>,
    ) {
        if let Some(line) = self.lines.get(&key) {
            problems.push(Malformed::new(
                key_at,
                format!("the key {} is already there, on line {line}", quoted(&key)),
            ));
            return;
        }
        self.lines.insert(key.clone(), key_at.line);
        self.entries.push(Entry { key, key_at, value });
    }

    /// Adds the entries of a YAML merge (`<<`) whose keys are not there.
    pub(super) fn merge(&mut self, entries: Vec<Entry>) {
        for entry in entries {
            if !self.lines.contains_key(&entry.key) {
                self.lines.insert(entry.key.clone(), entry.key_at.line);
                self.entries.push(entry);
            }
        }
    }

    pub(super) fn finish(self) -> Vec<Entry> {
        self.entries
    }
}

/// Something a file has that no tree can hold.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Malformed {
    pub(super) at: Position,
    pub(super) message: String,
}

impl Malformed {
    pub(super) fn new(at: Position, message: impl Into<String>) -> Self {
        Self {
            at,
            message: message.into(),
        }
    }

    pub(super) fn too_deep(at: Position) -> Self {
        Self::new(at, format!("nested more than {MAX_DEPTH} levels deep"))
    }

    pub(super) fn too_heavy(at: Position) -> Self {
        Self::new(
            at,
            "holds more than 64 MiB of values once aliases are expanded",
        )
    }
}

impl Value {
    /// What a plain (unquoted) YAML scalar means to kubectl, which reads YAML 1.1 as go-yaml v2 does: `yes`, `on` and `y` are true,
    /// `0644` and `0o644` are octal, `1_000` is a thousand; `12:30` and dates stay strings.
    pub(super) fn plain(text: &str) -> Self {
        match text {
            "" | "~" | "null" | "Null" | "NULL" => return Self::Null,
            "true" => return Self::truth(true, None),
            "false" => return Self::truth(false, None),
            "True" | "TRUE" | "y" | "Y" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => {
                return Self::truth(true, Some(text));
            }
            "False" | "FALSE" | "n" | "N" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => {
                return Self::truth(false, Some(text));
            }
            ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" | "-.inf" | "-.Inf"
            | "-.INF" | ".nan" | ".NaN" | ".NAN" => {
                return Self::Number(text.into());
            }
            _ => {}
        }
        if !text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.')) {
            return Self::String(text.into());
        }
        let digits: String = text.chars().filter(|&c| c != '_').collect();
        if let Some(number) = integer(&digits) {
            return number;
        }
        if is_decimal(&digits) {
            Self::Number(digits.into())
        } else {
            Self::String(text.into())
        }
    }

    fn truth(value: bool, written: Option<&str>) -> Self {
        Self::Bool {
            value,
            written: written.map(Into::into),
        }
    }

    /// What is there, for "expected …, found …".
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Null => "nothing".to_owned(),
            Self::Bool {
                value,
                written: None,
            } => format!("the boolean {value}"),
            Self::Bool {
                value,
                written: Some(written),
            } => format!("the boolean {value} (YAML reads {written} so)"),
            Self::Integer(number) => format!("the number {number}"),
            Self::Number(text) => format!("the number {text}"),
            Self::String(text) => format!("the string {}", quoted(text)),
            Self::Sequence(_) => "a list".to_owned(),
            Self::Mapping(_) => "a mapping".to_owned(),
        }
    }

    /// Absent as far as Kubernetes can tell: null, an empty string, list or mapping.
    pub(super) fn is_empty(&self) -> bool {
        match self {
            Self::Null => true,
            Self::String(text) => text.is_empty(),
            Self::Sequence(items) => items.is_empty(),
            Self::Mapping(entries) => entries.is_empty(),
            Self::Bool { .. } | Self::Integer(_) | Self::Number(_) => false,
        }
    }
}

impl Node {
    /// What the tree weighs against [`MAX_WEIGHT`]. Recursion is bounded by [`MAX_DEPTH`].
    pub(super) fn weight(&self) -> usize {
        NODE_WEIGHT
            + match &self.value {
                Value::Null | Value::Bool { .. } | Value::Integer(_) => 0,
                Value::Number(text) | Value::String(text) => text.len(),
                Value::Sequence(items) => items.iter().map(Self::weight).sum(),
                Value::Mapping(entries) => entries
                    .iter()
                    .map(|entry| entry.key.len() + entry.value.weight())
                    .sum(),
            }
    }

    /// The tree's depth: 1 for a scalar.
    pub(super) fn depth(&self) -> usize {
        1 + match &self.value {
            Value::Sequence(items) => items.iter().map(Self::depth).max().unwrap_or(0),
            Value::Mapping(entries) => entries
                .iter()
                .map(|entry| entry.value.depth())
                .max()
                .unwrap_or(0),
            _ => 0,
        }
    }
}

/// A whole number with Go's prefixes (`0x`, `0o`, `0b`, and a bare leading `0` for octal), underscores already gone.
fn integer(digits: &str) -> Option<Value> {
    let (sign, magnitude) = match digits.as_bytes().first()? {
        b'-' => ("-", &digits[1..]),
        b'+' => ("", &digits[1..]),
        _ => ("", digits),
    };
    let (radix, body) = match magnitude.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, &magnitude[2..]),
        [b'0', b'o' | b'O', ..] => (8, &magnitude[2..]),
        [b'0', b'b' | b'B', ..] => (2, &magnitude[2..]),
        [b'0', _, ..] => (8, &magnitude[1..]),
        _ => (10, magnitude),
    };
    if !body.starts_with(|c: char| c.is_ascii_hexdigit()) {
        return None;
    }
    if let Ok(number) = i64::from_str_radix(&format!("{sign}{body}"), radix) {
        return Some(Value::Integer(number));
    }
    // Go falls back to an unsigned 64-bit number.
    let number = u64::from_str_radix(body, radix)
        .ok()
        .filter(|_| sign.is_empty())?;
    Some(Value::Number(number.to_string().into()))
}

/// `[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`
fn is_decimal(text: &str) -> bool {
    let text = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (text, None),
    };
    let all_digits =
        |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let exponent_ok = exponent
        .is_none_or(|exponent| all_digits(exponent.strip_prefix(['+', '-']).unwrap_or(exponent)));
    let mantissa_ok = match mantissa.split_once('.') {
        Some(("", fraction)) => all_digits(fraction),
        Some((whole, fraction)) => {
            all_digits(whole) && (fraction.is_empty() || all_digits(fraction))
        }
        None => all_digits(mantissa),
    };
    exponent_ok && mantissa_ok
}

#[cfg(test)]
mod tests {
    use super::*;

    fn string(text: &str) -> Value {
        Value::String(text.into())
    }

    #[test]
    fn plain_scalars_mean_what_they_mean_to_kubectl() {
        for text in ["y", "Y", "yes", "on", "On", "True"] {
            assert!(
                matches!(
                    Value::plain(text),
                    Value::Bool {
                        value: true,
                        written: Some(_)
                    }
                ),
                "{text}"
            );
        }
        for text in ["n", "N", "no", "off", "OFF", "FALSE"] {
            assert!(
                matches!(
                    Value::plain(text),
                    Value::Bool {
                        value: false,
                        written: Some(_)
                    }
                ),
                "{text}"
            );
        }
        assert_eq!(
            Value::plain("true"),
            Value::Bool {
                value: true,
                written: None
            }
        );
        for (text, number) in [
            ("0", 0),
            ("0644", 420),
            ("0o644", 420),
            ("0x1F", 31),
            ("0b101", 5),
            ("-0x10", -16),
            ("+7", 7),
            ("1_000", 1000),
            ("-9223372036854775808", i64::MIN),
        ] {
            assert_eq!(Value::plain(text), Value::Integer(number), "{text}");
        }
        for text in ["0.5", ".5", "5.", "1e3", "1E-3", "+1.5", "08", "1.0e+2"] {
            assert_eq!(Value::plain(text), Value::Number(text.into()), "{text}");
        }
        assert_eq!(
            Value::plain("18446744073709551615"),
            Value::Number("18446744073709551615".into())
        );
        for text in ["", "~", "null"] {
            assert_eq!(Value::plain(text), Value::Null, "{text}");
        }
        for text in [
            "yEs",
            "tru",
            "nullx",
            "12:30",
            "2001-01-01",
            "1.2.3",
            "-",
            "+",
            ".",
            "0x",
            "0xg",
            "1e",
            "64Mi",
            "0x+1",
            "--1",
            "5 m",
        ] {
            assert_eq!(Value::plain(text), string(text), "{text}");
        }
    }
}
