//! What the client is told about a session's end, in the exact words that clients look for: a Kubernetes `Status` object, or plain text
//! for the protocols before v4.

use serde::Serialize;

use crate::session::{Outcome, Verb};

#[derive(Serialize)]
struct Status {
    metadata: Empty,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<Details>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<u16>,
}

#[derive(Serialize)]
struct Empty {}

#[derive(Serialize)]
struct Details {
    causes: [Cause; 1],
}

#[derive(Serialize)]
struct Cause {
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    message: String,
}

fn status(outcome: &Outcome, verb: Verb) -> Status {
    match outcome {
        Outcome::Success | Outcome::Exited(0) => Status {
            metadata: Empty {},
            status: "Success",
            message: None,
            reason: None,
            details: None,
            code: None,
        },
        Outcome::Exited(code) => Status {
            metadata: Empty {},
            status: "Failure",
            message: Some(format!(
                "command terminated with non-zero exit code: exit status {code}"
            )),
            reason: Some("NonZeroExitCode"),
            details: Some(Details {
                causes: [Cause {
                    reason: Some("ExitCode"),
                    message: code.to_string(),
                }],
            }),
            code: None,
        },
        Outcome::Failed(what) => {
            let what = match verb {
                Verb::Exec => format!("error executing command in container: {what}"),
                Verb::Attach => format!("error attaching to container: {what}"),
            };
            Status {
                metadata: Empty {},
                status: "Failure",
                message: Some(format!("Internal error occurred: {what}")),
                reason: Some("InternalError"),
                details: Some(Details {
                    causes: [Cause {
                        reason: None,
                        message: what,
                    }],
                }),
                code: Some(500),
            }
        }
    }
}

/// The status as protocols from v4 on carry it. Never empty: to a client an empty one looks like a broken connection.
pub(crate) fn json(outcome: &Outcome, verb: Verb) -> Vec<u8> {
    // Strings and numbers only, so this cannot fail; an empty status would still be read as a failure by newer clients.
    serde_json::to_vec(&status(outcome, verb)).unwrap_or_default()
}

/// The status as older protocols carry it: empty on success.
pub(crate) fn text(outcome: &Outcome, verb: Verb) -> Vec<u8> {
    let message = status(outcome, verb).message;
    message.unwrap_or_default().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn both(outcome: &Outcome, verb: Verb) -> [String; 2] {
        [json(outcome, verb), text(outcome, verb)].map(|bytes| String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn success_is_said_in_json_and_silent_in_text() {
        for outcome in [Outcome::Success, Outcome::Exited(0)] {
            assert_eq!(
                both(&outcome, Verb::Exec),
                [r#"{"metadata":{},"status":"Success"}"#, ""]
            );
        }
    }

    #[test]
    fn an_exit_code_is_a_cause() {
        assert_eq!(
            both(&Outcome::Exited(137), Verb::Exec),
            [
                concat!(
                    r#"{"metadata":{},"status":"Failure","#,
                    r#""message":"command terminated with non-zero exit code: exit status 137","#,
                    r#""reason":"NonZeroExitCode","#,
                    r#""details":{"causes":[{"reason":"ExitCode","message":"137"}]}}"#
                ),
                "command terminated with non-zero exit code: exit status 137"
            ]
        );
    }

    #[test]
    fn other_failures_are_internal_errors() {
        let [json, text] = both(&Outcome::Failed("no \"sh\"".into()), Verb::Exec);
        assert_eq!(
            json,
            concat!(
                r#"{"metadata":{},"status":"Failure","#,
                r#""message":"Internal error occurred: error executing command in container: no \"sh\"","#,
                r#""reason":"InternalError","#,
                r#""details":{"causes":[{"message":"error executing command in container: no \"sh\""}]},"#,
                r#""code":500}"#
            )
        );
        assert_eq!(
            text,
            "Internal error occurred: error executing command in container: no \"sh\""
        );
        let [_, text] = both(&Outcome::Failed("gone".into()), Verb::Attach);
        assert_eq!(
            text,
            "Internal error occurred: error attaching to container: gone"
        );
    }
}
