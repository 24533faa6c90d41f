//! YAML text to trees.
//!
//! Owns anchors, aliases, merge keys, tags and the kinds of keys a manifest may have. Refuses to know Kubernetes' fields. The
//! scanner is `saphyr-parser`'s; the meaning of scalars is [`Value::plain`]'s.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, Span, Tag};

use super::node::{
    Entries, Entry, MAX_DEPTH, MAX_WEIGHT, Malformed, NODE_WEIGHT, Node, Trees, Value,
};
use super::problem::{Position, quoted};

/// Reads every document of the text. Stops at the first thing that is not YAML or breaks a limit.
pub(super) fn trees(text: &str) -> Trees {
    let mut builder = Builder::default();
    let mut parser = Parser::new_from_str(text);
    let stopped = loop {
        match parser.next_event() {
            None => break None,
            Some(Err(error)) => {
                let at = position(error.marker());
                break Some(Malformed::new(at, format!("not YAML: {}", error.info())));
            }
            Some(Ok((event, span))) => {
                if let Err(malformed) = builder.event(event, span) {
                    break Some(malformed);
                }
            }
        }
    };
    Trees {
        documents: builder.documents,
        problems: builder.problems,
        stopped,
    }
}

fn position(marker: &saphyr_parser::Marker) -> Position {
    Position {
        line: marker.line().max(1),
        column: marker.col() + 1,
    }
}

#[derive(Default)]
struct Builder {
    documents: Vec<Node>,
    problems: Vec<Malformed>,
    /// Collections that are open, outermost first.
    open: Vec<Open>,
    /// Finished values with an anchor, in this document.
    anchors: HashMap<usize, Node>,
    weight: usize,
}

/// A collection whose end has not come yet.
struct Open {
    at: Position,
    anchor: usize,
    items: Items,
}

enum Items {
    Sequence(Vec<Node>),
    Mapping {
        entries: Entries,
        /// What `<<` brought, applied at the end: keys written in the mapping itself win.
        merged: Vec<Entry>,
        /// The key whose value comes next.
        key: Option<Key>,
    },
}

enum Key {
    Name(Box<str>, Position),
    Merge(Position),
    /// Reported already; its value is read and dropped.
    Refused,
}

impl Builder {
    fn event(&mut self, event: Event<'_>, span: Span) -> Result<(), Malformed> {
        let at = position(&span.start);
        match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
            Event::DocumentStart(_) => {
                self.anchors.clear();
                Ok(())
            }
            Event::Alias(anchor) => self.alias(at, anchor),
            Event::Scalar(text, style, anchor, tag) => {
                self.weigh(at, NODE_WEIGHT + text.len())?;
                let value = self.scalar(at, &text, style, tag.as_deref());
                let is_merge = style == ScalarStyle::Plain && text == "<<" && tag.is_none();
                self.place(Node { at, value }, is_merge, anchor)
            }
            Event::SequenceStart(anchor, tag) => {
                self.collection_tag(at, tag.as_deref(), "seq");
                self.open(at, anchor, Items::Sequence(Vec::new()))
            }
            Event::MappingStart(anchor, tag) => {
                self.collection_tag(at, tag.as_deref(), "map");
                let items = Items::Mapping {
                    entries: Entries::default(),
                    merged: Vec::new(),
                    key: None,
                };
                self.open(at, anchor, items)
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(),
        }
    }

    fn weigh(&mut self, at: Position, bytes: usize) -> Result<(), Malformed> {
        self.weight = self.weight.saturating_add(bytes);
        if self.weight > MAX_WEIGHT {
            Err(Malformed::too_heavy(at))
        } else {
            Ok(())
        }
    }

    fn open(&mut self, at: Position, anchor: usize, items: Items) -> Result<(), Malformed> {
        if self.open.len() == MAX_DEPTH {
            return Err(Malformed::too_deep(at));
        }
        self.weigh(at, NODE_WEIGHT)?;
        self.open.push(Open { at, anchor, items });
        Ok(())
    }

    fn close(&mut self) -> Result<(), Malformed> {
        let Some(Open { at, anchor, items }) = self.open.pop() else {
            return Ok(());
        };
        let value = match items {
            Items::Sequence(items) => Value::Sequence(items),
            Items::Mapping {
                mut entries,
                merged,
                key: _,
            } => {
                entries.merge(merged);
                Value::Mapping(entries.finish())
            }
        };
        let node = Node { at, value };
        self.place(node, false, anchor)
    }

    fn alias(&mut self, at: Position, anchor: usize) -> Result<(), Malformed> {
        let Some(target) = self.anchors.get(&anchor) else {
            return Err(Malformed::new(
                at,
                "this alias refers to an anchor that is not finished before it, or not in this document",
            ));
        };
        if self.open.len() + target.depth() > MAX_DEPTH {
            return Err(Malformed::too_deep(at));
        }
        let weight = target.weight();
        // Weighed before it is copied: aliases of aliases grow exponentially.
        self.weight = self.weight.saturating_add(weight);
        if self.weight > MAX_WEIGHT {
            return Err(Malformed::too_heavy(at));
        }
        let node = target.clone();
        self.place(node, false, 0)
    }

