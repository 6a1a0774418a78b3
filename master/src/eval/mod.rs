//! Formulas that are answered at once: no job, no log, no scheduler, no worker.
//!
//! ```text
//! request -> [EvalEngine::evaluate] -- cheap --> evaluated where it stands, on the caller's thread
//!                    |
//!                    +---------------- dear ---> queue (bounded, else 429) -> pool of own threads -> answer
//! ```
//! A job costs a write to the disk and a round trip to a worker: milliseconds, where most formulas take a microsecond. A
//! formula that can't cost more than the hop to another thread is not worth the hop; what may cost more never holds up the
//! threads that serve everybody else. [`cache`] keeps parsed formulas, and values for those who ask; [`pool`] has the
//! threads. Guards, limits and the bits of values are those of jobs: both go through [`quipu_shared::formula`].

mod cache;
mod pool;
#[cfg(test)]
mod tests;

use cache::{Caches, FormulaKey, ValueKey};
use pool::Pool;
use quipu_shared::eval::{CheckAnswer, CheckRequest, EvalRequest, EvalSubject, Outcome, VARIABLES_MAX};
use quipu_shared::formula::{Evaluator, Formula, FormulaError, FormulaLimits, Symbols};
use quipu_shared::render::EvalFailure;
use quipu_shared::service::{ErrorKind, Place, ServiceError};
use quipu_shared::spec::{Scalar, SymbolPolicy};
use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Evaluations of a request that may be done on the caller's thread.
const INLINE_EVALUATIONS_MAX: usize = 16;
/// Bytes of formulas that are parsed there: 40 ns a byte at worst, and a stack of 4 KiB a byte.
const INLINE_PARSED_BYTES_MAX: usize = 256;
/// Variables there: what is nearest to an unknown name costs a look at each.
const INLINE_VARIABLES_MAX: usize = 32;
/// How long past its deadline an evaluation is waited for: one can't be interrupted, and at the default limits the
/// slowest takes 35 ms.
const GRACE: Duration = Duration::from_millis(500);
/// Seconds after which to try again when the queue is full.
const BUSY_RETRY_AFTER_S: u64 = 1;

/// A formula, or why it is none.
type Parsed = Result<Formula, FormulaError>;

/// What an engine takes on.
#[derive(Clone, Debug)]
pub struct EvalConfig {
    /// On each formula.
    pub formula: FormulaLimits,
    /// Evaluations of one request.
    pub batch_max: usize,
    /// Bytes of parsed formulas that are kept, and as many of values.
    pub cache_bytes_max: u64,
    /// Threads for what is not evaluated where it stands; 0 is half the cores, as the master has other things to do.
    pub threads: usize,
    /// Requests that wait for such a thread.
    pub queue_max: usize,
    /// How long a request may take, with its time in the queue.
    pub deadline: Duration,
    /// What a request may cost by estimate to be evaluated where it stands; 0 sends all to the pool.
    pub inline_cost_ns_max: f64,
}

impl Default for EvalConfig {
    fn default() -> Self {
        Self {
            formula: FormulaLimits::default(),
            batch_max: 1_000,
            cache_bytes_max: 32 << 20,
            threads: 0,
            queue_max: 256,
            deadline: Duration::from_secs(2),
            inline_cost_ns_max: 20_000.0,
        }
    }
}

/// What an engine has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EvalStats {
    /// Formulas evaluated, those whose value was kept included.
    pub evaluations: u64,
    /// Those that have no value.
    pub failed: u64,
    /// Requests that were evaluated where they stood.
    pub inline: u64,
    /// Requests that went to the pool.
    pub pooled: u64,
    /// Requests that found the queue full, or their deadline passed when their turn came.
    pub refused: u64,
    /// Parsed formulas that were found.
    pub formula_hits: u64,
    /// Formulas that had to be parsed.
    pub formula_misses: u64,
    /// Values that were found, of requests that asked for it.
    pub value_hits: u64,
    /// Values that had to be computed, of such requests.
    pub value_misses: u64,
}

#[derive(Debug, Default)]
struct Counters {
    evaluations: AtomicU64,
    failed: AtomicU64,
    inline: AtomicU64,
    pooled: AtomicU64,
    refused: AtomicU64,
    formula_hits: AtomicU64,
    formula_misses: AtomicU64,
    value_hits: AtomicU64,
    value_misses: AtomicU64,
}

fn add(counter: &AtomicU64, n: usize) {
    counter.fetch_add(n as u64, Ordering::Relaxed);
}

/// Evaluates formulas at once. One a master; HTTP and gRPC share it.
pub struct EvalEngine {
    config: EvalConfig,
    caches: Caches,
    pool: Pool,
    counters: Counters,
}

