//! Owns the grammar of the built-in shell: text in, commands out. Runs nothing.

/// Commands may nest this deep; text is outside input.
const DEPTH_LIMIT: usize = 60;

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Command {
    Simple {
        assigns: Vec<(String, Word)>,
        words: Vec<Word>,
        redirects: Vec<Redirect>,
    },
    Pipeline(Vec<Command>),
    Not(Box<Command>),
    And(Box<Command>, Box<Command>),
    Or(Box<Command>, Box<Command>),
    Sequence(Vec<Command>),
    Background(Box<Command>),
    Loop {
        condition: Box<Command>,
        body: Box<Command>,
        until: bool,
        redirects: Vec<Redirect>,
    },
    For {
        variable: String,
        words: Vec<Word>,
        body: Box<Command>,
        redirects: Vec<Redirect>,
    },
    If {
        arms: Vec<(Command, Command)>,
        otherwise: Option<Box<Command>>,
        redirects: Vec<Redirect>,
    },
    Group {
        body: Box<Command>,
        subshell: bool,
        redirects: Vec<Redirect>,
    },
}

/// A word before expansion.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Word(pub(crate) Vec<Part>);

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Part {
    /// Text; `true` if it was quoted, so that an empty one still makes a word.
    Text(String, bool),
    /// A parameter with what may take its place (`${A:-b}`).
    Parameter {
        name: String,
        instead: Option<Instead>,
        quoted: bool,
    },
    Substitution {
        command: Box<Command>,
        quoted: bool,
    },
    Arithmetic {
        expression: Word,
        quoted: bool,
    },
}