    /// Puts a finished value where it belongs: into the innermost open collection, or among the documents.
    /// `is_merge`: it is a plain `<<`.
    fn place(&mut self, node: Node, is_merge: bool, anchor: usize) -> Result<(), Malformed> {
        if anchor != 0 {
            self.weigh(node.at, node.weight())?;
            self.anchors.insert(anchor, node.clone());
        }
        match self.open.last_mut().map(|open| &mut open.items) {
            None => self.documents.push(node),
            Some(Items::Sequence(items)) => items.push(node),
            Some(Items::Mapping {
                entries,
                merged,
                key,
            }) => match key.take() {
                None if is_merge => *key = Some(Key::Merge(node.at)),
                None => *key = Some(as_key(node, &mut self.problems)),
                Some(Key::Name(name, key_at)) => {
                    entries.push(name, key_at, node, &mut self.problems)
                }
                Some(Key::Merge(at)) => merge(at, node, merged, &mut self.problems),
                Some(Key::Refused) => {}
            },
        }
        Ok(())
    }

    fn scalar(&mut self, at: Position, text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Value {
        let Some(tag) = tag else {
            return if style == ScalarStyle::Plain {
                Value::plain(text)
            } else {
                Value::String(text.into())
            };
        };
        let name = core_tag(tag);
        let value = match name {
            Some("str") => return Value::String(text.into()),
            _ => Value::plain(text),
        };
        let fits = match name {
            Some("int") => matches!(value, Value::Integer(_)),
            Some("float") => matches!(value, Value::Integer(_) | Value::Number(_)),
            Some("bool") => matches!(value, Value::Bool { .. }),
            Some("null") => matches!(value, Value::Null),
            _ => {
                self.problems.push(Malformed::new(
                    at,
                    format!("the tag {} is not supported", quoted(&tag.to_string())),
                ));
                true
            }
        };
        if !fits {
            let name = name.unwrap_or_default();
            self.problems.push(Malformed::new(
                at,
                format!("the tag !!{name} does not fit {}", value.describe()),
            ));
        }
        value
    }

    fn collection_tag(&mut self, at: Position, tag: Option<&Tag>, expected: &str) {
        if let Some(tag) = tag
            && core_tag(tag) != Some(expected)
        {
            self.problems.push(Malformed::new(
                at,
                format!("the tag {} is not supported here", quoted(&tag.to_string())),
            ));
        }
    }
}

/// The name of a core schema tag; the non-specific tag `!` is `str`.
fn core_tag(tag: &Tag) -> Option<&str> {
    if tag.is_yaml_core_schema() {
        Some(&tag.suffix)
    } else if tag.handle == "!" && tag.suffix.is_empty() {
        Some("str")
    } else {
        None
    }
}

fn as_key(node: Node, problems: &mut Vec<Malformed>) -> Key {
    match node.value {
        Value::String(text) => Key::Name(text, node.at),
        Value::Sequence(_) | Value::Mapping(_) | Value::Null => {
            problems.push(Malformed::new(
                node.at,
                format!(
                    "expected a string as the key, found {}",
                    node.value.describe()
                ),
            ));
            Key::Refused
        }
        Value::Bool { .. } | Value::Integer(_) | Value::Number(_) => {
            problems.push(Malformed::new(
                node.at,
                format!(
                    "expected a string as the key, found {}: put it in quotes",
                    node.value.describe()
                ),
            ));
            Key::Refused
        }
    }
}

fn merge(at: Position, node: Node, merged: &mut Vec<Entry>, problems: &mut Vec<Malformed>) {
    match node.value {
        Value::Mapping(entries) => merged.extend(entries),
        Value::Sequence(items)
            if items
                .iter()
                .all(|item| matches!(item.value, Value::Mapping(_))) =>
        {
            for item in items {
                if let Value::Mapping(entries) = item.value {
                    merged.extend(entries);
                }
            }
        }
        other => problems.push(Malformed::new(
            at,
            format!(
                "expected a mapping, or a list of them, to merge, found {}",
                other.describe()
            ),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(value: &Value) -> String {
        match value {
            Value::Null => "null".to_owned(),
            Value::Bool { value, .. } => value.to_string(),
            Value::Integer(number) => number.to_string(),
            Value::Number(text) => text.to_string(),
            Value::String(text) => format!("{text:?}"),
            Value::Sequence(items) => {
                format!(
                    "[{}]",
                    items
                        .iter()
                        .map(|item| show(&item.value))
                        .collect::<Vec<_>>()
                        .join(",")
                )
            }
            Value::Mapping(entries) => format!(
                "{{{}}}",
                entries
                    .iter()
                    .map(|entry| format!("{}:{}", entry.key, show(&entry.value.value)))
                    .collect::<Vec<_>>()
                    .join(",")
            ),
        }
    }

    /// Documents, then problems, then why it stopped, as text.
    fn outcome(text: &str) -> String {
        let trees = trees(text);
        let mut lines: Vec<String> = trees
            .documents
            .iter()
            .map(|node| show(&node.value))
            .collect();
        for problem in trees.problems.iter().chain(&trees.stopped) {
            lines.push(format!(
                "{}:{}: {}",
                problem.at.line, problem.at.column, problem.message
            ));
        }
        lines.join("\n")
    }

    #[test]
    fn quoting_decides_between_string_and_number() {
        assert_eq!(
            outcome("[8080, '8080', \"8080\", !!str 8080, yes, 'yes', ]"),
            r#"[8080,"8080","8080","8080",true,"yes"]"#
        );
        assert_eq!(
            outcome("a: |\n  1\nb: >-\n  x\n  y\nc:\n"),
            r#"{a:"1\n",b:"x y",c:null}"#
        );
    }

    #[test]
    fn aliases_and_merge_keys_are_expanded() {
        assert_eq!(
            outcome("a: &x {p: 1, q: 2}\nb: *x\nc:\n  <<: *x\n  q: 3\n"),
            "{a:{p:1,q:2},b:{p:1,q:2},c:{q:3,p:1}}"
        );
        assert_eq!(
            outcome("- &x {p: 1}\n- &y {p: 2, q: 2}\n- <<: [*x, *y]\n"),
            "[{p:1},{p:2,q:2},{p:1,q:2}]"
        );
        assert_eq!(outcome("a: {'<<': 1}"), "{a:{<<:1}}");
        assert_eq!(
            outcome("<<: 1"),
            "{}\n1:1: expected a mapping, or a list of them, to merge, found the number 1"
        );
    }

    #[test]
    fn an_alias_of_what_is_not_finished_is_refused() {
        assert!(
            outcome("a: &x [*x]")
                .contains("1:8: this alias refers to an anchor that is not finished")
        );
        assert!(
            outcome("a: &x 1\n---\nb: *x").contains("3:4: this alias"),
            "anchors end with their document"
        );
        assert!(outcome("a: *nope").contains("1:4: not YAML"));
    }

    #[test]
    fn alias_bombs_are_refused_before_they_grow() {
        let mut bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n".to_owned();
        for level in 1..20 {
            let alias = format!("*a{}", level - 1);
            bomb.push_str(&format!(
                "a{level}: &a{level} [{}]\n",
                [alias.as_str(); 9].join(",")
            ));
        }
        assert!(
            outcome(&bomb).ends_with("holds more than 64 MiB of values once aliases are expanded")
        );

        let big = "y".repeat(1_000_000);
        let bomb = format!("a: &a {big}\nb: [{}]\n", ["*a"; 100].join(","));
        assert!(
            outcome(&bomb).ends_with("holds more than 64 MiB of values once aliases are expanded")
        );
    }

    #[test]
    fn nesting_is_bounded_through_aliases_too() {
        let nest = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert!(!outcome(&nest(MAX_DEPTH)).contains("nested"));
        assert!(outcome(&nest(MAX_DEPTH + 1)).ends_with("1:65: nested more than 64 levels deep"));
        let through = format!(
            "a: &a {}\nb: {}",
            nest(40),
            nest(40).replacen("[]", "[*a]", 1)
        );
        assert!(outcome(&through).ends_with("nested more than 64 levels deep"));
        assert!(outcome(&"- ".repeat(100_000)).ends_with("nested more than 64 levels deep"));
    }

    #[test]
    fn keys_are_strings_and_come_once() {
        assert_eq!(
            outcome("a: 1\nb: 2\na: 3\n"),
            "{a:1,b:2}\n3:1: the key \"a\" is already there, on line 1"
        );
        assert_eq!(
            outcome("1: x"),
            "{}\n1:1: expected a string as the key, found the number 1: put it in quotes"
        );
        assert_eq!(
            outcome("on: x"),
            "{}\n1:1: expected a string as the key, found the boolean true (YAML reads on so): put it in quotes"
        );
        assert_eq!(
            outcome("? [a]\n: x\n"),
            "{}\n1:3: expected a string as the key, found a list"
        );
        assert_eq!(
            outcome(": x"),
            "{}\n1:1: expected a string as the key, found nothing"
        );
    }

    #[test]
    fn foreign_tags_are_refused() {
        assert_eq!(
            outcome("a: !foo 1"),
            "{a:1}\n1:4: the tag \"!foo\" is not supported"
        );
        assert_eq!(
            outcome("a: !!int x"),
            "{a:\"x\"}\n1:4: the tag !!int does not fit the string \"x\""
        );
        assert_eq!(
            outcome("a: !!set {}"),
            "{a:{}}\n1:4: the tag \"tag:yaml.org,2002:!set\" is not supported here"
        );
    }
}