impl std::fmt::Debug for EvalEngine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EvalEngine").field("config", &self.config).finish_non_exhaustive()
    }
}

impl EvalEngine {
    /// An engine whose threads start when they are needed, and end with it.
    pub fn new(config: EvalConfig) -> Arc<Self> {
        let config = EvalConfig { formula: config.formula.effective(), ..config };
        let threads = match config.threads {
            0 => std::thread::available_parallelism().map_or(1, |cores| cores.get().div_ceil(2)),
            threads => threads,
        };
        Arc::new(Self {
            caches: Caches::new(config.cache_bytes_max),
            pool: Pool::new(threads, config.queue_max),
            counters: Counters::default(),
            config,
        })
    }

    /// Evaluates a request; the outcomes are in its order. A formula without a value is an outcome, too.
    ///
    /// # Errors
    /// [`ErrorKind::TooLarge`] for more evaluations or variables than allowed, [`ErrorKind::Busy`] where the queue is full
    /// or the deadline has passed before its turn came, [`ErrorKind::Deadline`] where one formula alone outlasts it.
    pub async fn evaluate(self: &Arc<Self>, request: EvalRequest) -> Result<Vec<Outcome>, ServiceError> {
        let deadline = Instant::now() + self.config.deadline;
        self.admit(&request)?;
        let outcomes = match self.evaluate_inline(&request) {
            Some(outcomes) => outcomes,
            None => {
                let work = move |engine: &Self, gone: &dyn Fn() -> bool| {
                    let mut outcomes = Vec::with_capacity(request.evaluations());
                    engine.run(&request, None, &mut outcomes, &|| gone() || Instant::now() >= deadline);
                    outcomes
                };
                self.in_pool(deadline, work).await?
            }
        };
        add(&self.counters.evaluations, outcomes.len());
        add(&self.counters.failed, outcomes.iter().filter(|outcome| outcome.is_err()).count());
        Ok(outcomes)
    }

    /// Looks at a formula without evaluating it.
    ///
    /// # Errors
    /// As [`Self::evaluate`].
    pub async fn check(self: &Arc<Self>, request: CheckRequest) -> Result<CheckAnswer, ServiceError> {
        let deadline = Instant::now() + self.config.deadline;
        // The typed form's cost is not known before it is made.
        self.in_pool(deadline, move |engine, _| CheckAnswer::of(&request, &engine.config.formula)).await
    }

