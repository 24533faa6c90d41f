//! Which `oom_score_adj` this host lets a container have.
//!
//! Lowering it takes `CAP_SYS_RESOURCE` in the first user namespace. Rootless engines and engines inside restricted machines lack it, and
//! would refuse to start any pod. Whether it is so is decided from facts, once per engine connection, and said once; a container then gets 0
//! instead of a negative value, which changes nothing but the order in which the kernel kills when memory runs out.

use std::sync::OnceLock;

/// The bit of `CAP_SYS_RESOURCE` in a capability mask (linux/capability.h).
const CAP_SYS_RESOURCE: u32 = 24;

/// What the host allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Any value, as far as is known.
    Allowed,
    /// Nothing below 0, and why.
    Clamped(String),
}

/// Decides from what is known of the engine: its security options (`GET /info`), and its process's status file if it runs on this host.
pub fn verdict(security_options: &[String], process_status: Option<&str>) -> Verdict {
    let rootless = |option: &String| {
        option == "rootless" || option.split(',').any(|part| part == "name=rootless")
    };
    if security_options.iter().any(rootless) {
        return Verdict::Clamped("the engine is rootless".to_owned());
    }
    let mask = process_status
        .and_then(|status| status.lines().find_map(|line| line.strip_prefix("CapEff:")));
    match mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()) {
        Some(mask) if mask & (1 << CAP_SYS_RESOURCE) == 0 => {
            Verdict::Clamped("the engine's process lacks CAP_SYS_RESOURCE".to_owned())
        }
        _ => Verdict::Allowed,
    }
}

/// Whether an engine's refusal to start a container says that its `oom_score_adj` was the reason.
pub fn is_refusal(message: &str) -> bool {
    message.contains("oom_score_adj")
}

/// The verdict on one engine, kept once it is made.
#[derive(Debug, Default)]
pub struct Clamp {
    verdict: OnceLock<Verdict>,
    refused: OnceLock<()>,
}

impl Clamp {
    /// Whether the facts have been looked at.
    pub fn is_decided(&self) -> bool {
        self.verdict.get().is_some()
    }

    /// Keeps a verdict; the first one stays. Logs it if it clamps.
    pub fn decide(&self, verdict: Verdict) {
        if self.verdict.set(verdict).is_ok()
            && let Some(Verdict::Clamped(reason)) = self.verdict.get()
        {
            tracing::warn!(
                "oom_score_adj cannot be lowered here, so 0 is used instead of negative values: {reason}"
            );
        }
    }

    /// Notes that the engine refused a negative value although nothing spoke against it. True the first time: the start is worth repeating.
    pub fn refused(&self) -> bool {
        let first = self.refused.set(()).is_ok()
            && !matches!(self.verdict.get(), Some(Verdict::Clamped(_)));
        if first {
            tracing::warn!(
                "oom_score_adj cannot be lowered here, so 0 is used instead of negative values: the engine refused one"
            );
        }
        first
    }

    /// `wanted`, or what the host allows instead.
    pub fn apply(&self, wanted: i32) -> i32 {
        let clamped =
            self.refused.get().is_some() || matches!(self.verdict.get(), Some(Verdict::Clamped(_)));
        if clamped { wanted.max(0) } else { wanted }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_facts_decide() {
        let full = "Name:\tdockerd\nCapEff:\t000001ffffffffff\n";
        let restricted = "Name:\tdockerd\nCapEff:\t000001fffeffffff\n";
        assert_eq!(verdict(&[], Some(full)), Verdict::Allowed);
        assert_eq!(verdict(&[], None), Verdict::Allowed);
        assert_eq!(
            verdict(&["name=seccomp,profile=default".into()], Some("nonsense")),
            Verdict::Allowed
        );
        assert!(matches!(
            verdict(&[], Some(restricted)),
            Verdict::Clamped(_)
        ));
        assert!(matches!(
            verdict(&["name=rootless".into()], Some(full)),
            Verdict::Clamped(_)
        ));
    }

    #[test]
    fn only_negative_values_are_clamped_and_a_refusal_counts_once() {
        let clamp = Clamp::default();
        clamp.decide(Verdict::Allowed);
        assert_eq!(clamp.apply(-998), -998);
        assert!(clamp.refused());
        assert!(!clamp.refused());
        assert_eq!((clamp.apply(-998), clamp.apply(900)), (0, 900));

        let known = Clamp::default();
        known.decide(Verdict::Clamped("rootless".into()));
        known.decide(Verdict::Allowed);
        assert_eq!(known.apply(-998), 0);
        assert!(!known.refused());
    }
}
