//! `/debug`: for the role `operate`, for what it gives away of the master and for what it costs.

use super::ApiState;
use super::jobs::{ListQuery, bad_query};
use super::refusal::Refusal;
use crate::profile::{
    FREQUENCY_HZ_DEFAULT, FREQUENCY_HZ_MAX, HeapReport, PROFILE_SECONDS_DEFAULT, PROFILE_SECONDS_MAX, ProfileError,
    ThreadReport,
};
use axum::Json;
use axum::extract::{Query, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use quipu_shared::service::ErrorKind;
use std::time::Duration;

/// Where a CPU profile goes when a browser asks for it.
const DISPOSITION: &str = "attachment; filename=\"quipu-cpu.pb.gz\"";

/// Samples the master for a while: a CPU profile as `go tool pprof` and most viewers take it.
pub(super) async fn cpu_profile(State(api): ApiState, query: ListQuery) -> Result<Response, Refusal> {
    let Query(members) = query.map_err(|rejection| bad_query(rejection.body_text()))?;
    let Length { seconds, frequency_hz } = parse_length(&members).map_err(bad_query)?;
    let made = tokio::select! {
        made = api.profiler.cpu(Duration::from_secs(seconds), frequency_hz) => made,
        () = api.stop.cancelled() => {
            return Err(Refusal::new(ErrorKind::Unreachable, "stopping", "the master stops"));
        }
    };
    match made {
        Ok(profile) => {
            let headers =
                [(header::CONTENT_TYPE, "application/octet-stream"), (header::CONTENT_DISPOSITION, DISPOSITION)];
            Ok((headers, profile).into_response())
        }
        Err(error @ ProfileError::Busy) => {
            let refusal = Refusal::new(ErrorKind::Busy, "profile_running", error.to_string());
            Err(refusal.retry_after_s(PROFILE_SECONDS_DEFAULT))
        }
        Err(error) => Err(Refusal::new(ErrorKind::Internal, "profile", error.to_string())),
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Length {
    seconds: u64,
    frequency_hz: u32,
}

fn parse_length(members: &[(String, String)]) -> Result<Length, String> {
    let mut length = Length { seconds: PROFILE_SECONDS_DEFAULT, frequency_hz: FREQUENCY_HZ_DEFAULT };
    for (name, value) in members {
        let within = |max: u64| value.parse::<u64>().ok().filter(|value| (1..=max).contains(value));
        match name.as_str() {
            "seconds" => {
                length.seconds = within(PROFILE_SECONDS_MAX)
                    .ok_or_else(|| format!("seconds={value:?} is not a number from 1 to {PROFILE_SECONDS_MAX}"))?;
            }
            "frequency" => {
                length.frequency_hz = within(FREQUENCY_HZ_MAX.into())
                    .and_then(|value| u32::try_from(value).ok())
                    .ok_or_else(|| format!("frequency={value:?} is not a number from 1 to {FREQUENCY_HZ_MAX}"))?;
            }
            _ => return Err(format!("a profile has no {name:?}; it takes `seconds` and `frequency`")),
        }
    }
    Ok(length)
}

/// What the master's memory is taken by.
pub(super) async fn heap() -> Result<Json<HeapReport>, Refusal> {
    let taken = tokio::task::spawn_blocking(HeapReport::take).await;
    taken.map(Json).map_err(|panic| Refusal::new(ErrorKind::Internal, "heap", panic.to_string()))
}

/// The master's threads.
pub(super) async fn threads() -> Result<Json<ThreadReport>, Refusal> {
    let taken = tokio::task::spawn_blocking(ThreadReport::take).await;
    taken.map(Json).map_err(|panic| Refusal::new(ErrorKind::Internal, "threads", panic.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_is_bounded() {
        let of = |text: &str| {
            let pairs = text.split('&').filter(|pair| !pair.is_empty());
            let pairs: Vec<_> = pairs.map(|pair| pair.split_once('=').expect("a pair")).collect();
            parse_length(&pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect::<Vec<_>>())
        };
        assert_eq!(of(""), Ok(Length { seconds: 10, frequency_hz: 99 }));
        assert_eq!(of("seconds=1&frequency=1000"), Ok(Length { seconds: 1, frequency_hz: 1_000 }));
        for bad in ["seconds=0", "seconds=121", "seconds=-1", "seconds=1.5", "frequency=0", "frequency=1001", "depth=3"]
        {
            assert!(of(bad).is_err(), "{bad}");
        }
    }
}
