//! Clients: lanes that submit what was planned, and observers that look at what became of it. Everything that they see
//! is written down; nothing is judged here.

use super::catalogue::Catalogue;
use super::events::{Event, FailedRows, Moment, Recorder, Sight};
use super::http::{Answer, Client};
use super::plan::{JobPlan, Submission};
use quipu::spec::{Dependency, DependencyEnd, JobSpec, QueueOptions};
use quipu_shared::api::{BATCH_PATH, IDEMPOTENCY_KEY_HEADER, JOBS_PATH, JobPage, NDJSON_MEDIA_TYPE, UPLOADS_PATH};
use quipu_shared::ids::JobId;
use quipu_shared::service::{JobState, JobView};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// Ten times what any fault of a plan lasts.
pub const PATIENCE: Duration = Duration::from_secs(90);
/// Pause before a request is sent again.
const RETRY_PAUSE: Duration = Duration::from_millis(50);
/// Pause of an observer between two rounds of looks.
const LOOK_PAUSE: Duration = Duration::from_millis(40);
/// Jobs that an observer looks at before it looks for newer ones.
const LOOKS: usize = 40;

/// What all clients share.
pub struct Clients<'a> {
    /// Where the master is.
    pub http: SocketAddr,
    /// What clients show.
    pub token: &'a str,
    /// The jobs.
    pub catalogue: &'a Catalogue,
    /// Where events go.
    pub recorder: &'a Recorder,
    /// Acknowledged jobs that nobody has seen the end of.
    open: Mutex<BTreeSet<u64>>,
    /// Number by key.
    ids: Mutex<BTreeMap<String, u64>>,
    /// Set when observers are to end.
    stop: AtomicBool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits for a moment of the plan.
pub fn wait_until(moment: Instant) {
    while let Some(left) = moment.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        std::thread::park_timeout(left);
    }
}

impl<'a> Clients<'a> {
    /// Clients of a master.
    pub fn new(http: SocketAddr, token: &'a str, catalogue: &'a Catalogue, recorder: &'a Recorder) -> Self {
        let (open, ids, stop) = Default::default();
        Self { http, token, catalogue, recorder, open, ids, stop }
    }

    /// A connection.
    pub fn client(&self) -> Client {
        Client::new(self.http, self.token)
    }

    /// Tells observers to end.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Jobs whose end nobody has seen.
    pub fn open(&self) -> BTreeSet<u64> {
        lock(&self.open).clone()
    }

    /// Number of every acknowledged job.
    pub fn ids(&self) -> Vec<u64> {
        lock(&self.ids).values().copied().collect()
    }

    fn odd(&self, what: String) {
        eprintln!("odd: {what}");
        self.recorder.record(Event::Odd { what });
    }

