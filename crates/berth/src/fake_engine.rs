//! `berth fake-engine`: the fake engine on a unix socket, for anything that speaks the Engine API.

use std::io::{self, Write as _};
use std::path::Path;

use berth_docker::Endpoint;
use berth_fake_engine::{FakeEngine, Script, ScriptError};
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::FakeEngineArgs;
use crate::exit::{Code, Failure};

/// A file larger than this is no list of scripts, in bytes.
const MAX_SCRIPT: u64 = 16 * 1024 * 1024;

/// Serves until SIGINT or SIGTERM, then removes the socket.
pub(crate) async fn serve(args: &FakeEngineArgs) -> Result<(), Failure> {
    let endpoint: Endpoint = args
        .listen
        .parse()
        .map_err(|error| Failure::new(Code::Usage, format!("--listen: {error}")))?;
    let Endpoint::Unix { path, .. } = &endpoint else {
        return Err(Failure::new(
            Code::Usage,
            format!(
                "--listen {endpoint}: a fake engine is served on unix sockets only; write unix:///path"
            ),
        ));
    };
    let mut builder = FakeEngine::builder().seed(args.seed);
    if let Some(version) = &args.api_version {
        builder = builder.api_version(version);
    }
    if let Some(file) = &args.script {
        for script in scripts(file)? {
            builder = builder.script(script);
        }
    }
    let engine = builder
        .build()
        .map_err(|error| Failure::new(Code::Usage, error))?;

    // Before the socket is there, so that no signal can leave it behind.
    let (mut interrupt, mut terminate) = (
        signal(SignalKind::interrupt())?,
        signal(SignalKind::terminate())?,
    );
    let _server = engine
        .serve_unix(path)
        .map_err(|error| unservable(path, &error))?;
    // Whoever reads this may not; the engine serves nevertheless.
    let mut out = anstream::stdout().lock();
    let _ = writeln!(
        out,
        "a fake Docker Engine listens at {endpoint} until Ctrl-C; try: docker -H {endpoint} run -d busybox sleep 60"
    );
    let _ = out.flush();
    drop(out);
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}

fn unservable(path: &Path, error: &io::Error) -> Failure {
    let place = path.display();
    let message = match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!("{place}: another engine serves this socket; end it, or choose another path")
        }
        io::ErrorKind::AlreadyExists => {
            format!("{place}: there is something that is not a socket; choose another path")
        }
        io::ErrorKind::NotFound => format!("{place}: the directory does not exist"),
        _ => format!("{place}: {error}"),
    };
    Failure::new(Code::Failed, message)
}

fn scripts(file: &Path) -> Result<Vec<Script>, Failure> {
    let name = file.display();
    let failed =
        |error: &dyn std::fmt::Display| Failure::new(Code::Usage, format!("{name}: {error}"));
    let length = std::fs::metadata(file)
        .map_err(|error| failed(&error))?
        .len();
    if length > MAX_SCRIPT {
        return Err(failed(&format!("is larger than {} MiB", MAX_SCRIPT >> 20)));
    }
    let text = std::fs::read_to_string(file).map_err(|error| failed(&error))?;
    Script::parse_list(&text).map_err(|error| {
        let (line, column) = place(&text, &error);
        let words = error.to_string();
        // The place stands in front.
        let words = words
            .strip_suffix(&format!(" at line {line} column {column}"))
            .unwrap_or(&words);
        Failure::new(Code::Usage, format!("{name}:{line}:{column}: {words}"))
    })
}

/// The line and column of a mistake, from 1.
fn place(text: &str, error: &ScriptError) -> (usize, usize) {
    match error {
        ScriptError::Syntax(error) => (error.line(), error.column()),
        ScriptError::Signal { name, .. } => {
            let before = &text[..text.find(&format!("{name:?}")).unwrap_or_default()];
            let column = before
                .rsplit('\n')
                .next()
                .unwrap_or_default()
                .chars()
                .count()
                + 1;
            (before.matches('\n').count() + 1, column)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &str) -> String {
        // One file for each text: tests run side by side.
        let path = std::env::temp_dir().join(format!(
            "berth-script-{}-{}",
            std::process::id(),
            text.len()
        ));
        std::fs::write(&path, text).unwrap();
        let failure = scripts(&path).unwrap_err();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(failure.code, Code::Usage as u8);
        failure.message.replace(&path.display().to_string(), "FILE")
    }

    #[test]
    fn a_bad_script_is_told_with_its_place() {
        let syntax = message("[\n  {\"steps\": [{\"prnt\": \"x\"}]}\n]");
        assert!(
            syntax.starts_with("FILE:2:20: ")
                && syntax.contains("prnt")
                && !syntax.contains("at line"),
            "{syntax}"
        );
        let signal = message("[\n{\"steps\": [],\n \"signals\": {\"TERMINATE\": {}}}]");
        assert!(
            signal.starts_with("FILE:3:14: ") && signal.contains("TERMINATE"),
            "{signal}"
        );
        let empty = message("");
        assert!(empty.starts_with("FILE:1:0: "), "{empty}");
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let failure = scripts(Path::new("/nowhere/script.json")).unwrap_err();
        assert!(
            failure.message.starts_with("/nowhere/script.json: "),
            "{}",
            failure.message
        );
    }
}
