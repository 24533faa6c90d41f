//! Telling systemd how it goes (`Type=notify`). Without systemd nothing happens.

/// Says that calls are taken.
pub fn ready() {
    tell(&[sd_notify::NotifyState::Ready]);
}

/// Says that berth is ending.
pub fn stopping() {
    tell(&[sd_notify::NotifyState::Stopping]);
}

fn tell(states: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(false, states) {
        tracing::debug!(%error, "systemd was not told");
    }
}