    /// Asks again and again until there is an answer that is one; nothing if there is none for a long time.
    pub fn insist(
        &self,
        client: &mut Client,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Option<Answer> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match client.ask(method, path, headers, body) {
                Ok(answer) if !answer.is_busy() => return Some(answer),
                _ if Instant::now() > deadline => {
                    self.odd(format!("{method} {path} was not answered for {PATIENCE:?}"));
                    return None;
                }
                _ => std::thread::park_timeout(RETRY_PAUSE),
            }
        }
    }

    /// Uploads the table, and gives its digest.
    pub fn upload(http: SocketAddr, token: &str, table: &[u8]) -> String {
        let mut client = Client::new(http, token);
        let headers = [("content-type", "application/octet-stream")];
        let answer = client.ask("PUT", UPLOADS_PATH, &headers, table).expect("an answer");
        answer.json()["digest"].as_str().unwrap_or_else(|| panic!("{answer:?}")).to_owned()
    }

    /// Submits what was planned for one lane of a round, when it was planned.
    pub fn submit_all(&self, begun: Instant, submissions: &[Submission]) {
        let mut client = self.client();
        let mut repeats = Vec::new();
        for submission in submissions {
            wait_until(begun + submission.at);
            let specs: Vec<Value> = submission.jobs.iter().map(|plan| self.spec(plan)).collect();
            for plan in &submission.jobs {
                self.recorder.record(Event::Submitted { key: plan.key.clone() });
            }
            match (&submission.jobs[..], &specs[..]) {
                ([plan], [spec]) => {
                    if let Some(id) = self.submit(&mut client, &plan.key, spec) {
                        self.go_on(&mut client, plan, id);
                    }
                }
                (plans, specs) => self.submit_batch(&mut client, plans, specs),
            }
            repeats.extend(submission.jobs.iter().zip(specs).filter(|(plan, _)| plan.again));
        }
        // The same keys once more, after whatever has happened since.
        for (plan, spec) in repeats {
            self.submit(&mut client, &plan.key, &spec);
        }
    }

    /// A job as it is sent; the same at each try.
    fn spec(&self, plan: &JobPlan) -> Value {
        let known = self.catalogue.job(plan);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a clock");
        let after = plan.after.iter().filter_map(|(key, success)| {
            let on = if *success { DependencyEnd::Success } else { DependencyEnd::Any };
            Some(Dependency { job: JobId(*lock(&self.ids).get(key)?), on })
        });
        let queue = QueueOptions {
            namespace: Default::default(),
            labels: BTreeMap::new(),
            priority: plan.priority,
            after: after.collect(),
            not_before_ms: plan.delay.map(|delay| (now + delay).as_millis() as u64),
            retries: plan.retries,
            retention_ms: None,
        };
        let spec = JobSpec { name: Some(plan.key.clone()), queue, ..known.spec.clone() };
        serde_json::to_value(spec).expect("JSON")
    }

    fn submit(&self, client: &mut Client, key: &str, spec: &Value) -> Option<u64> {
        let asked = self.recorder.now();
        let headers = [("content-type", "application/json"), (IDEMPOTENCY_KEY_HEADER, key)];
        let answer = self.insist(client, "POST", JOBS_PATH, &headers, spec.to_string().as_bytes())?;
        match (answer.status, serde_json::from_slice::<JobView>(&answer.body)) {
            (202, Ok(view)) => {
                self.acknowledged(key, view.id.0);
                self.seen(asked, &view);
                Some(view.id.0)
            }
            _ => {
                self.odd(format!("{key} was answered {} {}", answer.status, String::from_utf8_lossy(&answer.body)));
                None
            }
        }
    }

    fn submit_batch(&self, client: &mut Client, plans: &[JobPlan], specs: &[Value]) {
        let lines = plans
            .iter()
            .zip(specs)
            .map(|(plan, spec)| json!({"spec": spec, "idempotency_key": plan.key}).to_string() + "\n");
        let body: String = lines.collect();
        let headers = [("content-type", NDJSON_MEDIA_TYPE)];
        let Some(answer) = self.insist(client, "POST", BATCH_PATH, &headers, body.as_bytes()) else { return };
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        if answer.status != 202 || text.lines().count() != plans.len() {
            return self.odd(format!("a batch of {} was answered {} {text}", plans.len(), answer.status));
        }
        for ((plan, spec), line) in plans.iter().zip(specs).zip(text.lines()) {
            let line: Value = serde_json::from_str(line).unwrap_or_default();
            match line["job"].as_u64() {
                Some(id) => self.acknowledged(&plan.key, id),
                // Whatever the batch did not take is taken alone, or is told of there.
                None => {
                    self.submit(client, &plan.key, spec);
                }
            }
        }
    }

    fn acknowledged(&self, key: &str, id: u64) {
        self.recorder.record(Event::Acknowledged { key: key.to_owned(), id });
        if lock(&self.ids).insert(key.to_owned(), id).is_none() {
            lock(&self.open).insert(id);
        }
    }

    /// What a lane does about a job beyond submitting it.
    fn go_on(&self, client: &mut Client, plan: &JobPlan, id: u64) {
        if plan.stream {
            // Broken off or refused it is asked for again by an observer.
            self.try_result(client, id);
        }
        if let Some(after) = plan.cancel_after {
            wait_until(Instant::now() + after);
            let asked = self.recorder.now();
            let answer = self.insist(client, "POST", &format!("{JOBS_PATH}/{id}:cancel"), &[], b"");
            match answer {
                Some(answer) if answer.status == 202 => {
                    if let Ok(view) = serde_json::from_slice(&answer.body) {
                        self.seen(asked, &view);
                    }
                }
                Some(answer) => self.odd(format!("cancelling {id} was answered {answer:?}")),
                None => {}
            }
        }
    }

    fn seen(&self, asked: Moment, view: &JobView) {
        let sight = Sight {
            key: view.name.clone().unwrap_or_default(),
            state: view.state,
            code: view.error.as_ref().map(|error| error.code.clone()),
            failed: FailedRows::of(view),
        };
        self.recorder.record(Event::Seen { asked, id: view.id.0, sight });
    }

    /// Looks at a job; its state, if there was an answer.
    fn look(&self, client: &mut Client, id: u64) -> Option<JobState> {
        let asked = self.recorder.now();
        let answer = client.get(&format!("{JOBS_PATH}/{id}")).ok().filter(|answer| !answer.is_busy())?;
        match (answer.status, serde_json::from_slice::<JobView>(&answer.body)) {
            (200, Ok(view)) if view.id.0 == id => {
                self.seen(asked, &view);
                Some(view.state)
            }
            (404, _) => {
                self.recorder.record(Event::Missing { asked, id });
                None
            }
            _ => {
                self.odd(format!("job {id} was answered {} {}", answer.status, String::from_utf8_lossy(&answer.body)));
                None
            }
        }
    }

    /// Reads a whole result, if there is one. The answer otherwise.
    fn try_result(&self, client: &mut Client, id: u64) -> Option<Answer> {
        let answer = client.get(&format!("{JOBS_PATH}/{id}/results")).ok()?;
        if answer.status == 200 {
            self.recorder.record_result(id, &answer.body);
        }
        Some(answer)
    }

    /// Reads the result of a job that has succeeded; false if that was to be tried again.
    pub fn read_result(&self, client: &mut Client, id: u64) -> bool {
        match self.try_result(client, id) {
            None => false,
            Some(answer) if answer.status == 200 => true,
            Some(answer) if answer.is_busy() => false,
            Some(answer) => {
                self.odd(format!("job {id} succeeded, and its result is {} {}", answer.status, answer.code()));
                true
            }
        }
    }

    /// Looks at open jobs until it is told to end; reads the result of each that has succeeded.
    pub fn observe(&self, number: usize) {
        let mut client = self.client();
        let mut round = number;
        while !self.stop.load(Ordering::Relaxed) {
            let open: Vec<u64> = self.open().into_iter().collect();
            // Observers begin in different places.
            let from = if open.is_empty() { 0 } else { round * LOOKS % open.len() };
            round += 1;
            for &id in open.iter().cycle().skip(from).take(LOOKS.min(open.len())) {
                let closed = match self.look(&mut client, id) {
                    Some(JobState::Succeeded) => self.read_result(&mut client, id),
                    Some(state) => state.is_final(),
                    None => false,
                };
                if closed {
                    lock(&self.open).remove(&id);
                }
            }
            std::thread::park_timeout(LOOK_PAUSE);
        }
    }

    /// Lists all jobs, page by page, and gives those that there are; nothing if the master did not answer.
    pub fn list(&self) -> Option<BTreeMap<u64, JobState>> {
        let mut client = self.client();
        let mut states = BTreeMap::new();
        let asked = self.recorder.now();
        let mut after = String::new();
        loop {
            let page_asked = self.recorder.now();
            let answer = self.insist(&mut client, "GET", &format!("{JOBS_PATH}?limit=1000{after}"), &[], b"")?;
            let Ok(page) = serde_json::from_slice::<JobPage>(&answer.body) else {
                self.odd(format!("the list of jobs was answered {}", answer.status));
                return None;
            };
            for view in &page.jobs {
                self.seen(page_asked, view);
                states.insert(view.id.0, view.state);
            }
            match page.next {
                Some(next) => after = format!("&after={next}"),
                None => break,
            }
        }
        self.recorder.record(Event::Listed { asked, ids: states.keys().copied().collect() });
        Some(states)
    }
}
