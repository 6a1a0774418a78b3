//! The client: a cluster somewhere else as a [`JobService`], over its HTTP API.
//!
//! Requests that may be repeated (all but uploads) are, for a few seconds, when the connection is lost: a submit keeps
//! its idempotency key, chosen before the first try, so that no job is made twice. A master that is over a limit is
//! asked again when it said, for as long; but a submit is told at once, and it is for the caller to wait.
//!
//! A master that has answered once is waited for when it is away, since it may be on its way back: for a minute, by
//! [`ClientTimeouts::restart_patience`]. Results and watches then go on where they were. When results break off, the
//! job's view says whether the job failed or only the connection did.

mod batch;
mod failure;
mod requests;
mod results;
mod sse;
#[cfg(test)]
mod tests;
mod traced;
mod watch;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use failure::{FOREIGN_ANSWER, Failure, answered, fault};
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt};
use quipu_shared::access::{IssuedToken, Namespace, NewToken, TokenView};
use quipu_shared::api::{
    CLUSTER_PATH, Explanation, IDEMPOTENCY_KEY_HEADER, JOBS_PATH, JobPage, NODES_PATH, NodeList, PAGE_JOBS_MAX,
    SCHEDULES_PATH, ScheduleList, TOKENS_PATH, TRACEPARENT_HEADER, TokenList, UPLOADS_PATH, VERSION_PATH, VersionView,
    is_traceparent,
};
use quipu_shared::detail::{AttemptList, ClusterView, JobDetail, NodeAttempt, NodeAttemptList, ShardMap};
use quipu_shared::ids::{JobId, NodeId, ScheduleId, TokenId};
use quipu_shared::service::{
    ErrorKind, JobQuery, JobService, JobView, NodeView, ScheduleChange, ScheduleView, ServiceError, SubmitRequest,
    Upload,
};
use quipu_shared::spec::ScheduleSpec;
use quipu_shared::telemetry::TraceParent;
use quipu_shared::trust;
use requests::{chosen, json, list_path};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Method, RequestBuilder, Response, Url};
use serde::de::DeserializeOwned;
use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use zeroize::{Zeroize, Zeroizing};

/// Bytes of a JSON answer at most: a page of a thousand jobs with their row errors is far below.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// How long an idle connection is kept: less than the server does, so that none is used while it closes.
const POOL_IDLE: Duration = Duration::from_secs(10);
/// Probes of a silent connection; after three without an answer it is dead. Streams have no other timeout.
const TCP_KEEPALIVE: Duration = Duration::from_secs(15);
const TCP_KEEPALIVE_RETRIES: u32 = 3;
/// Tries that fail before anybody is told that the master is away: a lost connection alone is none.
const AWAY_TRIES: u32 = 2;

/// Is told that the master is away and waited for, and whether a job goes on meanwhile. May be told many times.
pub type OnAway = Arc<dyn Fn(bool) + Send + Sync>;

/// How to reach a cluster.
pub struct ClientConfig {
    /// `https://host:port`, or `http://` to loopback; a path before `/v1` may follow.
    pub url: String,
    /// The bearer token; wiped once it is in place.
    pub token: Option<String>,
    /// Certificate authorities (PEM) to trust instead of the system's.
    pub ca_pem: Option<Vec<u8>>,
    /// How long to wait, and how often to try.
    pub timeouts: ClientTimeouts,
    /// The namespace of what is submitted and listed, where that does not say so itself.
    pub namespace: Option<Namespace>,
    /// Is told when the master is waited for.
    pub on_away: Option<OnAway>,
    /// The trace that requests belong to which say of none.
    pub trace: Option<TraceParent>,
}

// By hand: the token must not reach a log.
impl fmt::Debug for ClientConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientConfig")
            .field("url", &self.url)
            .field("token", &self.token.as_ref().map(|_| "***"))
            .field("ca_pem", &self.ca_pem.is_some())
            .field("timeouts", &self.timeouts)
            .finish()
    }
}

