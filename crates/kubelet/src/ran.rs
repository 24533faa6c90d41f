//! Tells a pod that somebody else has removed from one that has only lost something.
//!
//! The engine forgets what is removed, so this has to be remembered: in which sandboxes containers of the spec ran. No step for a pod that
//! should run removes the last container that ran, but for one: of a container that could not be started again, the newest instance
//! stays in place of the one that ran. So when none is left that ran, somebody else was at work. If the sandbox they ran in goes on, single
//! containers were removed, which are made again. If it does not, the pod was removed, and a sandbox made since then proves nothing: it
//! may have been under way at that moment.

use std::collections::BTreeSet;

use crate::decide::Step;
use crate::observed::{Observed, SandboxId};
use crate::pod::Pod;

/// In which sandboxes containers of a pod's spec were last seen to run, or to have run. Empty until one has run.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Ran(BTreeSet<SandboxId>);

impl Ran {
    /// Whether no container is known to have run.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes in what the engine shows; says whether somebody else has removed the pod.
    pub(crate) fn look(&mut self, pod: &Pod, observed: &Observed) -> bool {
        let now = of(pod, observed);
        if !now.is_empty() {
            self.0 = now;
            return false;
        }
        let stands = observed
            .sandboxes
            .iter()
            .any(|sandbox| sandbox.running && self.0.contains(&sandbox.id));
        !self.is_empty() && !stands
    }

    /// Takes in what there is after a step of ours.
    pub(crate) fn step(&mut self, pod: &Pod, step: &Step, observed: &Observed) {
        let now = of(pod, observed);
        if !now.is_empty() || matches!(step, Step::RemoveContainer { .. }) {
            self.0 = now;
        }
    }
}

fn of(pod: &Pod, observed: &Observed) -> BTreeSet<SandboxId> {
    observed
        .instances
        .iter()
        .filter(|instance| instance.has_run() && pod.container(&instance.name).is_some())
        .map(|instance| instance.sandbox.clone())
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::decide::Wanted;
    use crate::decide::tests::any_case;
    use crate::observed::{Exit, Sandbox, State};
    use crate::world::{World, is_rest, pod};

    #[test]
    fn a_pod_that_others_removed_is_told_from_one_that_lost_something() {
        let pod = pod("", "");
        let mut world = World::running(&pod);
        let mut ran = Ran::default();
        assert!(!ran.look(&pod, &Observed::default()), "it has not run yet");
        assert!(!ran.look(&pod, &world.seen));
        let sandbox = world.seen.sandboxes[0].clone();
        let mut lost = world.seen.clone();
        lost.sandboxes.clear();
        assert!(!ran.look(&pod, &lost), "the sandbox alone");
        // Single containers, by hand: they are made again.
        world.seen.instances.truncate(1);
        assert!(!ran.look(&pod, &world.seen));
        let mut instance = world.seen.instances.remove(0);
        assert!(!ran.look(&pod, &world.seen));
        // And everything. What was made meanwhile does not count, nor what could not be started any more.
        instance.state = State::Exited(Exit {
            error: "no such container".to_owned(),
            ..Exit::default()
        });
        let newer = Sandbox {
            id: SandboxId("newer".to_owned()),
            ..sandbox
        };
        for (sandboxes, instances) in [
            (vec![], vec![]),
            (vec![newer], vec![]),
            (vec![], vec![instance]),
        ] {
            world.seen = Observed {
                sandboxes,
                instances,
            };
            assert!(ran.clone().look(&pod, &world.seen), "{:?}", world.seen);
        }
    }

    #[test]
    fn a_container_that_ran_once_and_cannot_be_started_again_is_no_sign() {
        let pod = pod("", "");
        let mut world = World::running(&pod);
        let mut ran = Ran::default();
        assert!(!ran.look(&pod, &world.seen));
        // Its older instances are removed in favour of the one that could not be started.
        for instance in &mut world.seen.instances {
            instance.state = State::Exited(Exit {
                error: "no such file".to_owned(),
                ..Exit::default()
            });
        }
        let step = Step::RemoveContainer {
            container: "a".to_owned(),
            id: world.newest("a").id.clone(),
        };
        ran.step(&pod, &step, &world.seen);
        world.seen.sandboxes.clear();
        assert!(!ran.look(&pod, &world.seen));
    }

    proptest! {
        /// From any state, whatever fails, steps of our own never look as if somebody else had removed the pod.
        #[test]
        fn our_own_steps_are_no_sign((pod, mut world) in any_case(), failing in prop::collection::vec(any::<bool>(), 0..40)) {
            let mut failing = failing.into_iter();
            let mut ran = Ran::default();
            for _ in 0..60 {
                prop_assert!(!ran.look(&pod, &world.seen), "{:?}", world.seen);
                let step = world.decide(Wanted::Run(&pod));
                if let Step::Wait { until } = step {
                    world.now = until;
                    continue;
                }
                if is_rest(&step) {
                    break;
                }
                if failing.next() == Some(true) {
                    world.history.record(&step, &crate::history::Outcome::Failed("no".to_owned()), world.now);
                } else {
                    world.carry_out(&step);
                    ran.step(&pod, &step, &world.seen);
                }
            }
        }
    }
}
