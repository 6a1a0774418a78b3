//! When a node that died is started again, when it is left alone, and when `up` gives up. No clock, no randomness: both
//! come in as arguments.

use quipu_shared::ids::Role;
use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

/// Limits on restarts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RestartPolicy {
    /// Shortest delay before a restart.
    pub(crate) delay_min: Duration,
    /// Longest delay before a restart.
    pub(crate) delay_max: Duration,
    /// Restarts of one node within [`Self::window`]; one more death, and `up` gives up.
    pub(crate) restarts_max: u32,
    /// How long a restart is remembered.
    pub(crate) window: Duration,
}

impl Default for RestartPolicy {
    fn default() -> Self {
        Self {
            // A node that was killed is missed by nobody for that long, and one that can't start does not busy the machine.
            delay_min: Duration::from_millis(100),
            // A host that is away for an hour is back in the cluster seconds after it returns.
            delay_max: Duration::from_secs(10),
            // The delays of ten restarts add up to 25 to 50 s: a node that dies at once each time uses them up in time.
            restarts_max: 10,
            window: Duration::from_secs(60),
        }
    }
}

/// Restarts of one node.
#[derive(Debug)]
pub(crate) struct Restarts {
    policy: RestartPolicy,
    /// When it died, for those deaths within the window that led to a restart. At most `restarts_max` of them.
    recent: VecDeque<Duration>,
}

/// What to do about a death.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Start the node again after this time.
    RestartAfter(Duration),
    /// It died too often.
    GiveUp,
}

impl Restarts {
    /// Of a node that has not died yet.
    pub(crate) fn new(policy: RestartPolicy) -> Self {
        Self { policy, recent: VecDeque::new() }
    }

    /// The node died `at` (since any fixed time; never less than before). `chance` is uniform in 0..1.
    ///
    /// The delay doubles with each death within the window. Its jitter keeps nodes that died together from coming back
    /// together.
    pub(crate) fn died(&mut self, at: Duration, chance: f64) -> Verdict {
        let RestartPolicy { delay_min, delay_max, restarts_max, window } = self.policy;
        while self.recent.front().is_some_and(|death| at.saturating_sub(*death) > window) {
            self.recent.pop_front();
        }
        let deaths = u32::try_from(self.recent.len()).unwrap_or(u32::MAX);
        if deaths >= restarts_max {
            return Verdict::GiveUp;
        }
        self.recent.push_back(at);
        let longest = delay_min.saturating_mul(2_u32.saturating_pow(deaths.saturating_add(1))).min(delay_max);
        let delay = longest.mul_f64(0.5 + chance.clamp(0.0, 1.0) / 2.0);
        Verdict::RestartAfter(delay.clamp(delay_min.min(delay_max), delay_max))
    }
}

/// How a process ended, or why there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Death {
    /// With this exit code.
    Exited(i32),
    /// By this signal.
    Signalled(i32),
    /// It said within this time not that it is ready, and was killed.
    NotReady(Duration),
    /// It could not be started at all.
    NotStarted(String),
}

impl fmt::Display for Death {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(code) => write!(f, "exit code {code}"),
            Self::Signalled(signal) => match nix::sys::signal::Signal::try_from(*signal) {
                Ok(name) => write!(f, "signal {signal} ({name})"),
                Err(_) => write!(f, "signal {signal}"),
            },
            Self::NotReady(patience) => write!(f, "not ready after {patience:?}"),
            Self::NotStarted(why) => write!(f, "not started: {why}"),
        }
    }
}

/// What is known of a node when it dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Circumstances {
    /// What it did.
    pub(crate) role: Role,
    /// Whether it ran on another machine.
    pub(crate) over_ssh: bool,
    /// Whether this start of it had become ready.
    pub(crate) was_ready: bool,
    /// Whether any start of it had.
    pub(crate) ever_ready: bool,
}