impl ClientConfig {
    /// A configuration with the system's authorities and the default timeouts.
    pub fn new(url: impl Into<String>, token: Option<String>) -> Self {
        Self {
            url: url.into(),
            token,
            ca_pem: None,
            timeouts: ClientTimeouts::default(),
            namespace: None,
            on_away: None,
            trace: None,
        }
    }
}

/// How long the client waits, and how often it tries.
#[derive(Clone, Debug)]
pub struct ClientTimeouts {
    /// For a connection, TLS included.
    pub connect: Duration,
    /// For a whole answer, or the head of a stream.
    pub request: Duration,
    /// For anything on an event stream; the server sends a comment every 15 s.
    pub event_idle: Duration,
    /// Tries of a request, the first included, and of a lost watch.
    pub tries_max: u32,
    /// Before the second try; doubled before each further one, and spread by half.
    pub backoff: Duration,
    /// No further try once this has passed since the first, whether the connection was lost or the master busy.
    pub retry_within: Duration,
    /// How long to wait for a master that has answered before and is away now, without any news of it.
    pub restart_patience: Duration,
}

impl Default for ClientTimeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            request: Duration::from_secs(60),
            event_idle: Duration::from_secs(45),
            tries_max: 4,
            backoff: Duration::from_millis(100),
            retry_within: Duration::from_secs(20),
            restart_patience: Duration::from_secs(60),
        }
    }
}

/// What a request does when the master has too much to do (429).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Busy {
    /// It waits as it is told to, within [`ClientTimeouts::retry_within`].
    Wait,
    /// It ends: who submits says how long to wait, and may want to know at once.
    Tell,
}

/// A cluster over HTTP. Clones share their connections.
#[derive(Clone)]
pub struct HttpClient {
    http: reqwest::Client,
    /// Ends with a slash.
    base: Url,
    timeouts: ClientTimeouts,
    namespace: Option<Namespace>,
    /// Whether a master has answered.
    reached: Arc<AtomicBool>,
    on_away: Option<OnAway>,
    /// Whether a job is followed, which goes on while the master is waited for.
    following: bool,
    trace: Option<TraceParent>,
}

impl fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpClient").field("base", &self.base.as_str()).finish_non_exhaustive()
    }
}

