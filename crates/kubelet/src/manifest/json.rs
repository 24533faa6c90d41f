//! JSON text to trees.
//!
//! Owns strict JSON (RFC 8259) with positions, for files that begin as JSON does. YAML is nearly a superset, but not of surrogate
//! escapes (`\ud83d\ude00`) and tabs, both of which JSON writers produce.

use super::node::{Entries, MAX_DEPTH, MAX_WEIGHT, Malformed, NODE_WEIGHT, Node, Trees, Value};
use super::problem::{Position, quoted};

/// Reads every JSON value in the text, one after another. Stops at the first thing that is not JSON or breaks a limit; a key that
/// comes twice is noted, and the first one counts.
pub(super) fn trees(text: &str) -> Trees {
    let mut reader = Reader {
        rest: text,
        at: Position::START,
        weight: 0,
        problems: Vec::new(),
    };
    let mut documents = Vec::new();
    let end = loop {
        reader.skip_space();
        if reader.rest.is_empty() {
            break None;
        }
        match reader.value(1) {
            Ok(node) => documents.push(node),
            Err(malformed) => break Some(malformed),
        }
    };
    Trees {
        documents,
        problems: reader.problems,
        stopped: end,
    }
}

struct Reader<'t> {
    rest: &'t str,
    at: Position,
    weight: usize,
    problems: Vec<Malformed>,
}

