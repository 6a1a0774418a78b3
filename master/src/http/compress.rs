//! Which answers are compressed for clients that take it: text, and never events, which must not wait in a compressor.

use axum::http::header::CONTENT_TYPE;
use axum::http::{Extensions, HeaderMap, StatusCode, Version};
use tower_http::CompressionLevel;
use tower_http::compression::predicate::{And, SizeAbove};
use tower_http::compression::{CompressionLayer, Predicate};

/// Bytes from which an answer is worth it: below, it fits a packet anyhow.
const COMPRESSED_FROM_BYTES: u64 = 1024;

/// Media types that are compressed. Results in columns are not: their writers do that themselves, or their readers map
/// them.
const COMPRESSED: [&str; 11] = [
    "application/javascript",
    "application/json",
    "application/problem+json",
    "application/x-ndjson",
    "image/svg+xml",
    "text/css",
    "text/csv",
    "text/html",
    "text/javascript",
    "text/plain",
    "application/openmetrics-text",
];

type Wanted = fn(StatusCode, Version, &HeaderMap, &Extensions) -> bool;

/// The layer. The fastest level: the cores have formulas to evaluate.
pub(super) fn layer() -> CompressionLayer<And<SizeAbove, Wanted>> {
    let wanted: Wanted = is_text;
    CompressionLayer::new()
        .quality(CompressionLevel::Fastest)
        .compress_when(SizeAbove::new(COMPRESSED_FROM_BYTES).and(wanted))
}

fn is_text(_: StatusCode, _: Version, headers: &HeaderMap, _: &Extensions) -> bool {
    let given = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = given.split(';').next().unwrap_or_default().trim();
    COMPRESSED.iter().any(|known| essence.eq_ignore_ascii_case(known))
}