impl HttpClient {
    /// Prepares a client; nothing is sent yet. Errors are [`ErrorKind::Usage`] and name what is wrong in `config`.
    pub fn new(config: ClientConfig) -> Result<Self, ServiceError> {
        let ClientConfig { url, mut token, ca_pem, timeouts, namespace, on_away, trace } = config;
        let base = parse_url(&url)?;
        let headers = token.as_deref().map(bearer).transpose();
        token.zeroize();
        trust::install_crypto_provider();
        let mut http = reqwest::Client::builder()
            .default_headers(headers?.unwrap_or_default())
            .user_agent(concat!("quipu/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .connect_timeout(timeouts.connect)
            .pool_idle_timeout(POOL_IDLE)
            .tcp_keepalive(TCP_KEEPALIVE)
            .tcp_keepalive_interval(TCP_KEEPALIVE)
            .tcp_keepalive_retries(TCP_KEEPALIVE_RETRIES);
        if is_loopback(&base) {
            http = http.no_proxy();
        }
        http = match ca_pem {
            // Reading the system's authorities takes time, and can fail where there are none.
            _ if base.scheme() == "http" => http.tls_certs_only([]),
            Some(pem) => http.tls_backend_preconfigured(
                trust::identity::http_client_config(&pem)
                    .map_err(|e| fault(ErrorKind::Usage, "bad_ca", e.to_string()))?,
            ),
            None => http,
        };
        let http = http.build().map_err(|error| {
            let message = format!("prepare to call {base}: {}", failure::root_cause(&error));
            fault(ErrorKind::Usage, "bad_client", message)
        })?;
        Ok(Self { http, base, timeouts, namespace, reached: Arc::default(), on_away, following: false, trace })
    }

    /// Where the cluster is.
    pub fn url(&self) -> &str {
        self.base.as_str()
    }

    /// What the master runs.
    pub async fn version(&self) -> Result<VersionView, ServiceError> {
        self.get(VERSION_PATH).await
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let mut url = self.base.clone();
        let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
        url.set_path(&format!("{}{}", self.base.path(), path.trim_start_matches('/')));
        url.set_query(query);
        self.http.request(method, url)
    }

    /// Puts something new into the namespace of this client.
    fn place(&self, namespace: &mut Namespace) {
        if let Some(own) = self.namespace.as_ref().filter(|_| namespace.is_default()) {
            *namespace = own.clone();
        }
    }

    /// The same client for what follows a job.
    fn following(self) -> Self {
        Self { following: true, ..self }
    }

    /// Sends until there is an answer, and gives it if it is a success. `make` is called for each try.
    async fn send(&self, make: impl Fn() -> RequestBuilder, busy: Busy) -> Result<Response, ServiceError> {
        let begun = Instant::now();
        let (mut tries, mut busy_since) = (0, None);
        loop {
            tries += 1;
            let failure = match self.send_once(make()).await {
                Ok(response) => match (answered(&self.base, response).await, busy) {
                    (Err(error), Busy::Wait) if error.kind == ErrorKind::Busy => {
                        let since = *busy_since.get_or_insert_with(Instant::now);
                        let pause = self.pause(&error, since).ok_or(error)?;
                        tokio::time::sleep(pause).await;
                        // There was an answer: the connection is well.
                        tries = 0;
                        continue;
                    }
                    // It stops or starts: it is as good as away.
                    (Err(error), _) if error.kind == ErrorKind::Unreachable => {
                        Failure { may_retry: self.is_reached(), error }
                    }
                    (answer, _) => {
                        let foreign = answer.as_ref().is_err_and(|error| error.code == FOREIGN_ANSWER);
                        self.reached.fetch_or(!foreign, Ordering::Relaxed);
                        return answer;
                    }
                },
                Err(failure) => failure,
            };
            let elapsed = begun.elapsed();
            let waits = self.is_reached() && elapsed < self.timeouts.restart_patience;
            let tries_on = tries < self.timeouts.tries_max && elapsed < self.timeouts.retry_within;
            if !failure.may_retry || !(waits || tries_on) {
                return Err(failure.error);
            }
            if let Some(on_away) = self.on_away.as_ref().filter(|_| waits && tries == AWAY_TRIES) {
                on_away(self.following);
            }
            tracing::debug!(tries, error = %failure.error, "request tried again");
            self.back_off(tries).await;
        }
    }

    /// Waits at most the request timeout for the head of an answer.
    async fn send_once(&self, request: RequestBuilder) -> Result<Response, Failure> {
        match tokio::time::timeout(self.timeouts.request, traced::send(request, self.trace)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(Failure::from_reqwest(&self.base, &error)),
            Err(_) => Err(Failure::timed_out(&self.base, self.timeouts.request)),
        }
    }

    /// How long to wait for a master that has too much to do; none where that would take too long, or where it does not
    /// say that waiting helps.
    fn pause(&self, error: &ServiceError, begun: Instant) -> Option<Duration> {
        if error.code == FOREIGN_ANSWER {
            return None;
        }
        let pause = Duration::from_secs(error.retry_after_s?).max(self.timeouts.backoff);
        // Spread, so that those who were told the same do not come back together.
        let pause = pause.mul_f64(rand::random_range(1.0..1.25));
        (begun.elapsed() + pause < self.timeouts.retry_within).then_some(pause)
    }

    fn is_reached(&self) -> bool {
        self.reached.load(Ordering::Relaxed)
    }

    async fn back_off(&self, tries: u32) {
        let doubled = self.timeouts.backoff.saturating_mul(1 << tries.saturating_sub(1).min(4));
        tokio::time::sleep(doubled.mul_f64(rand::random_range(0.5..1.5))).await;
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ServiceError> {
        self.ask(|| self.request(Method::GET, path), Busy::Wait).await
    }

    /// Sends, and reads the answer's JSON; a connection that is lost meanwhile is an error.
    async fn ask<T: DeserializeOwned>(&self, make: impl Fn() -> RequestBuilder, busy: Busy) -> Result<T, ServiceError> {
        let body = self.ask_bytes(make, busy).await?;
        serde_json::from_slice(&body).map_err(|error| {
            let message = format!("read the answer of {}: {error}; is it a Quipu master of this version?", self.base);
            fault(ErrorKind::Internal, "bad_answer", message)
        })
    }

    /// The same without reading what the answer says.
    async fn ask_bytes(&self, make: impl Fn() -> RequestBuilder, busy: Busy) -> Result<Bytes, ServiceError> {
        let response = self.send(make, busy).await?;
        let read = read_answer(&self.base, response);
        tokio::time::timeout(self.timeouts.request, read)
            .await
            .map_err(|_| Failure::timed_out(&self.base, self.timeouts.request).error)?
    }
}

fn parse_url(text: &str) -> Result<Url, ServiceError> {
    // A URL may hold a password: what does not parse is not repeated.
    let bad =
        |what: &str| fault(ErrorKind::Usage, "bad_url", format!("the cluster's URL {what}; give https://HOST:PORT"));
    let mut url = Url::parse(text).map_err(|error| bad(&format!("does not parse ({error})")))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(bad("has a user name or a password in it; a token is given apart"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(bad("has a query or a fragment"));
    }
    match (url.scheme(), url.host()) {
        ("http" | "https", Some(_)) => {}
        _ => return Err(bad("begins with neither http:// nor https://")),
    }
    if url.scheme() == "http" && !is_loopback(&url) {
        let message = format!("will not send a token to {url} in the clear: use https://");
        return Err(fault(ErrorKind::Usage, "plain_http", message));
    }
    if !url.path().ends_with('/') {
        url.set_path(&format!("{}/", url.path()));
    }
    Ok(url)
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
}

fn bearer(token: &str) -> Result<HeaderMap, ServiceError> {
    let mut line = format!("Bearer {token}");
    let value = HeaderValue::from_str(&line);
    line.zeroize();
    let mut value = value.map_err(|_| fault(ErrorKind::Usage, "bad_token", "the token is not visible ASCII"))?;
    value.set_sensitive(true);
    Ok(HeaderMap::from_iter([(AUTHORIZATION, value)]))
}

async fn read_answer(base: &Url, response: Response) -> Result<Bytes, ServiceError> {
    let mut pieces = response.bytes_stream();
    let mut whole = BytesMut::new();
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|error| Failure::from_reqwest(base, &error).error)?;
        if whole.len() + piece.len() > ANSWER_BYTES_MAX {
            let message = format!("the answer of {base} is larger than {ANSWER_BYTES_MAX} bytes");
            return Err(fault(ErrorKind::Internal, "answer_too_large", message));
        }
        whole.extend_from_slice(&piece);
    }
    Ok(whole.freeze())
}

#[async_trait]
impl JobService for HttpClient {
    async fn submit(&self, request: SubmitRequest) -> Result<JobId, ServiceError> {
        let SubmitRequest { mut spec, traceparent, idempotency_key } = request;
        self.place(&mut spec.queue.namespace);
        let key = chosen(idempotency_key)?;
        let body = json("job's spec", &spec)?;
        let traceparent = traceparent.filter(|text| is_traceparent(text));
        let make = || {
            let request = self.request(Method::POST, JOBS_PATH).header(IDEMPOTENCY_KEY_HEADER, &key);
            let request = request.header(CONTENT_TYPE, "application/json").body(body.clone());
            match &traceparent {
                Some(traceparent) => request.header(TRACEPARENT_HEADER, traceparent),
                None => request,
            }
        };
        Ok(self.ask::<JobView>(make, Busy::Tell).await?.id)
    }

    async fn cancel(&self, job: JobId) -> Result<(), ServiceError> {
        self.send(|| self.request(Method::POST, &format!("{JOBS_PATH}/{job}:cancel")), Busy::Wait).await.map(drop)
    }

    async fn job(&self, job: JobId) -> Result<JobView, ServiceError> {
        self.get(&format!("{JOBS_PATH}/{job}")).await
    }

    async fn jobs(&self, mut query: JobQuery) -> Result<Vec<JobView>, ServiceError> {
        query.namespace = query.namespace.or_else(|| self.namespace.clone());
        let (mut after, limit) = (query.after, query.limit);
        let mut jobs = Vec::new();
        while jobs.len() < limit {
            let page_limit = (limit - jobs.len()).min(PAGE_JOBS_MAX);
            let cursor = after.map(|job| format!("&after={job}")).unwrap_or_default();
            let page: JobPage = self.get(&(list_path(&query, page_limit) + &cursor)).await?;
            jobs.extend(page.jobs.into_iter().take(page_limit));
            match page.next {
                // A cursor that does not move on would go round for ever.
                Some(next) if after.is_none_or(|after| next != after && (next < after) == query.newest_first) => {
                    after = Some(next);
                }
                _ => break,
            }
        }
        Ok(jobs)
    }

    /// Reconnects when the stream is lost, as often as [`ClientTimeouts::tries_max`] without news of the job and for at
    /// least [`ClientTimeouts::restart_patience`]; then it ends without a final state.
    async fn watch(&self, job: JobId) -> Result<BoxStream<'static, JobView>, ServiceError> {
        watch::watch(self.clone(), job).await
    }

    async fn results(&self, job: JobId) -> Result<BoxStream<'static, Result<Bytes, ServiceError>>, ServiceError> {
        results::results(self.clone(), job, 0).await
    }

