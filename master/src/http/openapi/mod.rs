//! The API as an OpenAPI document, made from the types that are parsed and written and from a table of operations, and a
//! page to browse it. A test compares the table with the router's.

mod describe;
mod operations;
mod page;
#[cfg(test)]
mod tests;

pub(super) use page::pages;

use super::policy::{Need, need};
use axum::http::{Method, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use describe::Operation;
use serde_json::Value;
use std::sync::LazyLock;
use utoipa::openapi::path::{HttpMethod, OperationBuilder};
use utoipa::openapi::security::{
    ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme,
};
use utoipa::openapi::tag::TagBuilder;
use utoipa::openapi::{ComponentsBuilder, InfoBuilder, LicenseBuilder, OpenApi, OpenApiBuilder, Paths};

const TITLE: &str = "Quipu";
const DESCRIPTION: &str = "\
Evaluates formulas, one at once or many over the rows of a table, a sweep or a sample, on a cluster.

Every request but those of `/healthz`, `/readyz` and `/login` needs a token: `Authorization: Bearer ...`, as `quipu token \
new` or `quipu secret token` print it, or the cookie of a browser that has logged in. Errors are problem+json (RFC 9457) \
with a stable `code` and, where a formula is wrong, its place. 429 comes with `Retry-After`.";

/// Groups of operations.
const TAGS: [(&str, &str); 8] = [
    ("Evaluate at once", "Formulas that are answered without a job."),
    ("Jobs", "Work over many rows: submitted, watched, read, cancelled."),
    ("Schedules", "Jobs that recur."),
    ("Cluster", "Nodes and versions."),
    ("Access", "Tokens and sessions."),
    ("Insight", "Figures and profiles of the master."),
    ("Probes", "For whoever looks after the process."),
    ("Documentation", "This document."),
];

/// The document's bytes.
static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| Bytes::from(document_json().to_string()));

/// `GET /openapi.json`.
pub(super) async fn document() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], DOCUMENT.clone()).into_response()
}

fn document_json() -> Value {
    // A document that can't be written has a defect that its test finds.
    let mut document = serde_json::to_value(build()).unwrap_or_default();
    plain_descriptions(&mut document);
    unsigned_integers(&mut document);
    document
}

fn build() -> OpenApi {
    let mut paths = Paths::new();
    let mut schemas = Vec::new();
    for operation in operations::all() {
        let method = operation.method.clone();
        let path = operation.path.clone();
        schemas.extend(operation.schemas.iter().cloned());
        paths.add_path_operation(&path, vec![method], secured(operation));
    }
    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some("A token of the cluster, or one that `quipu token new` has made."))
        .build();
    let cookie = ApiKeyValue::with_description("quipu_session", "The session of a browser that has logged in.");
    let components = ComponentsBuilder::new()
        .schemas_from_iter(schemas)
        .security_scheme("token", SecurityScheme::Http(bearer))
        .security_scheme("session", SecurityScheme::ApiKey(ApiKey::Cookie(cookie)))
        .build();
    let info = InfoBuilder::new()
        .title(TITLE)
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(DESCRIPTION))
        .license(Some(LicenseBuilder::new().name("MIT OR Apache-2.0").identifier(Some("MIT OR Apache-2.0")).build()))
        .build();
    let tags = TAGS.iter().map(|(name, text)| TagBuilder::new().name(*name).description(Some(*text)).build());
    OpenApiBuilder::new().info(info).paths(paths).components(Some(components)).tags(Some(tags)).build()
}

/// An operation with what the policy says of it.
fn secured(operation: Operation) -> OperationBuilder {
    let (method, path) = (method_of(&operation.method), operation.path.clone());
    let builder = operation.into_builder();
    match need(&method, &path) {
        Need::Nothing | Need::Place => builder.securities(Some(Vec::<SecurityRequirement>::new())),
        Need::Role(_) => {
            let none: [&str; 0] = [];
            builder
                .security(SecurityRequirement::new("token", none))
                .security(SecurityRequirement::new("session", none))
        }
    }
}

fn method_of(method: &HttpMethod) -> Method {
    match method {
        HttpMethod::Post => Method::POST,
        HttpMethod::Put => Method::PUT,
        HttpMethod::Delete => Method::DELETE,
        _ => Method::GET,
    }
}

/// Types are described for those who read their source: links to it become plain code.
fn plain_descriptions(value: &mut Value) {
    match value {
        Value::Object(members) => {
            for (name, member) in members.iter_mut() {
                match member {
                    Value::String(text) if name == "description" => *text = without_links(text),
                    member => plain_descriptions(member),
                }
            }
        }
        Value::Array(elements) => elements.iter_mut().for_each(plain_descriptions),
        _ => {}
    }
}

/// A `u64` is described as an `int64` that is not negative, which has no place for the upper half: it is a number without
/// a format.
fn unsigned_integers(value: &mut Value) {
    match value {
        Value::Object(members) => {
            let is_unsigned = members.get("minimum").and_then(Value::as_f64).is_some_and(|minimum| minimum >= 0.0);
            if is_unsigned && members.get("format").is_some_and(|format| format == "int64") {
                members.remove("format");
            }
            members.values_mut().for_each(unsigned_integers);
        }
        Value::Array(elements) => elements.iter_mut().for_each(unsigned_integers),
        _ => {}
    }
}

/// ``[`crate::calendar`]`` and ``[`Self::x`](path)`` as their names alone.
fn without_links(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("[`") {
        let Some(end) = rest[start..].find("`]").map(|end| start + end) else { break };
        out.push_str(&rest[..start]);
        let name = &rest[start + 2..end];
        out.push('`');
        out.push_str(name.rsplit("::").next().unwrap_or(name));
        out.push('`');
        rest = &rest[end + 2..];
        if let Some(target) = rest.strip_prefix('(') {
            rest = target.split_once(')').map_or("", |(_, after)| after);
        }
    }
    out.push_str(rest);
    out
}
