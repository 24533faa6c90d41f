//! Owns health checks: when they run, what their results make of a container's health.

use std::sync::{Arc, Mutex, PoisonError};

use super::container::{Check, Container, HealthState};
use super::exec;
use crate::config::HealthConfig;
use crate::engine::Inner;
use crate::script::Health;
use crate::shell::Output;
use crate::state::State;

/// Results kept in inspect (`daemon/health.go`, `maxLogEntries`).
const LOG_LIMIT: usize = 5;
/// Output kept of one check (`daemon/health.go`, `maxOutputLen`).
const OUTPUT_LIMIT: usize = 4096;

/// Starts the health checks of a run that begins, if the container has any.
pub(crate) fn begin(engine: &Arc<Inner>, container: &mut Container) {
    container.health = None;
    let Some(config) = container.config.healthcheck.clone() else {
        return;
    };
    let Some(command) = config.command() else {
        return;
    };
    container.health = Some(Box::new(HealthState {
        status: Health::Starting,
        streak: 0,
        log: Vec::new(),
    }));
    let (engine, id, run) = (Arc::clone(engine), Arc::clone(&container.id), container.run);
    let task = tokio::spawn(async move { checks(engine, id, run, config, command).await });
    if let Some(process) = &mut container.process {
        process.tasks.push(task.abort_handle());
    }
}

async fn checks(
    engine: Arc<Inner>,
    id: Arc<str>,
    run: u64,
    config: HealthConfig,
    command: Vec<String>,
) {
    let times = config.times();
    let started = engine.clock.nanos();
    loop {
        let starting = engine.clock.nanos().saturating_sub(started) < times.start_period;
        engine
            .clock
            .sleep(if starting {
                times.start_interval
            } else {
                times.interval
            })
            .await;
        let start = engine.clock.nanos();
        let buffer = Arc::new(Mutex::new(Vec::new()));
        let Ok(exec) = engine.probe(&id, command.clone(), Output::Memory(Arc::clone(&buffer)))
        else {
            record(
                &engine,
                &id,
                run,
                &times,
                started,
                Check {
                    start,
                    end: start,
                    exit_code: -1,
                    output: "exec could not be started".into(),
                },
            );
            continue;
        };
        let exit_code = tokio::select! {
            code = ended(&engine, &exec) => code,
            () = engine.clock.sleep(times.timeout) => {
                let mut state = engine.state();
                engine.exec_ended(&mut state, &exec, crate::process::Exit { code: 137, out_of_memory: false }, true);
                -1
            }
        };
        exec::forget(&mut engine.state(), &exec);
        let end = engine.clock.nanos();
        let bytes = std::mem::take(&mut *buffer.lock().unwrap_or_else(PoisonError::into_inner));
        let output = if exit_code == -1 {
            format!("Health check exceeded timeout ({:?})", times.timeout)
        } else {
            String::from_utf8_lossy(&bytes[..bytes.len().min(OUTPUT_LIMIT)]).into_owned()
        };
        record(
            &engine,
            &id,
            run,
            &times,
            started,
            Check {
                start,
                end,
                exit_code,
                output,
            },
        );
    }
}

/// Waits until an exec has ended.
async fn ended(engine: &Arc<Inner>, id: &str) -> i64 {
    loop {
        // `notify_waiters` reaches every `Notified` made before it, polled or not.
        let changed = engine.exec_changed.notified();
        if let Some(code) = exec::exit_code(&engine.state(), id) {
            return code;
        }
        changed.await;
    }
}

fn record(
    engine: &Arc<Inner>,
    id: &str,
    run: u64,
    times: &crate::config::HealthTimes,
    started: u64,
    check: Check,
) {
    let mut state = engine.state();
    let Some(container) = state
        .containers
        .get_mut(id)
        .filter(|c| c.run == run && c.is_running())
    else {
        return;
    };
    let Some(health) = &mut container.health else {
        return;
    };
    let healthy = check.exit_code == 0;
    // Failures in the start period do not count.
    let graceful = health.status == Health::Starting
        && check.start.saturating_sub(started) < times.start_period;
    health.streak = if healthy {
        0
    } else {
        health.streak + u64::from(!graceful)
    };
    health.log.push(check);
    if health.log.len() > LOG_LIMIT {
        health.log.remove(0);
    }
    let next = if healthy {
        Health::Healthy
    } else if health.streak >= times.retries {
        Health::Unhealthy
    } else {
        health.status
    };
    set(engine, &mut state, id, next);
}

fn set(engine: &Inner, state: &mut State, id: &str, next: Health) {
    let Some(container) = state.containers.get_mut(id).filter(|c| c.is_running()) else {
        return;
    };
    let health = container.health.get_or_insert_with(|| {
        Box::new(HealthState {
            status: Health::Starting,
            streak: 0,
            log: Vec::new(),
        })
    });
    if health.status == next {
        return;
    }
    health.status = next;
    engine.container_event(container, &format!("health_status: {}", next.as_str()), &[]);
    container.notify();
}

impl Inner {
    /// Sets a container's health, as a script says it.
    pub(crate) fn set_health(&self, id: &str, health: Health) {
        set(self, &mut self.state(), id, health);
    }
}