    async fn results_from(
        &self,
        job: JobId,
        offset: u64,
    ) -> Result<BoxStream<'static, Result<Bytes, ServiceError>>, ServiceError> {
        results::results(self.clone(), job, offset).await
    }

    /// One try: the bytes can't be had twice.
    async fn upload(&self, bytes: BoxStream<'static, std::io::Result<Bytes>>) -> Result<Upload, ServiceError> {
        let broken = Arc::new(Mutex::new(None::<String>));
        let source = broken.clone();
        let bytes = bytes.inspect_err(move |error| {
            *source.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.to_string());
        });
        let request = self.request(Method::PUT, UPLOADS_PATH).body(reqwest::Body::wrap_stream(bytes));
        let sent = traced::send(request, self.trace).await;
        if let Some(error) = broken.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return Err(fault(ErrorKind::Invalid, "upload_source", format!("read what is to be uploaded: {error}")));
        }
        self.reached.fetch_or(sent.is_ok(), Ordering::Relaxed);
        let response = sent.map_err(|error| Failure::from_reqwest(&self.base, &error).error)?;
        let body = read_answer(&self.base, answered(&self.base, response).await?).await?;
        serde_json::from_slice(&body).map_err(|error| {
            fault(ErrorKind::Internal, "bad_answer", format!("read the answer of {}: {error}", self.base))
        })
    }

    async fn nodes(&self) -> Result<Vec<NodeView>, ServiceError> {
        Ok(self.get::<NodeList>(NODES_PATH).await?.nodes)
    }

    async fn cluster(&self) -> Result<ClusterView, ServiceError> {
        self.get(CLUSTER_PATH).await
    }

    async fn drain(&self, node: NodeId) -> Result<(), ServiceError> {
        self.send(|| self.request(Method::POST, &format!("{NODES_PATH}/{node}:drain")), Busy::Wait).await.map(drop)
    }

    async fn submit_batch(
        &self,
        requests: Vec<SubmitRequest>,
    ) -> Result<Vec<Result<JobId, ServiceError>>, ServiceError> {
        batch::submit(self, requests).await
    }

    async fn retry(&self, job: JobId, idempotency_key: Option<String>) -> Result<JobId, ServiceError> {
        let key = chosen(idempotency_key)?;
        let path = format!("{JOBS_PATH}/{job}:retry");
        let make = || self.request(Method::POST, &path).header(IDEMPOTENCY_KEY_HEADER, &key);
        Ok(self.ask::<JobView>(make, Busy::Tell).await?.id)
    }

    async fn forget(&self, job: JobId) -> Result<(), ServiceError> {
        let path = format!("{JOBS_PATH}/{job}");
        self.send(|| self.request(Method::DELETE, &path), Busy::Wait).await.map(drop)
    }

    async fn explain(&self, job: JobId) -> Result<Vec<String>, ServiceError> {
        Ok(self.get::<Explanation>(&format!("{JOBS_PATH}/{job}/explain")).await?.lines)
    }

    async fn job_detail(&self, job: JobId) -> Result<JobDetail, ServiceError> {
        self.get(&format!("{JOBS_PATH}/{job}/detail")).await
    }

    async fn job_shards(&self, job: JobId) -> Result<ShardMap, ServiceError> {
        self.get(&format!("{JOBS_PATH}/{job}/shards")).await
    }

    async fn job_attempts(&self, job: JobId) -> Result<AttemptList, ServiceError> {
        self.get(&format!("{JOBS_PATH}/{job}/attempts")).await
    }

    async fn node_attempts(&self, node: NodeId) -> Result<Vec<NodeAttempt>, ServiceError> {
        Ok(self.get::<NodeAttemptList>(&format!("{NODES_PATH}/{node}/attempts")).await?.attempts)
    }

    async fn add_schedule(
        &self,
        mut spec: ScheduleSpec,
        idempotency_key: Option<String>,
    ) -> Result<ScheduleView, ServiceError> {
        self.place(&mut spec.job.queue.namespace);
        let key = chosen(idempotency_key)?;
        let body = json("schedule", &spec)?;
        let make = || {
            let request = self.request(Method::POST, SCHEDULES_PATH).header(IDEMPOTENCY_KEY_HEADER, &key);
            request.header(CONTENT_TYPE, "application/json").body(body.clone())
        };
        self.ask(make, Busy::Tell).await
    }

    async fn schedules(&self) -> Result<Vec<ScheduleView>, ServiceError> {
        Ok(self.get::<ScheduleList>(SCHEDULES_PATH).await?.schedules)
    }

    async fn change_schedule(
        &self,
        schedule: ScheduleId,
        change: ScheduleChange,
    ) -> Result<ScheduleView, ServiceError> {
        let (method, action) = match change {
            ScheduleChange::Pause => (Method::POST, ":pause"),
            ScheduleChange::Resume => (Method::POST, ":resume"),
            ScheduleChange::Remove => (Method::DELETE, ""),
        };
        let path = format!("{SCHEDULES_PATH}/{schedule}{action}");
        self.ask(|| self.request(method.clone(), &path), Busy::Wait).await
    }

    /// One try: a second one might make a second token.
    async fn add_token(&self, token: NewToken) -> Result<IssuedToken, ServiceError> {
        let request = self.request(Method::POST, TOKENS_PATH).header(CONTENT_TYPE, "application/json");
        let sent = self.send_once(request.body(json("token", &token)?)).await.map_err(|failure| failure.error)?;
        let body = Zeroizing::new(read_answer(&self.base, answered(&self.base, sent).await?).await?.to_vec());
        serde_json::from_slice(&body).map_err(|_| {
            // What does not read may hold the token's text.
            let message = format!("the answer of {} does not read as a token", self.base);
            fault(ErrorKind::Internal, "bad_answer", message)
        })
    }

    async fn tokens(&self) -> Result<Vec<TokenView>, ServiceError> {
        Ok(self.get::<TokenList>(TOKENS_PATH).await?.tokens)
    }

    async fn revoke_token(&self, token: TokenId) -> Result<(), ServiceError> {
        let path = format!("{TOKENS_PATH}/{token}");
        self.send(|| self.request(Method::DELETE, &path), Busy::Wait).await.map(drop)
    }
}
