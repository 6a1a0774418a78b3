//! A watch that outlives its connection.

use super::failure::root_cause;
use super::sse::SseParser;
use super::{Busy, HttpClient};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use quipu_shared::api::JOBS_PATH;
use quipu_shared::ids::JobId;
use quipu_shared::service::{ErrorKind, JobState, JobView, ServiceError};
use reqwest::Method;
use reqwest::header::ACCEPT;
use std::time::{Duration, Instant};
use tokio::time::timeout;

/// A connection that lasted so long was a good one, even if its job stood still: to lose it is no try.
const GOOD_CONNECTION: Duration = Duration::from_secs(30);

type Pieces = BoxStream<'static, reqwest::Result<Bytes>>;

struct Watch {
    client: HttpClient,
    job: JobId,
    pieces: Pieces,
    parser: SseParser,
    opened: Instant,
    last_id: String,
    /// What was last seen of the job, to tell news from a repetition.
    seen: Option<(JobState, u64)>,
    /// Connections lost since the last news.
    losses: u32,
    /// When that was.
    news: Instant,
    ended: bool,
}

/// The job now and at each change. What is wrong with the first connection is an error.
pub(super) async fn watch(client: HttpClient, job: JobId) -> Result<BoxStream<'static, JobView>, ServiceError> {
    let client = client.following();
    let pieces = open(&client, job, "").await?;
    let watch = Watch {
        client,
        job,
        pieces,
        parser: SseParser::default(),
        opened: Instant::now(),
        last_id: String::new(),
        seen: None,
        losses: 0,
        news: Instant::now(),
        ended: false,
    };
    let views = stream::unfold(watch, |mut watch| async {
        let view = watch.next().await?;
        Some((view, watch))
    });
    Ok(views.boxed())
}

async fn open(client: &HttpClient, job: JobId, last_id: &str) -> Result<Pieces, ServiceError> {
    let response = client
        .send(
            || {
                let request = client.request(Method::GET, &format!("{JOBS_PATH}/{job}/events"));
                let request = request.header(ACCEPT, "text/event-stream");
                if last_id.is_empty() { request } else { request.header("last-event-id", last_id) }
            },
            Busy::Wait,
        )
        .await?;
    Ok(response.bytes_stream().boxed())
}

impl Watch {
    /// The next view; none after the final one, and none when the job can't be watched any more.
    async fn next(&mut self) -> Option<JobView> {
        while !self.ended {
            while let Some(event) = self.parser.next() {
                self.last_id = event.id;
                match serde_json::from_str::<JobView>(&event.data) {
                    Ok(view) => return Some(self.take(view)),
                    Err(error) => tracing::warn!(job_id = %self.job, %error, "event not understood"),
                }
            }
            let lost = match timeout(self.client.timeouts.event_idle, self.pieces.next()).await {
                Ok(Some(Ok(piece))) => match self.parser.push(&piece) {
                    Ok(()) => continue,
                    Err(error) => error.to_string(),
                },
                Ok(Some(Err(error))) => root_cause(&error),
                Ok(None) => "the stream ended early".to_owned(),
                Err(_) => "nothing came".to_owned(),
            };
            if let Err(error) = self.reopen(&lost).await {
                tracing::warn!(job_id = %self.job, %error, "watch given up");
                self.ended = true;
            }
        }
        None
    }

    fn take(&mut self, view: JobView) -> JobView {
        let news = Some((view.state, view.rows_done));
        if self.seen != news {
            self.seen = news;
            (self.losses, self.news) = (0, Instant::now());
        }
        self.ended = view.state.is_final();
        view
    }

    async fn reopen(&mut self, lost: &str) -> Result<(), ServiceError> {
        if self.opened.elapsed() >= GOOD_CONNECTION {
            (self.losses, self.news) = (0, Instant::now());
        }
        self.losses += 1;
        tracing::debug!(job_id = %self.job, losses = self.losses, error = lost, "watch lost");
        let timeouts = &self.client.timeouts;
        if self.losses >= timeouts.tries_max && self.news.elapsed() >= timeouts.restart_patience {
            let message = format!("watch job {}: {lost}, {} times in a row", self.job, self.losses);
            return Err(super::fault(ErrorKind::Unreachable, "watch_lost", message));
        }
        self.client.back_off(self.losses).await;
        self.pieces = open(&self.client, self.job, &self.last_id).await?;
        self.parser = SseParser::default();
        self.opened = Instant::now();
        Ok(())
    }
}
