//! The cluster's pulse: what it is like, looked at twice a second at most, for all who watch.
//!
//! One task looks, as long as somebody watches, and everybody gets the same bytes: a watcher costs a write of what is
//! there already, and of an idle cluster not even that. The more there are, the rarer the looks, so that the writes of
//! all of them have a bound. The task is nobody's child: where it ends early, the next watcher starts it again.

use bytes::Bytes;
use quipu_shared::access::Namespace;
use quipu_shared::detail::{ClusterView, RunningJob};
use quipu_shared::ids::JobId;
use quipu_shared::service::JobService;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Between two looks.
const PERIOD: Duration = Duration::from_millis(500);
/// Between two looks for each watcher: a thousand of them get a thousand writes a second between them.
const PERIOD_PER_WATCHER: Duration = Duration::from_millis(1);
/// Steps in which the memory of hosts is told.
const MEMORY_STEP_BYTES: u64 = 512 << 20;
/// Rates are those of about so many last seconds.
const RATE_SECONDS: f64 = 3.0;

/// What one look saw, as one sort of caller may see it.
#[derive(Debug)]
pub(crate) struct Beat {
    /// The cluster.
    pub(crate) view: ClusterView,
    number: u64,
    json: OnceLock<Bytes>,
    page: OnceLock<Bytes>,
}

impl Beat {
    /// As an event of `GET /v1/events`; written once for all.
    pub(crate) fn json(&self) -> Bytes {
        self.json
            .get_or_init(|| match serde_json::to_string(&self.view) {
                Ok(json) => event(self.number, &json),
                Err(error) => {
                    tracing::error!(error = %error, "write the cluster's state");
                    Bytes::new()
                }
            })
            .clone()
    }

    /// As an event of another form, of which there is one; written once for all.
    pub(crate) fn page(&self, write: impl FnOnce(&ClusterView) -> String) -> Bytes {
        self.page.get_or_init(|| event(self.number, &write(&self.view))).clone()
    }
}

/// A server-sent event. The data has no line ends, as JSON has none.
pub(crate) fn event(number: u64, data: &str) -> Bytes {
    Bytes::from(format!("id: {number}\ndata: {data}\n\n"))
}

/// Who may see what: everything, or one namespace.
type Scope = Option<Namespace>;
type Beats = watch::Sender<Option<Arc<Beat>>>;

/// Looks at the cluster for all who watch.
pub(crate) struct Pulse {
    service: Arc<dyn JobService>,
    stop: CancellationToken,
    watched: Mutex<Watched>,
}

#[derive(Default)]
struct Watched {
    scopes: BTreeMap<Scope, Beats>,
    /// Whether the task runs.
    beating: bool,
}

impl Pulse {
    /// Nobody watches yet.
    pub(crate) fn new(service: Arc<dyn JobService>, stop: CancellationToken) -> Arc<Self> {
        Arc::new(Self { service, stop, watched: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The cluster now and at each change, as far as this scope sees it.
    pub(crate) fn watch(self: &Arc<Self>, scope: Scope) -> watch::Receiver<Option<Arc<Beat>>> {
        let mut watched = self.lock();
        let beats = watched.scopes.entry(scope).or_insert_with(|| watch::channel(None).0);
        let mut receiver = beats.subscribe();
        // What is there already counts as news.
        receiver.mark_changed();
        if !std::mem::replace(&mut watched.beating, true) {
            tokio::spawn(Arc::clone(self).beat());
        }
        receiver
    }

    /// The scopes that somebody watches, and how many do.
    fn watchers(&self) -> (Vec<Scope>, usize) {
        let mut watched = self.lock();
        watched.scopes.retain(|_, beats| beats.receiver_count() > 0);
        let count = watched.scopes.values().map(watch::Sender::receiver_count).sum();
        if count == 0 {
            watched.beating = false;
        }
        (watched.scopes.keys().cloned().collect(), count)
    }

    async fn beat(self: Arc<Self>) {
        let (mut number, mut rates) = (0, Rates::default());
        let mut beating = Beating { pulse: &self, has_ended: false };
        loop {
            let (scopes, count) = self.watchers();
            if count == 0 {
                beating.has_ended = true;
                return;
            }
            match self.service.cluster().await {
                Ok(mut view) => {
                    rates.fill(&mut view, Instant::now());
                    coarsen(&mut view);
                    for scope in &scopes {
                        number += 1;
                        self.tell(scope, number, seen(&view, scope));
                    }
                }
                Err(error) => tracing::debug!(error = %error, "look at the cluster for those who watch"),
            }
            let pause = PERIOD.max(PERIOD_PER_WATCHER.saturating_mul(u32::try_from(count).unwrap_or(u32::MAX)));
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.stop.cancelled() => return,
            }
        }
    }

    /// Tells those of one scope, where there is something new.
    fn tell(&self, scope: &Scope, number: u64, view: ClusterView) {
        let watched = self.lock();
        let Some(beats) = watched.scopes.get(scope) else { return };
        beats.send_if_modified(|last| {
            let news = last.as_ref().is_none_or(|last| last.view != view);
            if news {
                *last = Some(Arc::new(Beat { view, number, json: OnceLock::new(), page: OnceLock::new() }));
            }
            news
        });
    }
}

/// The task while it runs. One that panics is noticed, so that the next watcher starts another.
struct Beating<'a> {
    pulse: &'a Pulse,
    /// Whether it has ended by itself, and somebody may have started another since.
    has_ended: bool,
}

impl Drop for Beating<'_> {
    fn drop(&mut self) {
        if !self.has_ended {
            self.pulse.lock().beating = false;
        }
    }
}

