//! Formulas over one gRPC stream of a real master: `cargo bench --bench grpc -- [--quick]`.
//!
//! `one by one` waits for each answer, `streamed` keeps the stream full. Figures are printed and never fail anything.

#![allow(clippy::print_stdout, reason = "a bench prints its figures")]

#[path = "../tests/support/mod.rs"]
mod support;

use anyhow::{Context as _, ensure};
use futures_util::stream;
use quipu_master::http::grpc::proto::quipu_client::QuipuClient;
use quipu_master::http::grpc::proto::{EvaluateRequest, Value, value};
use std::time::Instant;
use support::Cluster;
use tokio::sync::mpsc;
use tonic::Request;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};

const FORMULA: &str = "if(x > 0.5, math::sin(x) / (x + 1.0), x * x - 0.25)";

fn evaluation(id: u64) -> EvaluateRequest {
    let x = Value { kind: Some(value::Kind::Float(id as f64 / 1000.0)) };
    EvaluateRequest { id, formula: FORMULA.into(), variables: [("x".to_owned(), x)].into(), cache: false }
}

fn with<T>(token: &str, message: T) -> anyhow::Result<Request<T>> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", MetadataValue::try_from(format!("Bearer {token}"))?);
    Ok(request)
}

async fn streamed(client: &mut QuipuClient<Channel>, token: &str, count: u64) -> anyhow::Result<f64> {
    let begun = Instant::now();
    let requests = stream::iter((0..count).map(evaluation));
    let mut answers = client.evaluate(with(token, requests)?).await?.into_inner();
    let mut answered = 0;
    while answers.message().await?.is_some() {
        answered += 1;
    }
    ensure!(answered == count, "{answered} of {count} answers");
    Ok(count as f64 / begun.elapsed().as_secs_f64())
}

async fn one_by_one(client: &mut QuipuClient<Channel>, token: &str, count: u64) -> anyhow::Result<Vec<f64>> {
    let (give, taken) = mpsc::channel(1);
    let requests = stream::unfold(taken, |mut taken| async { taken.recv().await.map(|request| (request, taken)) });
    let mut answers = client.evaluate(with(token, requests)?).await?.into_inner();
    let mut micros = Vec::new();
    for id in 0..count {
        let begun = Instant::now();
        give.send(evaluation(id)).await?;
        let answer = answers.message().await?.context("an answer")?;
        ensure!(answer.id == id, "answer {} to {id}", answer.id);
        micros.push(begun.elapsed().as_secs_f64() * 1e6);
    }
    micros.sort_by(f64::total_cmp);
    Ok(micros)
}

fn main() -> anyhow::Result<()> {
    let quick = std::env::args().any(|argument| argument == "--quick");
    let count = if quick { 20_000 } else { 500_000 };
    let cluster = Cluster::master();
    let token = cluster.output(&["secret", "token"]).trim().to_owned();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(async {
        let mut client = QuipuClient::new(Endpoint::from_shared(cluster.master.address("http"))?.connect().await?);
        streamed(&mut client, &token, count / 10).await?;
        let mut rates = Vec::new();
        for _ in 0..3 {
            rates.push(streamed(&mut client, &token, count).await?);
        }
        rates.sort_by(f64::total_cmp);
        println!("grpc/evaluate/streamed      {:>10.0} formulas/s (median of 3, {count} each)", rates[1]);
        let micros = one_by_one(&mut client, &token, count / 20).await?;
        let at = |part: f64| micros[((micros.len() - 1) as f64 * part) as usize];
        println!("grpc/evaluate/one by one    p50 {:>6.0} us, p99 {:>6.0} us", at(0.5), at(0.99));
        anyhow::Ok(())
    })
}