    /// What it has done so far.
    pub fn stats(&self) -> EvalStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let Counters {
            evaluations,
            failed,
            inline,
            pooled,
            refused,
            formula_hits,
            formula_misses,
            value_hits,
            value_misses,
        } = &self.counters;
        EvalStats {
            evaluations: read(evaluations),
            failed: read(failed),
            inline: read(inline),
            pooled: read(pooled),
            refused: read(refused),
            formula_hits: read(formula_hits),
            formula_misses: read(formula_misses),
            value_hits: read(value_hits),
            value_misses: read(value_misses),
        }
    }

    /// What it takes on.
    pub fn config(&self) -> &EvalConfig {
        &self.config
    }

    fn admit(&self, request: &EvalRequest) -> Result<(), ServiceError> {
        let (count, max) = (request.evaluations(), self.config.batch_max);
        if count > max {
            let message = format!("{count} evaluations are more than {max} (limits.eval_batch_max); split them");
            return Err(error(ErrorKind::TooLarge, "batch_too_large", message));
        }
        let own = match &request.subject {
            EvalSubject::One(_) => 0,
            EvalSubject::Rows(_, columns) => columns.len(),
            EvalSubject::Many(evaluations) => evaluations.iter().map(|one| one.variables.0.len()).max().unwrap_or(0),
        };
        if own + request.variables.0.len() > VARIABLES_MAX {
            let message = format!("an evaluation has more than {VARIABLES_MAX} variables");
            return Err(error(ErrorKind::TooLarge, "too_many_variables", message));
        }
        Ok(())
    }

    /// The outcomes, where they can't cost more than the hop to the pool.
    fn evaluate_inline(&self, request: &EvalRequest) -> Option<Vec<Outcome>> {
        let parsed = self.cheap_formulas(request)?;
        let mut outcomes = Vec::with_capacity(request.evaluations());
        self.run(request, Some(parsed), &mut outcomes, &|| false);
        add(&self.counters.inline, 1);
        Some(outcomes)
    }

    /// The formulas of a request in their order, if it costs little by what is known before it is evaluated.
    fn cheap_formulas(&self, request: &EvalRequest) -> Option<Vec<Parsed>> {
        let few = request.evaluations() <= INLINE_EVALUATIONS_MAX;
        if self.config.inline_cost_ns_max <= 0.0 || !few || !all_scalars(&request.variables.0) {
            return None;
        }
        let (mut unparsed_bytes, mut cost_ns) = (0, 0.0);
        let mut price = |text: &str, names: Names<'_>, evaluations: usize| {
            if names.len() > INLINE_VARIABLES_MAX {
                return None;
            }
            let key = FormulaKey::new(text, names, &request.symbols);
            let formula = match self.known(&key) {
                Some(formula) => formula,
                None => {
                    unparsed_bytes += text.len();
                    if unparsed_bytes > INLINE_PARSED_BYTES_MAX {
                        return None;
                    }
                    match self.parse(text, names, &request.symbols, key) {
                        Ok(formula) => formula,
                        // A refusal costs no more.
                        Err(refused) => return Some(Err(refused)),
                    }
                }
            };
            cost_ns += formula.tree_cost_ns() * evaluations as f64;
            (formula.is_scalar() && cost_ns <= self.config.inline_cost_ns_max).then_some(Ok(formula))
        };
        let shared = &*request.variables.0;
        match &request.subject {
            EvalSubject::One(text) => Some(vec![price(text, Names::of(shared, &[]), 1)?]),
            EvalSubject::Rows(text, columns) => {
                if !columns.iter().all(|(_, values)| values.iter().all(is_scalar)) {
                    return None;
                }
                Some(vec![price(text, Names { shared, own: &[], columns }, request.evaluations())?])
            }
            EvalSubject::Many(evaluations) => evaluations
                .iter()
                .map(|one| {
                    let own = &*one.variables.0;
                    all_scalars(own).then(|| price(&one.formula, Names::of(shared, own), 1))?
                })
                .collect(),
        }
    }

    /// Evaluates a request to its end, or until `over`: what is left then has its own failure. `parsed` has its formulas
    /// in their order, where they were looked at before.
    fn run(
        &self,
        request: &EvalRequest,
        parsed: Option<Vec<Parsed>>,
        outcomes: &mut Vec<Outcome>,
        over: &dyn Fn() -> bool,
    ) {
        let shared = &*request.variables.0;
        let mut parsed = parsed.into_iter().flatten();
        match &request.subject {
            EvalSubject::One(text) => {
                outcomes.push(self.one(text, parsed.next(), shared, Names::of(shared, &[]), request));
            }
            EvalSubject::Many(evaluations) => {
                for one in evaluations {
                    let own = &*one.variables.0;
                    let variables = match (shared.is_empty(), own.is_empty()) {
                        (true, _) => Cow::Borrowed(own),
                        (_, true) => Cow::Borrowed(shared),
                        // Of one name the last counts.
                        _ => Cow::Owned([shared, own].concat()),
                    };
                    let parsed = parsed.next();
                    let outcome = match over() {
                        true => Err(too_late()),
                        false => self.one(&one.formula, parsed, &variables, Names::of(shared, own), request),
                    };
                    outcomes.push(outcome);
                }
            }
            EvalSubject::Rows(text, columns) => {
                let mut variables = shared.to_vec();
                variables.extend(columns.iter().map(|(name, _)| (name.clone(), Scalar::Empty)));
                let names = Names { shared, own: &[], columns };
                let formula = parsed.next().unwrap_or_else(|| self.formula(text, names, &request.symbols));
                for row in 0..request.evaluations() {
                    if over() {
                        outcomes.push(Err(too_late()));
                        continue;
                    }
                    for ((_, value), (_, values)) in variables[shared.len()..].iter_mut().zip(columns) {
                        value.clone_from(&values[row]);
                    }
                    outcomes.push(self.one(text, Some(formula.clone()), &variables, names, request));
                }
            }
        }
    }

    /// Evaluates one formula, or finds its value.
    fn one(
        &self,
        text: &str,
        parsed: Option<Parsed>,
        variables: &[(String, Scalar)],
        names: Names<'_>,
        request: &EvalRequest,
    ) -> Outcome {
        let key = request.cache.then(|| ValueKey::new(text, variables, &request.symbols));
        if let Some(key) = &key {
            if let Some(outcome) = self.caches.values.get(key) {
                add(&self.counters.value_hits, 1);
                return (*outcome).clone();
            }
            add(&self.counters.value_misses, 1);
        }
        let outcome = parsed
            .unwrap_or_else(|| self.formula(text, names, &request.symbols))
            .and_then(|formula| Evaluator::new(&formula, &[], variables, &self.config.formula).evaluate_once())
            .map_err(|error| EvalFailure::from(&error));
        if let Some(key) = key {
            self.caches.values.insert(key, Arc::new(outcome.clone()));
        }
        outcome
    }

    /// A formula that was parsed before.
    fn known(&self, key: &FormulaKey) -> Option<Formula> {
        let formula = self.caches.formulas.get(key)?;
        add(&self.counters.formula_hits, 1);
        Some(formula)
    }

    /// The formula, parsed and checked.
    fn formula(&self, text: &str, names: Names<'_>, policy: &SymbolPolicy) -> Parsed {
        let key = FormulaKey::new(text, names, policy);
        self.known(&key).map_or_else(|| self.parse(text, names, policy, key), Ok)
    }

    fn parse(&self, text: &str, names: Names<'_>, policy: &SymbolPolicy, key: FormulaKey) -> Parsed {
        add(&self.counters.formula_misses, 1);
        let formula = Formula::parse(text, &self.config.formula)?;
        let variables = names.iter().map(|name| (name.to_owned(), None)).collect();
        formula.check(&Symbols { variables, policy: policy.clone() })?;
        self.caches.formulas.insert(key, formula.clone());
        Ok(formula)
    }

    /// Runs work in the pool. It is told whether anybody still waits for it.
    async fn in_pool<T: Send + 'static>(
        self: &Arc<Self>,
        deadline: Instant,
        work: impl FnOnce(&Self, &dyn Fn() -> bool) -> T + Send + 'static,
    ) -> Result<T, ServiceError> {
        let (reply, answer) = oneshot::channel();
        let engine = Arc::clone(self);
        let task = move || {
            if reply.is_closed() {
                return;
            }
            let done = match Instant::now() < deadline {
                true => Ok(work(&engine, &|| reply.is_closed())),
                false => Err(engine.busy("the formulas ahead of this one took all of its time".into())),
            };
            // Whoever asked may have gone meanwhile.
            let _ = reply.send(done);
        };
        if !self.pool.run(Box::new(task)) {
            let max = self.config.queue_max;
            return Err(self.busy(format!("{max} requests wait for a thread already (limits.eval_queue_max)")));
        }
        add(&self.counters.pooled, 1);
        match tokio::time::timeout_at((deadline + GRACE).into(), answer).await {
            Ok(Ok(done)) => done,
            Ok(Err(_)) => {
                Err(error(ErrorKind::Internal, "panic", "the evaluation hit a defect; the log has more".into()))
            }
            Err(_) => {
                let message =
                    "one formula takes longer than a request may (limits.eval_deadline_ms): submit it as a job";
                Err(error(ErrorKind::Deadline, "deadline_passed", message.into()))
            }
        }
    }

    fn busy(&self, message: String) -> ServiceError {
        add(&self.counters.refused, 1);
        ServiceError { retry_after_s: Some(BUSY_RETRY_AFTER_S), ..error(ErrorKind::Busy, "eval_busy", message) }
    }
}

