//! The API from outside: real sockets, a service that does as told.

mod access;
mod batch;
mod compress;
mod docs;
mod eval;
mod events;
pub(crate) mod fake;
mod grpc;
mod h2;
mod limits;
mod metrics;
mod queue;
mod raw;
mod routes;
mod streams;

use super::{HttpConfig, serve};
use fake::Fake;
use raw::{Answer, TOKEN, exchange, request};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// A running server over a [`Fake`].
struct Server {
    fake: Arc<Fake>,
    address: SocketAddr,
    task: JoinHandle<()>,
    stop: oneshot::Sender<()>,
}

async fn start(configure: impl FnOnce(&mut HttpConfig)) -> Server {
    let fake = Arc::new(Fake::default());
    let mut config = HttpConfig::new("127.0.0.1:0".parse().unwrap(), Arc::new(|token| token == TOKEN));
    configure(&mut config);
    let (stop, stopped) = oneshot::channel();
    let shutdown = async {
        // Dropped is told, too.
        let _ = stopped.await;
    };
    let (address, task) = serve(config, fake.clone(), shutdown).await.unwrap();
    Server { fake, address, task, stop }
}

impl Server {
    async fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        exchange(self.address, &request(method, path, headers, body)).await
    }

    async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[], "").await
    }

    async fn submit(&self, body: &str) -> Answer {
        self.ask("POST", "/v1/jobs", &[("Content-Type", "application/json")], body).await
    }
}
