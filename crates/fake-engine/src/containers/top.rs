//! Owns `GET /containers/{id}/top`: the processes of a container as `ps` shows them, in the columns asked for.

use serde_json::json;

use super::container::Container;
use super::subject;
use crate::http::{Answer, ApiError, Call, json};
use crate::state::State;

/// What `ps` shows of one process.
struct Row {
    pid: u32,
    user: String,
    started: String,
    terminal: &'static str,
    /// Program and arguments.
    command: String,
}

/// The columns that are known: what `-o` calls one, its title.
const COLUMNS: &[(&str, &str)] = &[
    ("args", "COMMAND"),
    ("c", "C"),
    ("cmd", "CMD"),
    ("comm", "COMMAND"),
    ("command", "COMMAND"),
    ("group", "GROUP"),
    ("pcpu", "%CPU"),
    ("pid", "PID"),
    ("pmem", "%MEM"),
    ("ppid", "PPID"),
    ("rss", "RSS"),
    ("s", "S"),
    ("stat", "STAT"),
    ("stime", "STIME"),
    ("time", "TIME"),
    ("tty", "TT"),
    ("uid", "UID"),
    ("user", "USER"),
    ("vsz", "VSZ"),
];

/// `ps -ef`
const FULL: &[(&str, &str)] = &[
    ("user", "UID"),
    ("pid", "PID"),
    ("ppid", "PPID"),
    ("c", "C"),
    ("stime", "STIME"),
    ("tty", "TTY"),
    ("time", "TIME"),
    ("cmd", "CMD"),
];

/// `ps -e`
const SHORT: &[(&str, &str)] = &[
    ("pid", "PID"),
    ("tty", "TTY"),
    ("time", "TIME"),
    ("comm", "CMD"),
];

/// `ps aux`
const BSD: &[(&str, &str)] = &[
    ("user", "USER"),
    ("pid", "PID"),
    ("pcpu", "%CPU"),
    ("pmem", "%MEM"),
    ("vsz", "VSZ"),
    ("rss", "RSS"),
    ("tty", "TTY"),
    ("stat", "STAT"),
    ("stime", "START"),
    ("minutes", "TIME"),
    ("args", "COMMAND"),
];

impl Row {
    fn cell(&self, column: &str) -> String {
        let text = match column {
            "pid" => return self.pid.to_string(),
            "args" | "cmd" | "command" => &self.command,
            "comm" => {
                let program = self.command.split(' ').next().unwrap_or_default();
                // The kernel keeps this much of a name.
                let name = program.rsplit('/').next().unwrap_or_default();
                return name.chars().take(15).collect();
            }
            "user" | "uid" | "group" => &self.user,
            "stime" => &self.started,
            "tty" => self.terminal,
            "time" => "00:00:00",
            "minutes" => "0:00",
            "ppid" => "1",
            "stat" => "Ss",
            "s" => "S",
            "pcpu" | "pmem" => "0.0",
            _ => "0",
        };
        text.to_owned()
    }
}

/// The columns that arguments of `ps` ask for.
fn columns(arguments: &str) -> Result<Vec<(&'static str, &'static str)>, ApiError> {
    let mut words = arguments.split_whitespace();
    let mut wanted: &[_] = SHORT;
    let mut own = Vec::new();
    while let Some(word) = words.next() {
        let letters = word.strip_prefix('-').unwrap_or(word);
        let (flags, list) = letters
            .split_once('o')
            .map_or((letters, None), |(flags, list)| (flags, Some(list)));
        for flag in flags.chars() {
            match (flag, word.starts_with('-')) {
                ('f' | 'F', true) => wanted = FULL,
                ('u', false) => wanted = BSD,
                ('e' | 'A' | 'a' | 'x' | 'w' | 'u', _) => {}
                _ => {
                    return Err(ApiError::internal(format!(
                        "the fake engine's ps does not know {word:?}"
                    )));
                }
            }
        }
        let list = match list {
            Some("") => words.next().unwrap_or_default(),
            Some(list) => list,
            None => continue,
        };
        for name in list.split(',') {
            let known = COLUMNS.iter().find(|(known, _)| *known == name);
            own.push(*known.ok_or_else(|| {
                ApiError::internal(format!(
                    "ps: error: unknown user-defined format specifier {name:?}"
                ))
            })?);
        }
    }
    let columns = if own.is_empty() { wanted.to_vec() } else { own };
    if columns.iter().any(|(_, title)| *title == "PID") {
        Ok(columns)
    } else {
        Err(ApiError::internal("Couldn't find PID field in ps output"))
    }
}

fn rows(state: &State, container: &Container) -> Vec<Row> {
    let started = crate::time::rfc3339(container.started.unwrap_or_default());
    let started = started.get(11..16).unwrap_or("00:00");
    let user = match container.config.user.as_str() {
        "" => "root",
        user => user,
    };
    let row = |pid: u32, command: String| Row {
        pid,
        user: user.to_owned(),
        started: started.to_owned(),
        terminal: if container.config.tty { "pts/0" } else { "?" },
        command,
    };
    let mut rows = vec![row(container.pid, container.config.argv().join(" "))];
    rows.extend(super::exec::running(state, container).map(|(pid, command)| row(pid, command)));
    rows
}

/// `GET /containers/{id}/top`
pub(crate) async fn top(call: Call) -> Answer {
    let arguments = call
        .query
        .get("ps_args")
        .filter(|arguments| !arguments.is_empty())
        .unwrap_or("-ef");
    let state = call.engine.state();
    let container = state.container(&call.target)?;
    if !container.is_running() {
        return Err(ApiError::conflict(format!(
            "{} is not running",
            subject(call.api, &container.id)
        )));
    }
    let columns = columns(arguments)?;
    let titles: Vec<&str> = columns.iter().map(|(_, title)| *title).collect();
    let processes: Vec<Vec<String>> = rows(&state, container)
        .iter()
        .map(|row| columns.iter().map(|(name, _)| row.cell(name)).collect())
        .collect();
    call.engine.container_event(container, "top", &[]);
    Ok(json(&json!({ "Titles": titles, "Processes": processes })).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn titles(arguments: &str) -> Option<Vec<&'static str>> {
        Some(
            columns(arguments)
                .ok()?
                .into_iter()
                .map(|(_, t)| t)
                .collect(),
        )
    }

    #[test]
    fn arguments_of_ps_choose_the_columns() {
        assert_eq!(titles("-eo pid,comm").unwrap(), ["PID", "COMMAND"]);
        assert_eq!(titles("-o pid,args").unwrap(), ["PID", "COMMAND"]);
        assert_eq!(titles("-e").unwrap(), ["PID", "TTY", "TIME", "CMD"]);
        assert_eq!(titles("aux").unwrap().len(), 11);
        assert_eq!(titles("axo pid,user,stat").unwrap().len(), 3);
        assert_eq!(titles("-eo comm"), None);
        assert_eq!(titles("-eo pid,nope"), None);
        assert_eq!(titles("-Q"), None);
    }
}