/// What may take a parameter's place.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Instead {
    pub(crate) how: How,
    /// An empty parameter counts as one that is not set (`:`).
    pub(crate) or_empty: bool,
    pub(crate) word: Word,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// `-`: the word where it is not set.
    Default,
    /// `=`: the same, and it is set to it.
    Assign,
    /// `+`: the word where it is set.
    Alternative,
    /// `?`: an error where it is not set.
    Error,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Redirect {
    pub(crate) descriptor: u8,
    pub(crate) target: Target,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Target {
    Read(Word),
    Write(Word),
    Append(Word),
    Same(u8),
}

const RESERVED: &[&str] = &[
    "if", "then", "else", "elif", "fi", "for", "do", "done", "while", "until", "{", "}", "!", "in",
];
/// Known to a real shell, not to this one: refused by name.
const UNSERVED: &[&str] = &["case", "esac", "function", "select"];

/// Reads a whole script; the error is worded as busybox' shell does.
pub(crate) fn parse(text: &str) -> Result<Command, String> {
    let mut parser = Parser {
        chars: text.chars().collect(),
        at: 0,
        depth: 0,
    };
    let command = parser.sequence()?;
    match parser.peek() {
        None => Ok(command),
        Some(_) => Err(parser.unexpected()),
    }
}

struct Parser {
    chars: Vec<char>,
    at: usize,
    depth: usize,
}

impl Parser {
    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn looks_at(&self, text: &str) -> bool {
        text.chars()
            .enumerate()
            .all(|(i, c)| self.chars.get(self.at + i) == Some(&c))
    }

    fn take(&mut self, text: &str) -> bool {
        let found = self.looks_at(text);
        if found {
            self.at += text.chars().count();
        }
        found
    }

    fn unexpected(&self) -> String {
        match self.peek() {
            None => "syntax error: unexpected end of file".to_owned(),
            Some('\n') => "syntax error: unexpected newline".to_owned(),
            Some(_) => match self.reserved() {
                Some(word) => format!("syntax error: unexpected \"{word}\""),
                None => format!(
                    "syntax error: unexpected {:?}",
                    self.peek().unwrap_or_default()
                ),
            },
        }
    }

    fn blanks(&mut self) {
        loop {
            match self.peek() {
                Some(' ' | '\t' | '\r') => self.at += 1,
                Some('\\') if self.chars.get(self.at + 1) == Some(&'\n') => self.at += 2,
                Some('#') => {
                    while self.peek().is_some_and(|c| c != '\n') {
                        self.at += 1;
                    }
                }
                _ => return,
            }
        }
    }

    fn lines(&mut self) {
        self.blanks();
        while matches!(self.peek(), Some('\n')) {
            self.at += 1;
            self.blanks();
        }
    }

    /// The bare word here, if it is a reserved one.
    fn reserved(&self) -> Option<String> {
        let word: String = self.chars[self.at..]
            .iter()
            .take_while(|c| !" \t\r\n;&|()<>".contains(**c))
            .collect();
        (RESERVED.contains(&word.as_str()) || UNSERVED.contains(&word.as_str())).then_some(word)
    }

    fn keyword(&mut self, word: &str) -> bool {
        self.lines();
        let found = self.reserved().as_deref() == Some(word);
        if found {
            self.at += word.len();
        }
        found
    }

    fn expect(&mut self, word: &str) -> Result<(), String> {
        if self.keyword(word) {
            Ok(())
        } else {
            Err(format!("{} (expecting \"{word}\")", self.unexpected()))
        }
    }

    fn sequence(&mut self) -> Result<Command, String> {
        self.depth += 1;
        if self.depth > DEPTH_LIMIT {
            return Err("syntax error: commands are nested too deeply".to_owned());
        }
        let mut commands = Vec::new();
        loop {
            self.lines();
            let closes = self.reserved().is_some_and(|word| {
                matches!(
                    word.as_str(),
                    "then" | "else" | "elif" | "fi" | "do" | "done" | "}" | "in"
                )
            });
            if closes || matches!(self.peek(), None | Some(')')) {
                break;
            }
            let command = self.and_or()?;
            self.blanks();
            if self.looks_at("&") && !self.looks_at("&&") {
                self.at += 1;
                commands.push(Command::Background(Box::new(command)));
                continue;
            }
            commands.push(command);
            if !matches!(self.peek(), Some(';' | '\n')) || self.looks_at(";;") {
                break;
            }
            self.at += 1;
        }
        self.depth -= 1;
        Ok(if commands.len() == 1 {
            commands.remove(0)
        } else {
            Command::Sequence(commands)
        })
    }

    fn and_or(&mut self) -> Result<Command, String> {
        let mut left = self.pipeline()?;
        loop {
            self.blanks();
            let and = self.looks_at("&&");
            if !and && !self.looks_at("||") {
                return Ok(left);
            }
            self.at += 2;
            self.lines();
            let right = Box::new(self.pipeline()?);
            left = if and {
                Command::And(Box::new(left), right)
            } else {
                Command::Or(Box::new(left), right)
            };
        }
    }

    fn pipeline(&mut self) -> Result<Command, String> {
        let mut negated = false;
        while self.keyword("!") {
            negated = !negated;
        }
        let mut stages = vec![self.command()?];
        loop {
            self.blanks();
            if !self.looks_at("|") || self.looks_at("||") {
                break;
            }
            self.at += 1;
            self.lines();
            stages.push(self.command()?);
        }
        let pipeline = if stages.len() == 1 {
            stages.remove(0)
        } else {
            Command::Pipeline(stages)
        };
        Ok(if negated {
            Command::Not(Box::new(pipeline))
        } else {
            pipeline
        })
    }

    fn command(&mut self) -> Result<Command, String> {
        self.blanks();
        if self.take("(") {
            let body = Box::new(self.sequence()?);
            return if self.take(")") {
                Ok(Command::Group {
                    body,
                    subshell: true,
                    redirects: self.redirects()?,
                })
            } else {
                Err(self.unexpected())
            };
        }
        let Some(word) = self.reserved() else {
            return self.simple();
        };
        self.at += word.len();
        match word.as_str() {
            "{" => {
                let body = Box::new(self.sequence()?);
                self.expect("}")?;
                Ok(Command::Group {
                    body,
                    subshell: false,
                    redirects: self.redirects()?,
                })
            }
            "while" | "until" => {
                let condition = Box::new(self.sequence()?);
                self.expect("do")?;
                let body = Box::new(self.sequence()?);
                self.expect("done")?;
                Ok(Command::Loop {
                    condition,
                    body,
                    until: word == "until",
                    redirects: self.redirects()?,
                })
            }
            "for" => self.for_loop(),
            "if" => self.conditional(),
            other if UNSERVED.contains(&other) => Err(format!(
                "the fake engine's shell does not know \"{other}\"; use a script for this command"
            )),
            _ => {
                self.at -= word.len();
                Err(self.unexpected())
            }
        }
    }

    fn for_loop(&mut self) -> Result<Command, String> {
        self.blanks();
        let variable = self.name();
        if variable.is_empty() {
            return Err(self.unexpected());
        }
        let mut words = Vec::new();
        if self.keyword("in") {
            loop {
                self.blanks();
                match self.word()? {
                    Some(word) => words.push(word),
                    None => break,
                }
            }
        }
        self.blanks();
        if self.peek() == Some(';') {
            self.at += 1;
        }
        self.expect("do")?;
        let body = Box::new(self.sequence()?);
        self.expect("done")?;
        Ok(Command::For {
            variable,
            words,
            body,
            redirects: self.redirects()?,
        })
    }

    fn conditional(&mut self) -> Result<Command, String> {
        let mut arms = Vec::new();
        loop {
            let condition = self.sequence()?;
            self.expect("then")?;
            arms.push((condition, self.sequence()?));
            if !self.keyword("elif") {
                break;
            }
        }
        let otherwise = if self.keyword("else") {
            Some(Box::new(self.sequence()?))
        } else {
            None
        };
        self.expect("fi")?;
        Ok(Command::If {
            arms,
            otherwise,
            redirects: self.redirects()?,
        })
    }

    fn simple(&mut self) -> Result<Command, String> {
        let (mut assigns, mut words, mut redirects) = (Vec::new(), Vec::new(), Vec::new());
        loop {
            self.blanks();
            if let Some(redirect) = self.redirect()? {
                redirects.push(redirect);
                continue;
            }
            if words.is_empty()
                && let Some(name) = self.assignment()
            {
                assigns.push((name, self.word()?.unwrap_or_default()));
                continue;
            }
            match self.word()? {
                Some(word) => words.push(word),
                None => break,
            }
        }
        if assigns.is_empty() && words.is_empty() && redirects.is_empty() {
            return Err(self.unexpected());
        }
        Ok(Command::Simple {
            assigns,
            words,
            redirects,
        })
    }

    /// `NAME=` here: takes it.
    fn assignment(&mut self) -> Option<String> {
        let start = self.at;
        let name = self.name();
        if !name.is_empty() && self.take("=") {
            return Some(name);
        }
        self.at = start;
        None
    }

    fn name(&mut self) -> String {
        let start = self.at;
        while self.peek().is_some_and(|c| {
            c == '_' || c.is_ascii_alphabetic() || c.is_ascii_digit() && self.at > start
        }) {
            self.at += 1;
        }
        self.chars[start..self.at].iter().collect()
    }

    fn redirects(&mut self) -> Result<Vec<Redirect>, String> {
        let mut redirects = Vec::new();
        loop {
            self.blanks();
            match self.redirect()? {
                Some(redirect) => redirects.push(redirect),
                None => return Ok(redirects),
            }
        }
    }

    fn redirect(&mut self) -> Result<Option<Redirect>, String> {
        let start = self.at;
        let given = match (self.peek(), self.chars.get(self.at + 1)) {
            (Some(digit @ '0'..='2'), Some('<' | '>')) => {
                self.at += 1;
                digit.to_digit(10).and_then(|d| u8::try_from(d).ok())
            }
            _ => None,
        };
        if self.looks_at("<<") {
            return Err("the fake engine's shell does not know here-documents; use a script for this command".to_owned());
        }
        if self.take("<") {
            let word = self.target()?;
            return Ok(Some(Redirect {
                descriptor: given.unwrap_or(0),
                target: Target::Read(word),
            }));
        }
        let descriptor = given.unwrap_or(1);
        if self.take(">&") {
            let same = match self.peek() {
                Some('1') => 1,
                Some('2') => 2,
                _ => return Err(self.unexpected()),
            };
            self.at += 1;
            return Ok(Some(Redirect {
                descriptor,
                target: Target::Same(same),
            }));
        }
        let append = self.take(">>");
        if append || self.take(">") {
            let word = self.target()?;
            let target = if append {
                Target::Append(word)
            } else {
                Target::Write(word)
            };
            return Ok(Some(Redirect { descriptor, target }));
        }
        self.at = start;
        Ok(None)
    }

    fn target(&mut self) -> Result<Word, String> {
        self.blanks();
        self.word()?.ok_or_else(|| self.unexpected())
    }

    /// The word here, or `None` if an operator or the end is.
    fn word(&mut self) -> Result<Option<Word>, String> {
        let mut parts = Vec::new();
        let mut text = String::new();
        let flush = |text: &mut String, parts: &mut Vec<Part>| {
            if !text.is_empty() {
                parts.push(Part::Text(std::mem::take(text), false));
            }
        };
        while let Some(c) = self.peek() {
            match c {
                ' ' | '\t' | '\r' | '\n' | ';' | '&' | '|' | '(' | ')' | '<' | '>' => break,
                '\'' => {
                    flush(&mut text, &mut parts);
                    self.at += 1;
                    let start = self.at;
                    while self.peek().is_some_and(|c| c != '\'') {
                        self.at += 1;
                    }
                    parts.push(Part::Text(
                        self.chars[start..self.at].iter().collect(),
                        true,
                    ));
                    if !self.take("'") {
                        return Err("syntax error: unterminated quoted string".to_owned());
                    }
                }
                '"' => {
                    flush(&mut text, &mut parts);
                    self.at += 1;
                    self.double_quoted(&mut parts)?;
                }
                '\\' => {
                    flush(&mut text, &mut parts);
                    self.at += 1;
                    match self.peek() {
                        Some('\n') => self.at += 1,
                        Some(escaped) => {
                            parts.push(Part::Text(escaped.to_string(), true));
                            self.at += 1;
                        }
                        None => text.push('\\'),
                    }
                }
                '$' | '`' => {
                    flush(&mut text, &mut parts);
                    self.dollar(&mut parts, false)?;
                }
                c => {
                    text.push(c);
                    self.at += 1;
                }
            }
        }
        flush(&mut text, &mut parts);
        Ok((!parts.is_empty()).then_some(Word(parts)))
    }

    fn double_quoted(&mut self, parts: &mut Vec<Part>) -> Result<(), String> {
        let mut text = String::new();
        // Even `""` makes a word.
        parts.push(Part::Text(String::new(), true));
        loop {
            match self.peek() {
                None => return Err("syntax error: unterminated quoted string".to_owned()),
                Some('"') => {
                    self.at += 1;
                    parts.push(Part::Text(text, true));
                    return Ok(());
                }
                Some('\\') => {
                    self.at += 1;
                    match self.peek() {
                        Some('\n') => {}
                        Some(c @ ('"' | '\\' | '$' | '`')) => text.push(c),
                        Some(c) => text.extend(['\\', c]),
                        None => continue,
                    }
                    self.at += 1;
                }
                Some('$' | '`') => {
                    parts.push(Part::Text(std::mem::take(&mut text), true));
                    self.dollar(parts, true)?;
                }
                Some(c) => {
                    text.push(c);
                    self.at += 1;
                }
            }
        }
    }

    fn dollar(&mut self, parts: &mut Vec<Part>, quoted: bool) -> Result<(), String> {
        if self.take("`") {
            let start = self.at;
            while self.peek().is_some_and(|c| c != '`') {
                self.at += 1;
            }
            let inner: String = self.chars[start..self.at].iter().collect();
            if !self.take("`") {
                return Err("syntax error: EOF in backquote substitution".to_owned());
            }
            self.depth += 1;
            let mut nested = Parser {
                chars: inner.chars().collect(),
                at: 0,
                depth: self.depth,
            };
            let command = Box::new(nested.sequence()?);
            self.depth -= 1;
            parts.push(Part::Substitution { command, quoted });
            return Ok(());
        }
        self.at += 1;
        if self.take("((") {
            let expression = self.arithmetic()?;
            parts.push(Part::Arithmetic { expression, quoted });
        } else if self.take("(") {
            let command = Box::new(self.sequence()?);
            if !self.take(")") {
                return Err(self.unexpected());
            }
            parts.push(Part::Substitution { command, quoted });
        } else if self.take("{") {
            let name = self.parameter_name();
            let or_empty = self.take(":");
            let how = match self.peek() {
                Some('-') => Some(How::Default),
                Some('=') => Some(How::Assign),
                Some('+') => Some(How::Alternative),
                Some('?') => Some(How::Error),
                _ => None,
            };
            let instead = match how {
                Some(how) => {
                    self.at += 1;
                    Some(Instead {
                        how,
                        or_empty,
                        word: self.braced_word()?,
                    })
                }
                // Falls to the missing bracket below.
                None => None,
            };
            if name.is_empty() || or_empty && instead.is_none() || !self.take("}") {
                return Err("syntax error: bad substitution".to_owned());
            }
            parts.push(Part::Parameter {
                name,
                instead,
                quoted,
            });
        } else {
            let name = self.parameter_name();
            parts.push(match name.is_empty() {
                true => Part::Text("$".to_owned(), quoted),
                false => Part::Parameter {
                    name,
                    instead: None,
                    quoted,
                },
            });
        }
        Ok(())
    }

    fn parameter_name(&mut self) -> String {
        match self.peek() {
            Some(c @ ('?' | '$' | '#' | '@' | '*' | '!' | '0'..='9')) => {
                self.at += 1;
                c.to_string()
            }
            _ => self.name(),
        }
    }

    fn braced_word(&mut self) -> Result<Word, String> {
        let (mut parts, mut text) = (Vec::new(), String::new());
        while let Some(c) = self.peek().filter(|c| *c != '}') {
            if c == '$' {
                parts.push(Part::Text(std::mem::take(&mut text), true));
                self.depth += 1;
                if self.depth > DEPTH_LIMIT {
                    return Err("syntax error: commands are nested too deeply".to_owned());
                }
                self.dollar(&mut parts, true)?;
                self.depth -= 1;
            } else {
                text.push(c);
                self.at += 1;
            }
        }
        parts.push(Part::Text(text, true));
        Ok(Word(parts))
    }

    /// The inside of `$((…))` with its parameters, the closing brackets taken.
    fn arithmetic(&mut self) -> Result<Word, String> {
        let (mut parts, mut text, mut open) = (Vec::new(), String::new(), 0);
        loop {
            match self.peek() {
                None => return Err("syntax error: missing '))'".to_owned()),
                Some(')') if open == 0 => {
                    if !self.take("))") {
                        return Err("syntax error: missing '))'".to_owned());
                    }
                    parts.push(Part::Text(text, true));
                    return Ok(Word(parts));
                }
                Some('$') => {
                    parts.push(Part::Text(std::mem::take(&mut text), true));
                    self.depth += 1;
                    if self.depth > DEPTH_LIMIT {
                        return Err("syntax error: commands are nested too deeply".to_owned());
                    }
                    self.dollar(&mut parts, true)?;
                    self.depth -= 1;
                }
                Some(c) => {
                    open += i32::from(c == '(') - i32::from(c == ')');
                    text.push(c);
                    self.at += 1;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_of_tests_parse() {
        for text in [
            "echo hi; echo err >&2; exit 3",
            "while true; do echo tick; sleep 1; done",
            "trap 'exit 0' TERM; while true; do sleep 0.1; done",
            "for i in 1 2 3; do echo $i; done | wc -l",
            "if [ -f /x ]; then cat /x; elif true; then :; else echo none; fi",
            "i=0; while [ $i -lt 3 ]; do i=$((i+1)); done; echo ${A:-b} \"$(echo x)\"",
            "sleep 100 & wait",
            "(echo a; echo b) > /tmp/x 2>&1 || ! false",
            "# only a comment",
            "",
        ] {
            parse(text).unwrap_or_else(|e| panic!("{text}: {e}"));
        }
    }

    #[test]
    fn broken_scripts_are_syntax_errors() {
        for text in [
            "if true",
            "echo 'x",
            "echo |",
            "done",
            "for in x; do :; done",
            "$(",
            "case x in esac",
            "a;;b",
            ")",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn deep_nesting_is_an_error_not_an_overflow() {
        for opening in ["(", "$(", "${a:-", "! ", "$((", "if "] {
            let _ = parse(&opening.repeat(5_000));
        }
        assert!(parse(&"(".repeat(5_000)).is_err());
    }
}