/// What a death means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// An accident: starting it again may help.
    Accident(Option<&'static str>),
    /// It has left as it was told to (`quipu node drain`, SIGTERM): bringing it back would undo that.
    Left,
    /// It would end the same way each time; with what to do about it.
    Hopeless(&'static str),
}

/// What ssh itself ends with, and also what it gives for a remote process that a signal ended.
const SSH_FAILED: i32 = 255;
/// What a shell ends with where it can't find a command.
const NOT_FOUND: i32 = 127;
/// What a shell ends with where it may not run a command.
const NOT_EXECUTABLE: i32 = 126;

/// What the death of a node means.
pub(crate) fn meaning(death: &Death, of: Circumstances) -> Meaning {
    let Death::Exited(code) = death else { return Meaning::Accident(None) };
    match *code {
        // A cluster without its master is none: that one always comes back.
        0 if of.was_ready && of.role == Role::Worker => Meaning::Left,
        NOT_FOUND if of.over_ssh => {
            Meaning::Hopeless("there is no such program on that host: give --remote-quipu PATH")
        }
        NOT_EXECUTABLE if of.over_ssh => Meaning::Hopeless("that host can't run the program: check --remote-quipu"),
        SSH_FAILED if of.over_ssh && of.was_ready => {
            Meaning::Accident(Some("the connection is lost, or a signal ended the process over there"))
        }
        SSH_FAILED if of.over_ssh => {
            Meaning::Accident(Some("ssh could not connect or log in: try the same ssh command by hand, with -v"))
        }
        // Wrong options, a port that is taken, a folder that can't be written: people want to hear of it now and not
        // after ten restarts. Once it has run, the same code is worth another try.
        _ if !of.ever_ready => Meaning::Hopeless("it has never been ready: see what it says"),
        _ => Meaning::Accident(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{any, prop, prop_assert, proptest};

    const WORKER: Circumstances =
        Circumstances { role: Role::Worker, over_ssh: false, was_ready: true, ever_ready: true };

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn delays_double_up_to_the_longest() {
        let mut restarts = Restarts::new(RestartPolicy::default());
        let delays: Vec<u128> = (0..10)
            .map(|second| match restarts.died(seconds(second), 1.0) {
                Verdict::RestartAfter(delay) => delay.as_millis(),
                Verdict::GiveUp => panic!("gave up at {second}"),
            })
            .collect();
        assert_eq!(delays, [200, 400, 800, 1600, 3200, 6400, 10_000, 10_000, 10_000, 10_000]);
        assert_eq!(restarts.died(seconds(10), 1.0), Verdict::GiveUp);
    }

    #[test]
    fn old_deaths_are_forgotten() {
        let mut restarts = Restarts::new(RestartPolicy { restarts_max: 1, ..RestartPolicy::default() });
        assert_eq!(restarts.died(seconds(0), 0.0), Verdict::RestartAfter(Duration::from_millis(100)));
        assert_eq!(restarts.died(seconds(60), 0.0), Verdict::GiveUp);
        assert_eq!(restarts.died(seconds(61), 0.0), Verdict::RestartAfter(Duration::from_millis(100)));
    }

    #[test]
    fn no_restarts_means_none() {
        let mut restarts = Restarts::new(RestartPolicy { restarts_max: 0, ..RestartPolicy::default() });
        assert_eq!(restarts.died(seconds(0), 0.5), Verdict::GiveUp);
    }

    #[test]
    fn immediate_deaths_use_up_the_restarts_within_the_window() {
        for chance in [0.0, 0.5, 1.0] {
            let policy = RestartPolicy::default();
            let mut restarts = Restarts::new(policy);
            let mut now = Duration::ZERO;
            while let Verdict::RestartAfter(delay) = restarts.died(now, chance) {
                now += delay;
                assert!(now <= policy.window, "still restarting at {now:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn delays_and_counts_stay_within_the_limits(
            gaps in prop::collection::vec(0_u64..30_000, 1..100),
            chance in any::<f64>(),
            restarts_max in 0_u32..20,
        ) {
            let policy = RestartPolicy { restarts_max, ..RestartPolicy::default() };
            let mut restarts = Restarts::new(policy);
            let (mut now, mut granted) = (Duration::ZERO, Vec::new());
            for gap in gaps {
                now += Duration::from_millis(gap);
                if let Verdict::RestartAfter(delay) = restarts.died(now, if chance.is_nan() { 0.5 } else { chance }) {
                    prop_assert!((policy.delay_min..=policy.delay_max).contains(&delay), "{delay:?}");
                    granted.push(now);
                }
                let recent = granted.iter().filter(|at| now - **at <= policy.window).count();
                prop_assert!(recent <= restarts_max as usize, "{recent} restarts");
            }
        }
    }

    #[test]
    fn drained_worker_is_not_brought_back_and_a_master_is() {
        assert_eq!(meaning(&Death::Exited(0), WORKER), Meaning::Left);
        let master = Circumstances { role: Role::Master, ..WORKER };
        assert_eq!(meaning(&Death::Exited(0), master), Meaning::Accident(None));
        let unready = Circumstances { was_ready: false, ..WORKER };
        assert_eq!(meaning(&Death::Exited(0), unready), Meaning::Accident(None));
    }

    #[test]
    fn exits_are_hopeless_only_before_the_node_was_ever_ready() {
        let first = Circumstances { was_ready: false, ever_ready: false, ..WORKER };
        let later = Circumstances { was_ready: false, ..WORKER };
        for code in [0, 2, 66, 70, 77, 78, 101] {
            assert!(matches!(meaning(&Death::Exited(code), first), Meaning::Hopeless(_)), "{code}");
            assert_eq!(meaning(&Death::Exited(code), later), Meaning::Accident(None), "{code}");
        }
        for death in [Death::Signalled(9), Death::NotReady(seconds(30)), Death::NotStarted("no memory".into())] {
            assert_eq!(meaning(&death, first), Meaning::Accident(None), "{death}");
        }
    }

    #[test]
    fn failures_of_ssh_are_told_from_those_of_the_node() {
        let ssh = Circumstances { over_ssh: true, was_ready: false, ever_ready: false, ..WORKER };
        assert!(matches!(meaning(&Death::Exited(255), ssh), Meaning::Accident(Some(hint)) if hint.contains("log in")));
        let ready = Circumstances { was_ready: true, ever_ready: true, ..ssh };
        assert!(matches!(meaning(&Death::Exited(255), ready), Meaning::Accident(Some(hint)) if hint.contains("lost")));
        assert!(
            matches!(meaning(&Death::Exited(127), ssh), Meaning::Hopeless(hint) if hint.contains("--remote-quipu"))
        );
        assert_eq!(meaning(&Death::Exited(127), WORKER), Meaning::Accident(None));
    }

    #[test]
    fn deaths_are_named() {
        assert_eq!(Death::Signalled(9).to_string(), "signal 9 (SIGKILL)");
        assert_eq!(Death::Exited(70).to_string(), "exit code 70");
    }
}
