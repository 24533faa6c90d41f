//! The memory of a process, as the kernel tells it.

/// A field of `/proc/PROCESS/status` that is an amount of memory, in bytes: `RssAnon`, `VmHWM`. `process` is an ID, or `self`.
/// `None` when the process has ended.
pub fn of(process: &str, field: &str) -> Option<f64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let kib: f64 = status
        .lines()
        .find_map(|line| {
            let amount = line.strip_prefix(field)?.strip_prefix(':')?;
            amount.trim().strip_suffix(" kB")
        })?
        .parse()
        .ok()?;
    Some(kib * 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_is_no_less_than_what_is_resident() {
        let resident = of("self", "VmRSS").unwrap();
        assert!(resident > 0.0 && of("self", "VmHWM").unwrap() >= resident);
        assert_eq!(of("self", "VmNothing"), None);
    }
}