/// What a scope sees of the cluster: all nodes, and the jobs of its namespace.
pub(crate) fn seen(view: &ClusterView, scope: &Scope) -> ClusterView {
    let Some(namespace) = scope else { return view.clone() };
    let jobs: Vec<RunningJob> = view.jobs.iter().filter(|job| job.view.namespace == *namespace).cloned().collect();
    let count = jobs.len() as u64;
    // How many jobs others have is their business.
    ClusterView { jobs_running: count, jobs_pending: count, jobs, ..view.clone() }
}

/// Memory of hosts in large steps: it changes all the time, and an idle cluster should be still.
fn coarsen(view: &mut ClusterView) {
    for node in &mut view.nodes {
        node.memory_available_bytes = node.memory_available_bytes.map(|bytes| bytes - bytes % MEMORY_STEP_BYTES);
    }
}

/// How fast jobs are, measured between looks.
#[derive(Default)]
struct Rates(BTreeMap<JobId, Rate>);

struct Rate {
    at: Instant,
    rows: u64,
    rows_per_s: f64,
}

impl Rates {
    /// Replaces the rates since acceptance by those of the last seconds, once two looks can tell.
    fn fill(&mut self, view: &mut ClusterView, now: Instant) {
        let mut next = BTreeMap::new();
        for job in &mut view.jobs {
            let rows = job.view.rows_done;
            let rows_per_s = match self.0.remove(&job.view.id) {
                Some(before) => before.next(rows, now),
                None => job.rows_per_s,
            };
            job.rows_per_s = rows_per_s;
            next.insert(job.view.id, Rate { at: now, rows, rows_per_s });
        }
        self.0 = next;
    }
}

impl Rate {
    /// The rate with a further measurement, which counts for as much as its time is of [`RATE_SECONDS`].
    fn next(&self, rows: u64, now: Instant) -> f64 {
        let seconds = now.duration_since(self.at).as_secs_f64();
        let weight = 1.0 - (-seconds / RATE_SECONDS).exp();
        let measured = rows.saturating_sub(self.rows) as f64 / seconds.max(1e-3);
        self.rows_per_s + weight * (measured - self.rows_per_s)
    }
}

#[cfg(test)]
mod tests {
    use super::{Pulse, Rate};
    use crate::http::tests::fake::Fake;
    use std::sync::Arc;
    use std::sync::atomic::Ordering;
    use std::time::{Duration, Instant};
    use tokio_util::sync::CancellationToken;

    #[tokio::test(start_paused = true)]
    async fn nobody_looks_when_nobody_watches() {
        let fake = Arc::new(Fake::default());
        let looks = || fake.looks.load(Ordering::Relaxed);
        let pulse = Pulse::new(fake.clone(), CancellationToken::new());
        let second = Duration::from_secs(1);
        let watchers = (pulse.watch(None), pulse.watch(None));
        while looks() < 2 {
            tokio::time::advance(second).await;
        }
        drop(watchers);
        // The task holds the pulse for as long as it runs.
        while Arc::strong_count(&pulse) > 1 {
            tokio::time::advance(second).await;
        }
        let before = looks();
        let _again = pulse.watch(None);
        while looks() == before {
            tokio::time::advance(second).await;
        }
    }

    #[test]
    fn rate_follows_what_is_measured() {
        let begun = Instant::now();
        let mut rate = Rate { at: begun, rows: 0, rows_per_s: 0.0 };
        for look in 1..=40 {
            let (at, rows) = (begun + Duration::from_millis(500 * look), 1_000 * look);
            rate = Rate { at, rows, rows_per_s: rate.next(rows, at) };
        }
        assert!((rate.rows_per_s - 2_000.0).abs() < 20.0, "{}", rate.rows_per_s);
        let still = rate.next(rate.rows, rate.at + Duration::from_secs(60));
        assert!(still < 1.0, "{still}");
    }
}
