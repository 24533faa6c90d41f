//! Owns `$((…))`: whole numbers, the operators of C that shells share, names of variables. Assigns nothing.

/// The value of an expression; the error is worded as busybox' shell does.
pub(crate) fn evaluate(text: &str, variable: &dyn Fn(&str) -> String) -> Result<i64, String> {
    let mut evaluator = Evaluator {
        bytes: text.as_bytes(),
        at: 0,
        depth: 0,
        variable,
    };
    let value = evaluator.binary(0)?;
    evaluator.blanks();
    if evaluator.at < text.len() {
        return Err("arithmetic syntax error".to_owned());
    }
    Ok(value)
}

struct Evaluator<'a> {
    bytes: &'a [u8],
    at: usize,
    depth: usize,
    variable: &'a dyn Fn(&str) -> String,
}

/// Operators by how tightly they bind, loosest first; within a level the longer text first.
const LEVELS: &[&[&str]] = &[
    &["||"],
    &["&&"],
    &["|"],
    &["^"],
    &["&"],
    &["==", "!="],
    &["<=", ">=", "<", ">"],
    &["<<", ">>"],
    &["+", "-"],
    &["*", "/", "%"],
];

impl Evaluator<'_> {
    fn blanks(&mut self) {
        while self.bytes.get(self.at).is_some_and(u8::is_ascii_whitespace) {
            self.at += 1;
        }
    }

    fn operator(&mut self, level: usize) -> Option<&'static str> {
        self.blanks();
        let rest = &self.bytes[self.at..];
        let found = LEVELS[level]
            .iter()
            .find(|op| rest.starts_with(op.as_bytes()))?;
        // `a | b` is not the start of `a || b`, nor `a < b` of `a << b`.
        let longer = LEVELS.iter().flat_map(|ops| ops.iter()).any(|op| {
            op.len() > found.len() && op.starts_with(found) && rest.starts_with(op.as_bytes())
        });
        if longer {
            return None;
        }
        self.at += found.len();
        Some(found)
    }

    fn binary(&mut self, level: usize) -> Result<i64, String> {
        if level == LEVELS.len() {
            return self.unary();
        }
        let mut left = self.binary(level + 1)?;
        while let Some(operator) = self.operator(level) {
            let right = self.binary(level + 1)?;
            left = apply(operator, left, right)?;
        }
        Ok(left)
    }

    fn unary(&mut self) -> Result<i64, String> {
        self.depth += 1;
        if self.depth > 100 {
            return Err("arithmetic syntax error".to_owned());
        }
        self.blanks();
        let value = match self.bytes.get(self.at) {
            Some(b'-') => self.after_sign().map(i64::wrapping_neg),
            Some(b'+') => self.after_sign(),
            Some(b'!') => self.after_sign().map(|v| i64::from(v == 0)),
            Some(b'(') => {
                self.at += 1;
                let value = self.binary(0)?;
                self.blanks();
                if self.bytes.get(self.at) != Some(&b')') {
                    return Err("arithmetic syntax error".to_owned());
                }
                self.at += 1;
                Ok(value)
            }
            Some(c) if c.is_ascii_alphanumeric() || *c == b'_' => self.operand(),
            _ => Err("arithmetic syntax error".to_owned()),
        };
        self.depth -= 1;
        value
    }

    fn after_sign(&mut self) -> Result<i64, String> {
        self.at += 1;
        self.unary()
    }

    fn operand(&mut self) -> Result<i64, String> {
        let start = self.at;
        while self
            .bytes
            .get(self.at)
            .is_some_and(|c| c.is_ascii_alphanumeric() || *c == b'_')
        {
            self.at += 1;
        }
        let word = String::from_utf8_lossy(&self.bytes[start..self.at]).into_owned();
        if word.as_bytes()[0].is_ascii_digit() {
            return word
                .parse()
                .map_err(|_| "arithmetic syntax error".to_owned());
        }
        match (self.variable)(&word).trim() {
            "" => Ok(0),
            value => value
                .parse()
                .map_err(|_| "arithmetic syntax error".to_owned()),
        }
    }
}

fn apply(operator: &str, left: i64, right: i64) -> Result<i64, String> {
    let shift = u32::try_from(right & 63).unwrap_or_default();
    Ok(match operator {
        "||" => i64::from(left != 0 || right != 0),
        "&&" => i64::from(left != 0 && right != 0),
        "|" => left | right,
        "^" => left ^ right,
        "&" => left & right,
        "==" => i64::from(left == right),
        "!=" => i64::from(left != right),
        "<=" => i64::from(left <= right),
        ">=" => i64::from(left >= right),
        "<" => i64::from(left < right),
        ">" => i64::from(left > right),
        "<<" => left.wrapping_shl(shift),
        ">>" => left.wrapping_shr(shift),
        "+" => left.wrapping_add(right),
        "-" => left.wrapping_sub(right),
        "*" => left.wrapping_mul(right),
        _ if right == 0 => return Err("divide by zero".to_owned()),
        "/" => left.wrapping_div(right),
        _ => left.wrapping_rem(right),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operators_bind_as_in_c() {
        let value = |text| {
            evaluate(text, &|name| {
                if name == "i" {
                    "4".into()
                } else {
                    String::new()
                }
            })
        };
        assert_eq!(value("i + 2 * 3 - -1"), Ok(11));
        assert_eq!(value("(i+1)*2 == 10 && !0"), Ok(1));
        assert_eq!(value("1 << 3 | 1"), Ok(9));
        assert_eq!(value("nothing"), Ok(0));
        assert_eq!(value("7 % 0"), Err("divide by zero".into()));
        assert!(value("1 +").is_err() && value("1 2").is_err());
        assert!(value(&"(".repeat(10_000)).is_err());
    }
}