/// The names that a formula can see, in the order of its variables.
#[derive(Clone, Copy)]
struct Names<'a> {
    shared: &'a [(String, Scalar)],
    own: &'a [(String, Scalar)],
    columns: &'a [(String, Vec<Scalar>)],
}

impl<'a> Names<'a> {
    fn of(shared: &'a [(String, Scalar)], own: &'a [(String, Scalar)]) -> Self {
        Self { shared, own, columns: &[] }
    }

    fn len(&self) -> usize {
        self.shared.len() + self.own.len() + self.columns.len()
    }

    fn iter(&self) -> impl Iterator<Item = &'a str> {
        let bound = self.shared.iter().chain(self.own).map(|(name, _)| name.as_str());
        bound.chain(self.columns.iter().map(|(name, _)| name.as_str()))
    }
}

fn is_scalar(value: &Scalar) -> bool {
    matches!(value, Scalar::Int(_) | Scalar::Float(_) | Scalar::Boolean(_))
}

fn all_scalars(variables: &[(String, Scalar)]) -> bool {
    variables.iter().all(|(_, value)| is_scalar(value))
}

/// Of an evaluation that the request's time was not enough for.
fn too_late() -> EvalFailure {
    EvalFailure {
        code: "deadline_passed".into(),
        message: "the request's time was over before this formula's turn (limits.eval_deadline_ms): split the request"
            .into(),
        line: None,
        column: None,
    }
}

/// A formula's failure as the error of a request for it alone.
pub fn failure_error(formula: &str, failure: EvalFailure) -> ServiceError {
    let kind = if failure.is_refusal() { ErrorKind::Invalid } else { ErrorKind::Evaluation };
    let place = failure.line.zip(failure.column);
    let place = place.map(|(line, column)| Place { formula: formula.to_owned(), line, column });
    ServiceError { place, ..error(kind, &failure.code, failure.message) }
}

fn error(kind: ErrorKind, code: &str, message: String) -> ServiceError {
    ServiceError { kind, code: code.into(), message, place: None, retry_after_s: None }
}
