//! Owns the rules of header fields that a user adds to every request: `HttpHeaders` of `config.json` and `DOCKER_CUSTOM_HEADERS`.
//!
//! Values may be secrets, so errors name the field and never its value.

use crate::config_error::ConfigError;

/// Fields that belong to the connection or the message, and would break either.
const RESERVED: [&str; 11] = [
    "connection",
    "content-length",
    "content-type",
    "expect",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Checks one field. `None` for `User-Agent`: as in the docker command, which once wrote its own into `config.json`, it cannot be replaced.
pub(crate) fn checked(
    origin: &str,
    name: &str,
    value: &str,
) -> Result<Option<(String, String)>, ConfigError> {
    let bad = |rule: &str| Err(ConfigError::value(origin, name, rule));
    // RFC 9110, `token`.
    if name.is_empty()
        || !name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
    {
        return bad("the name of a header must be letters, digits and `-`");
    }
    if value.chars().any(|c| c.is_control() && c != '\t') {
        return bad("the value of a header must have no line break and no other control character");
    }
    if RESERVED
        .iter()
        .any(|reserved| name.eq_ignore_ascii_case(reserved))
    {
        return bad("this header is the client's own and cannot be set");
    }
    if name.eq_ignore_ascii_case("user-agent") {
        return Ok(None);
    }
    Ok(Some((canonical(name), value.to_owned())))
}

/// The fields of `HttpHeaders`.
pub(crate) fn of_config<'a>(
    origin: &str,
    fields: impl IntoIterator<Item = (&'a String, &'a String)>,
) -> Result<Vec<(String, String)>, ConfigError> {
    let mut all: Vec<(String, String)> = Vec::new();
    for (name, value) in fields {
        let Some(field) = checked(origin, name, value)? else {
            continue;
        };
        if all.iter().any(|(known, _)| *known == field.0) {
            return Err(ConfigError::value(
                origin,
                name,
                "this header is named twice, in different case",
            ));
        }
        all.push(field);
    }
    Ok(all)
}

/// The fields of `DOCKER_CUSTOM_HEADERS`: one line of CSV (RFC 4180) whose fields are `name=value`. White space round a name does not
/// count, in a value it does. The last of several values counts.
pub(crate) fn of_variable(origin: &str, text: &str) -> Result<Vec<(String, String)>, ConfigError> {
    let mut all: Vec<(String, String)> = Vec::new();
    for (index, pair) in csv(text)
        .map_err(|rule| ConfigError::hidden(origin, rule))?
        .iter()
        .enumerate()
    {
        let Some((name, value)) = pair.split_once('=') else {
            return Err(
                ConfigError::hidden(origin, format!("field {} has no `=`", index + 1)).with_hint(
                    r#"write name=value, or "name=one,two" in quotes when the value has a comma"#,
                ),
            );
        };
        let Some(field) = checked(origin, name.trim(), value)? else {
            continue;
        };
        all.retain(|(known, _)| *known != field.0);
        all.push(field);
    }
    Ok(all)
}

/// The fields of one line of CSV.
fn csv(text: &str) -> Result<Vec<String>, &'static str> {
    let mut fields = Vec::new();
    let mut rest = text;
    loop {
        let mut field = String::new();
        if let Some(mut quoted) = rest.strip_prefix('"') {
            loop {
                let Some((part, after)) = quoted.split_once('"') else {
                    return Err("a quoted field has no end");
                };
                field.push_str(part);
                quoted = after;
                match quoted.strip_prefix('"') {
                    Some(after) => {
                        field.push('"');
                        quoted = after;
                    }
                    None => break,
                }
            }
            rest = quoted;
            if !rest.is_empty() && !rest.starts_with(',') {
                return Err("only a comma may follow a quoted field");
            }
        } else {
            let end = rest.find(',').unwrap_or(rest.len());
            field.push_str(&rest[..end]);
            if field.contains('"') {
                return Err("a field with a quote in it must be in quotes, and the quote doubled");
            }
            rest = &rest[end..];
        }
        fields.push(field);
        match rest.strip_prefix(',') {
            Some(after) => rest = after,
            None => return Ok(fields),
        }
    }
}