impl Reader<'_> {
    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn advance(&mut self) -> Option<char> {
        let mut chars = self.rest.chars();
        let next = chars.next()?;
        self.rest = chars.as_str();
        if next == '\n' {
            self.at.line += 1;
            self.at.column = 1;
        } else {
            self.at.column += 1;
        }
        Some(next)
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(' ' | '\t' | '\r' | '\n')) {
            self.advance();
        }
    }

    fn weigh(&mut self, at: Position, bytes: usize) -> Result<(), Malformed> {
        self.weight += bytes;
        if self.weight > MAX_WEIGHT {
            Err(Malformed::too_heavy(at))
        } else {
            Ok(())
        }
    }

    fn unexpected(&self, wanted: &str) -> Malformed {
        let found = match self.peek() {
            Some(found) => quoted(&found.to_string()),
            None => "the end of the file".to_owned(),
        };
        Malformed::new(self.at, format!("expected {wanted}, found {found}"))
    }

    fn value(&mut self, depth: usize) -> Result<Node, Malformed> {
        let at = self.at;
        if depth > MAX_DEPTH {
            return Err(Malformed::too_deep(at));
        }
        self.weigh(at, NODE_WEIGHT)?;
        let value = match self.peek() {
            Some('{') => self.mapping(depth)?,
            Some('[') => self.sequence(depth)?,
            Some('"') => Value::String(self.string()?.into()),
            Some('-' | '0'..='9') => self.number()?,
            Some('t' | 'f' | 'n') => self.word()?,
            _ => return Err(self.unexpected("a JSON value")),
        };
        Ok(Node { at, value })
    }

    fn mapping(&mut self, depth: usize) -> Result<Value, Malformed> {
        let mut entries = Entries::default();
        self.advance();
        self.skip_space();
        if self.peek() == Some('}') {
            self.advance();
            return Ok(Value::Mapping(Vec::new()));
        }
        loop {
            self.skip_space();
            let key_at = self.at;
            if self.peek() != Some('"') {
                return Err(self.unexpected("a key in double quotes"));
            }
            let key = self.string()?.into();
            self.skip_space();
            if self.peek() != Some(':') {
                return Err(self.unexpected("':' after the key"));
            }
            self.advance();
            self.skip_space();
            let value = self.value(depth + 1)?;
            entries.push(key, key_at, value, &mut self.problems);
            self.skip_space();
            match self.peek() {
                Some(',') => self.advance(),
                Some('}') => {
                    self.advance();
                    return Ok(Value::Mapping(entries.finish()));
                }
                _ => return Err(self.unexpected("',' or '}'")),
            };
        }
    }

    fn sequence(&mut self, depth: usize) -> Result<Value, Malformed> {
        let mut items = Vec::new();
        self.advance();
        self.skip_space();
        if self.peek() == Some(']') {
            self.advance();
            return Ok(Value::Sequence(items));
        }
        loop {
            self.skip_space();
            items.push(self.value(depth + 1)?);
            self.skip_space();
            match self.peek() {
                Some(',') => self.advance(),
                Some(']') => {
                    self.advance();
                    return Ok(Value::Sequence(items));
                }
                _ => return Err(self.unexpected("',' or ']'")),
            };
        }
    }

    fn word(&mut self) -> Result<Value, Malformed> {
        for (word, value) in [
            (
                "true",
                Value::Bool {
                    value: true,
                    written: None,
                },
            ),
            (
                "false",
                Value::Bool {
                    value: false,
                    written: None,
                },
            ),
            ("null", Value::Null),
        ] {
            if self.rest.starts_with(word) {
                for _ in word.chars() {
                    self.advance();
                }
                return Ok(value);
            }
        }
        Err(self.unexpected("a JSON value"))
    }

    fn number(&mut self) -> Result<Value, Malformed> {
        let start = self.rest;
        if self.peek() == Some('-') {
            self.advance();
        }
        let leading_zero = self.peek() == Some('0');
        let digits = self.digits()?;
        if leading_zero && digits > 1 {
            return Err(Malformed::new(
                self.at,
                "a JSON number has no leading zeros",
            ));
        }
        let mut whole = true;
        if self.peek() == Some('.') {
            self.advance();
            self.digits()?;
            whole = false;
        }
        if matches!(self.peek(), Some('e' | 'E')) {
            self.advance();
            if matches!(self.peek(), Some('+' | '-')) {
                self.advance();
            }
            self.digits()?;
            whole = false;
        }
        let text = &start[..start.len() - self.rest.len()];
        self.weigh(self.at, text.len())?;
        Ok(match text.parse() {
            Ok(number) if whole => Value::Integer(number),
            _ => Value::Number(text.into()),
        })
    }

    fn digits(&mut self) -> Result<usize, Malformed> {
        let mut count = 0;
        while matches!(self.peek(), Some('0'..='9')) {
            self.advance();
            count += 1;
        }
        if count == 0 {
            Err(self.unexpected("a digit"))
        } else {
            Ok(count)
        }
    }

    fn string(&mut self) -> Result<String, Malformed> {
        let start = self.at;
        self.advance();
        let mut text = String::new();
        loop {
            let at = self.at;
            match self.advance() {
                Some('"') => break,
                Some('\\') => text.push(self.escape(at)?),
                Some(control) if control < ' ' => {
                    return Err(Malformed::new(
                        at,
                        "a control character in a JSON string must be escaped",
                    ));
                }
                Some(other) => text.push(other),
                None => return Err(Malformed::new(start, "this string is not closed")),
            }
        }
        self.weigh(start, text.len())?;
        Ok(text)
    }

    fn escape(&mut self, at: Position) -> Result<char, Malformed> {
        Ok(match self.advance() {
            Some('"') => '"',
            Some('\\') => '\\',
            Some('/') => '/',
            Some('b') => '\u{8}',
            Some('f') => '\u{c}',
            Some('n') => '\n',
            Some('r') => '\r',
            Some('t') => '\t',
            Some('u') => {
                let first = self.hex(at)?;
                let code = if (0xd800..0xdc00).contains(&first) && self.rest.starts_with("\\u") {
                    self.advance();
                    self.advance();
                    let second = self.hex(at)?;
                    if !(0xdc00..0xe000).contains(&second) {
                        return Err(Malformed::new(at, "half of a surrogate pair"));
                    }
                    0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00)
                } else {
                    first
                };
                char::from_u32(code)
                    .ok_or_else(|| Malformed::new(at, "half of a surrogate pair"))?
            }
            _ => return Err(Malformed::new(at, "unknown escape in a JSON string")),
        })
    }

    fn hex(&mut self, at: Position) -> Result<u32, Malformed> {
        let mut code = 0;
        for _ in 0..4 {
            let digit = self.advance().and_then(|digit| digit.to_digit(16));
            code = code * 16
                + digit.ok_or_else(|| Malformed::new(at, "\\u needs four hexadecimal digits"))?;
        }
        Ok(code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Value {
        let mut trees = trees(text);
        assert_eq!(
            (&trees.problems, &trees.stopped),
            (&Vec::new(), &None),
            "{text}"
        );
        trees.documents.pop().expect("one document").value
    }

    fn refusal(text: &str) -> String {
        let malformed = trees(text).stopped.expect("refused");
        format!(
            "{}:{}: {}",
            malformed.at.line, malformed.at.column, malformed.message
        )
    }

    #[test]
    fn escapes_and_surrogate_pairs_are_read() {
        assert_eq!(
            one(r#""a\n\t\/\"\\\u00e4\ud83d\ude00""#),
            Value::String("a\n\t/\"\\ä😀".into())
        );
        assert_eq!(refusal(r#""\ud83d""#), "1:2: half of a surrogate pair");
        assert_eq!(
            refusal(r#""\ud83d\u0041""#),
            "1:2: half of a surrogate pair"
        );
        assert_eq!(refusal(r#""\x""#), "1:2: unknown escape in a JSON string");
    }

    #[test]
    fn numbers_are_json_numbers() {
        assert_eq!(one("-12"), Value::Integer(-12));
        assert_eq!(one("1.50"), Value::Number("1.50".into()));
        assert_eq!(one("1e3"), Value::Number("1e3".into()));
        assert_eq!(
            one("99999999999999999999"),
            Value::Number("99999999999999999999".into())
        );
        assert_eq!(refusal("0644"), "1:5: a JSON number has no leading zeros");
        assert_eq!(
            refusal("-"),
            "1:2: expected a digit, found the end of the file"
        );
        assert_eq!(
            refusal("1."),
            "1:3: expected a digit, found the end of the file"
        );
    }

    #[test]
    fn errors_have_the_line_and_column() {
        assert_eq!(
            refusal("{\n\t\"a\": 1,\n\t\"b\" 2\n}"),
            "3:6: expected ':' after the key, found \"2\""
        );
        assert_eq!(
            refusal("[1,\n 2"),
            "2:3: expected ',' or ']', found the end of the file"
        );
        assert_eq!(refusal("{\"a\": \"x"), "1:7: this string is not closed");
        assert_eq!(
            refusal("{\"a\": 1,}"),
            "1:9: expected a key in double quotes, found \"}\""
        );
    }

    #[test]
    fn nesting_is_bounded() {
        let depth = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert_eq!(trees(&depth(MAX_DEPTH)).stopped, None);
        assert_eq!(
            refusal(&depth(MAX_DEPTH + 1)),
            "1:65: nested more than 64 levels deep"
        );
        assert_eq!(
            refusal(&"[".repeat(1_000_000)),
            "1:65: nested more than 64 levels deep"
        );
    }
}
