//! Owns `POST /containers/{id}/attach`: turns the request into a stream session on the container's pipes.

use std::sync::Arc;

use super::container::Phase;
use crate::http::{Answer, ApiError, Call, Reply};
use crate::log::StreamId;
use crate::pipes::Chunk;
use crate::process::Exit;
use crate::session::{Detached, Input, Session, head, parse_detach_keys};
use crate::signals::{Delivery, INT};

/// `POST /containers/{id}/attach`
pub(crate) async fn attach(call: Call) -> Answer {
    let query = &call.query;
    let detach_keys = query.get("detachKeys").unwrap_or_default();
    let keys = parse_detach_keys(detach_keys)
        .ok_or_else(|| ApiError::bad(format!("Invalid detach keys ({detach_keys}) provided")))?;
    let state = call.engine.state();
    let container = state.container(&call.target)?;
    match container.phase {
        Phase::Paused => {
            let message = format!(
                "container {} is paused, unpause the container before attach",
                call.target
            );
            return Err(ApiError::conflict(message));
        }
        Phase::Restarting => {
            let message = format!(
                "container {} is restarting, wait until the container is running",
                call.target
            );
            return Err(ApiError::conflict(message));
        }
        Phase::Created | Phase::Running | Phase::Exited => {}
    }
    let (stdout, stderr, stream) = (
        query.flag("stdout"),
        query.flag("stderr"),
        query.flag("stream"),
    );
    let tty = container.config.tty;
    let mut pipes = container.pipes.lock();
    let earlier: Vec<Chunk> = if query.flag("logs") {
        let mut earlier = Vec::new();
        let mut next = 0;
        while let Some((number, record)) = pipes.log.get(next) {
            earlier.push((record.stream, record.text.clone()));
            next = number + 1;
        }
        earlier
    } else {
        Vec::new()
    };
    let output = (stream && (stdout || stderr)).then(|| pipes.attach());
    let wants_stdin = stream && query.flag("stdin") && container.config.open_stdin;
    let input = wants_stdin
        .then(|| pipes.stdin_sender())
        .flatten()
        .map(|sender| Input {
            sender,
            closes: container
                .config
                .stdin_once
                .then(|| Arc::clone(&container.pipes)),
            ends_output: tty || !container.config.stdin_once,
        });
    drop(pipes);
    call.engine.container_event(container, "attach", &[]);
    let signals = container
        .process
        .as_ref()
        .map(|process| Arc::clone(&process.signals))
        .filter(|_| tty);
    let (engine, id, run) = (
        Arc::clone(&call.engine),
        Arc::clone(&container.id),
        container.run,
    );
    let on_interrupt = signals.map(|signals| -> Box<dyn Fn() + Send + Sync> {
        let (engine, id) = (Arc::clone(&engine), Arc::clone(&id));
        Box::new(move || {
            signals.interrupted.notify_waiters();
            if let Delivery::Fatal(code) = signals.deliver(INT) {
                let exit = Exit {
                    code,
                    out_of_memory: false,
                };
                engine.container_exited(&mut engine.state(), &id, run, exit);
            }
        })
    });
    let session = Session {
        head: head(
            call.upgrade(),
            call.api.at_least(42) && call.upgrade() && !tty,
            "",
        ),
        framed: !tty,
        stdout,
        stderr: stderr || tty && stdout,
        earlier: earlier
            .into_iter()
            .filter(|(s, _)| {
                if *s == StreamId::Stdout {
                    stdout
                } else {
                    stderr
                }
            })
            .collect(),
        output,
        input,
        detach_keys: if tty || !detach_keys.is_empty() {
            keys
        } else {
            Vec::new()
        },
        on_detach: Some(Box::new(move || {
            let state = engine.state();
            if let Some(container) = state.containers.get(&id) {
                engine.container_event(container, "detach", &[]);
            }
            Detached::Leave
        })),
        on_interrupt,
    };
    Ok(Reply::Hijack(Box::new(session)))
}
