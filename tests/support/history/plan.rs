//! What a seed stands for: rounds of jobs and faults. Pure, so that the same seed is the same schedule.

use std::time::Duration;

/// Threads that submit.
pub const LANES: usize = 3;
/// Workers of the cluster.
pub const WORKERS: usize = 3;
/// Time within which a round's jobs are submitted and its faults begin.
const ROUND_MS: u64 = 3_500;
/// Jobs of a round, about.
const JOBS: u64 = 60;
/// Longest key batch.
const BATCH_JOBS_MAX: u64 = 12;

/// SplitMix64: a few lines that stay the same for ever.
pub struct Dice(u64);

impl Dice {
    /// Dice for one purpose.
    pub fn new(seed: u64, round: u64, purpose: u64) -> Self {
        let mut dice =
            Self(seed ^ round.wrapping_mul(0xa076_1d64_78bd_642f) ^ purpose.wrapping_mul(0xe703_7ed1_a0b4_28db));
        dice.next();
        dice
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// True so many times of a hundred.
    pub fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// One of these.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len() as u64) as usize]
    }
}

/// How much work a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// Up to some milliseconds.
    Small,
    /// Up to a tenth of a second, or a result of some hundred KiB.
    Medium,
    /// About a second.
    Large,
}

/// One job.
#[derive(Clone, Debug, PartialEq)]
pub struct JobPlan {
    /// Its idempotency key, and its name.
    pub key: String,
    /// Which sort of job.
    pub size: Size,
    /// Picks one of the catalogue's jobs of that size.
    pub pick: u64,
    /// Priority in the queue.
    pub priority: i8,
    /// The job that it waits for, and whether for its success only.
    pub after: Option<(String, bool)>,
    /// Time from its submission until it may run.
    pub delay: Option<Duration>,
    /// Tries after trouble.
    pub retries: u32,
    /// When it is cancelled, from its acknowledgement on.
    pub cancel_after: Option<Duration>,
    /// Whether it is submitted once more, later, with the same key.
    pub again: bool,
    /// Whether its result is read while it runs.
    pub stream: bool,
}

/// One request of a lane; several jobs are a batch.
#[derive(Clone, Debug, PartialEq)]
pub struct Submission {
    /// Since the beginning of the round.
    pub at: Duration,
    /// At least one.
    pub jobs: Vec<JobPlan>,
}

/// Harm, and its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// kill -9.
    KillMaster,
    /// On the same addresses and folder.
    StartMaster,
    /// kill -9.
    KillWorker(usize),
    /// A new one in its place.
    StartWorker(usize),
    /// SIGSTOP.
    StopMaster,
    /// SIGCONT.
    ContinueMaster,
    /// SIGSTOP.
    StopWorker(usize),
    /// SIGCONT.
    ContinueWorker(usize),
    /// The cable between it and the master, and so all others, is cut.
    Cut(usize),
    /// The cable is whole again.
    Mend(usize),
}

/// A round.
#[derive(Clone, Debug, PartialEq)]
pub struct Round {
    /// What each lane submits.
    pub lanes: Vec<Vec<Submission>>,
    /// Harm by time.
    pub actions: Vec<(Duration, Action)>,
}

/// A round of a seed.
pub fn round(seed: u64, number: u64) -> Round {
    let lanes = (0..LANES as u64).map(|lane| submissions(seed, number, lane)).collect();
    let mut actions = faults(&mut Dice::new(seed, number, 100));
    actions.sort_by_key(|(at, _)| *at);
    Round { lanes, actions }
}

fn submissions(seed: u64, round: u64, lane: u64) -> Vec<Submission> {
    let mut dice = Dice::new(seed, round, lane);
    let mut submissions = Vec::new();
    let mut keys: Vec<String> = Vec::new();
    let mut left = JOBS / LANES as u64;
    while left > 0 {
        let count = if dice.percent(15) { 2 + dice.below(BATCH_JOBS_MAX - 1) } else { 1 }.min(left);
        left -= count;
        let at = Duration::from_millis(dice.below(ROUND_MS));
        submissions.push((at, count));
    }
    submissions.sort();
    let mut planned = Vec::new();
    for (at, count) in submissions {
        let first = keys.len();
        let jobs = (0..count)
            .map(|_| {
                let key = format!("s{seed}-r{round}-l{lane}-{}", keys.len());
                // Others of the same request have no number yet that it could name.
                let after = if first > 0 && dice.percent(8) {
                    Some((dice.pick(&keys[..first]).clone(), dice.percent(60)))
                } else {
                    None
                };
                keys.push(key.clone());
                job(&mut dice, key, after, count == 1)
            })
            .collect();
        planned.push(Submission { at, jobs });
    }
    planned
}

fn job(dice: &mut Dice, key: String, after: Option<(String, bool)>, alone: bool) -> JobPlan {
    let size = match dice.below(100) {
        0..=1 if alone => Size::Large,
        0..=17 => Size::Medium,
        _ => Size::Small,
    };
    let milliseconds = |dice: &mut Dice, bound| Duration::from_millis(dice.below(bound));
    JobPlan {
        key,
        size,
        pick: dice.below(1 << 32),
        priority: if dice.percent(25) { dice.below(21) as i8 - 10 } else { 0 },
        after,
        delay: dice.percent(6).then(|| milliseconds(dice, 1_500)),
        retries: if dice.percent(10) { 2 } else { 0 },
        cancel_after: (alone && dice.percent(8)).then(|| milliseconds(dice, 300)),
        again: dice.percent(10),
        stream: alone && dice.percent(15),
    }
}

fn faults(dice: &mut Dice) -> Vec<(Duration, Action)> {
    let mut actions = Vec::new();
    for _ in 0..=dice.below(3) {
        let at = Duration::from_millis(100 + dice.below(ROUND_MS - 500));
        let down = Duration::from_millis(dice.below(900));
        // Mostly short, since a round is; at most 6 s.
        let mut while_ = Duration::from_millis(1_000 + dice.below(2_000));
        if dice.percent(12) {
            while_ *= 2;
        }
        let worker = dice.below(WORKERS as u64) as usize;
        match dice.below(100) {
            0..=27 => actions.extend([(at, Action::KillMaster), (at + down, Action::StartMaster)]),
            28..=42 => actions.extend([(at, Action::KillWorker(worker)), (at + down, Action::StartWorker(worker))]),
            43..=52 => {
                for worker in 0..WORKERS {
                    actions.extend([(at, Action::KillWorker(worker)), (at + down, Action::StartWorker(worker))]);
                }
            }
            53..=64 => {
                actions.extend([(at, Action::KillMaster), (at + down, Action::StartMaster)]);
                for worker in 0..WORKERS {
                    let down = Duration::from_millis(dice.below(900));
                    actions.extend([(at, Action::KillWorker(worker)), (at + down, Action::StartWorker(worker))]);
                }
            }
            65..=72 => actions.extend([(at, Action::StopMaster), (at + while_, Action::ContinueMaster)]),
            73..=82 => {
                actions.extend([(at, Action::StopWorker(worker)), (at + while_, Action::ContinueWorker(worker))]);
            }
            83..=91 => {
                for worker in 0..WORKERS {
                    actions.extend([(at, Action::Cut(worker)), (at + while_, Action::Mend(worker))]);
                }
            }
            _ => actions.extend([(at, Action::Cut(worker)), (at + while_, Action::Mend(worker))]),
        }
    }
    actions
}