/// The name as Go and so the docker command writes it: `x-my-id` becomes `X-My-Id`.
fn canonical(name: &str) -> String {
    let mut start = true;
    name.chars()
        .map(|c| {
            let c = if start {
                c.to_ascii_uppercase()
            } else {
                c.to_ascii_lowercase()
            };
            start = c == '-';
            c
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn variable(text: &str) -> Result<Vec<(String, String)>, String> {
        of_variable("DOCKER_CUSTOM_HEADERS", text).map_err(|error| error.to_string())
    }

    fn refused_for(text: &str, part: &str) {
        let error = variable(text).expect_err(text);
        assert!(
            error.starts_with("DOCKER_CUSTOM_HEADERS") && error.contains(part),
            "{error}"
        );
    }

    fn owned(fields: &[(&str, &str)]) -> Vec<(String, String)> {
        fields
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn the_variable_is_csv_as_the_docker_command_reads_it() {
        assert_eq!(
            variable(
                r#"one=one-value,"two=two,value","three= a  ",four=, five =five=one,FIVE=five-two,"six=""6""""#
            ),
            Ok(owned(&[
                ("One", "one-value"),
                ("Two", "two,value"),
                ("Three", " a  "),
                ("Four", ""),
                ("Five", "five-two"),
                ("Six", "\"6\""),
            ]))
        );
    }

    #[test]
    fn the_variable_is_refused_when_it_is_no_list_of_pairs() {
        refused_for("a", "field 1 has no `=`");
        refused_for("a=b,", "field 2 has no `=`");
        refused_for("=b", "name of a header");
        refused_for(" =b", "name of a header");
        refused_for("a b=c", "name of a header");
        refused_for("\"a=b", "no end");
        refused_for("\"a=b\"c", "only a comma");
        refused_for("a=\"b\"", "must be in quotes");
        refused_for("a=b\nc=d", "no line break");
        refused_for("a\r\nHost=x", "name of a header");
    }

    #[test]
    fn headers_of_the_connection_are_refused_by_name_and_user_agent_is_passed_over() {
        refused_for(
            "Transfer-Encoding=chunked",
            "\"Transfer-Encoding\": this header is the client's own",
        );
        refused_for("HOST=x", "client's own");
        assert_eq!(variable("User-Agent=curl,a=b"), Ok(owned(&[("A", "b")])));
    }

    #[test]
    fn a_value_is_never_in_an_error() {
        for text in [
            "a=hunter2\n",
            "a b=hunter2",
            "hunter2",
            "\"a=hunter2",
            "a=\"hunter2\"",
            "host=hunter2",
        ] {
            let error = of_variable("X", text).expect_err(text);
            assert!(
                !error.to_string().contains("hunter2") && !format!("{error:?}").contains("hunter2"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_header_named_twice_in_the_file_is_refused() {
        let fields = owned(&[("X-A", "1"), ("x-a", "2")]);
        let error = of_config(
            "HttpHeaders",
            fields.iter().map(|(name, value)| (name, value)),
        )
        .expect_err("twice");
        assert_eq!(
            error.to_string(),
            "HttpHeaders \"x-a\": this header is named twice, in different case"
        );
    }

    proptest! {
        #[test]
        fn what_is_accepted_cannot_break_a_request(text: String) {
            for (name, value) in variable(&text).unwrap_or_default() {
                prop_assert!(name.bytes().all(|b| b.is_ascii_graphic() && b != b':'));
                prop_assert!(!value.contains(['\r', '\n', '\0']));
            }
        }

        #[test]
        fn quoting_carries_any_value(value in "[ -~é]{0,20}") {
            let text = format!("a=b,\"x={}\"", value.replace('"', "\"\""));
            prop_assert_eq!(variable(&text), Ok(owned(&[("A", "b"), ("X", &value)])));
        }
    }
}
