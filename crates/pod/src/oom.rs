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

/// The part of `/proc` that tells what an engine on this host may do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProcessFacts {
    /// `/proc/<pid>/status`.
    pub status: String,
    /// `/proc/<pid>/uid_map`.
    pub uid_map: String,
}

/// Decides from the engine's process, if it runs on this host.
pub fn verdict_of_process(facts: &ProcessFacts) -> Verdict {
    // Inside another user namespace the mask says nothing about the host.
    let mut ids = facts.uid_map.split_whitespace();
    if (ids.next(), ids.next(), ids.next()) != (Some("0"), Some("0"), Some("4294967295")) {
        return Verdict::Clamped("the engine runs in a user namespace of its own".to_owned());
    }
    let mask = facts
        .status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"));
    match mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()) {
        Some(mask) if mask & (1 << CAP_SYS_RESOURCE) == 0 => {
            Verdict::Clamped("the engine's process lacks CAP_SYS_RESOURCE".to_owned())
        }
        _ => Verdict::Allowed,
    }
}

/// Decides from the security options that `GET /info` gives, for an engine that is not seen as a process of this host.
pub fn verdict_of_options(security_options: &[String]) -> Verdict {
    let rootless = |option: &String| {
        option == "rootless" || option.split(',').any(|part| part == "name=rootless")
    };
    if security_options.iter().any(rootless) {
        return Verdict::Clamped("the engine is rootless".to_owned());
    }
    Verdict::Allowed
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
            tracing::info!(
                "oom_score_adj cannot be lowered here, so 0 is used instead of negative values: {reason}"
            );
        }
    }

    /// Notes that the engine refused a negative value although nothing spoke against it. True the first time: the start is worth repeating.
    pub fn refused(&self) -> bool {
        let first = self.refused.set(()).is_ok()
            && !matches!(self.verdict.get(), Some(Verdict::Clamped(_)));
        if first {
            tracing::info!(
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
        let facts = |mask: &str, map: &str| ProcessFacts {
            status: format!("Name:\tdockerd\nCapEff:\t{mask}\n"),
            uid_map: map.to_owned(),
        };
        let host = "         0          0 4294967295\n";
        assert_eq!(
            verdict_of_process(&facts("000001ffffffffff", host)),
            Verdict::Allowed
        );
        assert!(matches!(
            verdict_of_process(&facts("000001fffeffffff", host)),
            Verdict::Clamped(_)
        ));
        let rootless = facts("000001ffffffffff", "0 1000 1\n1 100000 65536\n");
        assert!(matches!(verdict_of_process(&rootless), Verdict::Clamped(_)));

        assert_eq!(
            verdict_of_options(&["name=seccomp,profile=default".into()]),
            Verdict::Allowed
        );
        assert!(matches!(
            verdict_of_options(&["name=rootless".into()]),
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
