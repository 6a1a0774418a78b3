//! The page that shows the document: Swagger UI, with every byte of it from this process.

use super::super::Api;
use super::super::refusal::Refusal;
use axum::Router;
use axum::extract::Path;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use maud::{DOCTYPE, Markup, html};
use quipu_shared::api::{DOCS_PATH, DOCUMENT_PATH};
use quipu_shared::service::ErrorKind;
use std::sync::Arc;
use utoipa_swagger_ui::Config;

/// Nothing from elsewhere, no script but files of this server. Swagger UI writes `style` attributes.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
                      font-src 'self'; connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'";

/// Starts it. Validation by a foreign server is off.
const START: &str = "window.onload = () => {
  window.ui = SwaggerUIBundle({
    url: '/openapi.json',
    dom_id: '#swagger-ui',
    deepLinking: true,
    docExpansion: 'list',
    defaultModelsExpandDepth: 0,
    validatorUrl: null,
    presets: [SwaggerUIBundle.presets.apis],
  });
};
";

/// The page and its files.
pub(in super::super) fn pages() -> Router<Arc<Api>> {
    Router::new()
        .route(DOCS_PATH, get(async || with_policy(index())))
        .route(&format!("{DOCS_PATH}/{{file}}"), get(file))
}

fn index() -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "API · Quipu" }
                link rel="stylesheet" href={ (DOCS_PATH) "/swagger-ui.css" };
                link rel="icon" href={ (DOCS_PATH) "/favicon-32x32.png" };
            }
            body {
                noscript { "This page needs scripts; the document itself is at " a href=(DOCUMENT_PATH) { (DOCUMENT_PATH) } }
                div #swagger-ui {}
                script src={ (DOCS_PATH) "/swagger-ui-bundle.js" } {}
                script src={ (DOCS_PATH) "/start.js" } {}
            }
        }
    }
}

async fn file(Path(name): Path<String>, headers: HeaderMap) -> Result<Response, Refusal> {
    if name == "start.js" {
        return Ok(with_policy(([(header::CONTENT_TYPE, "text/javascript; charset=utf-8")], START)));
    }
    let missing =
        || Refusal::new(ErrorKind::NotFound, "no_such_route", format!("there is nothing at {DOCS_PATH}/{name}"));
    let wanted = ["swagger-ui.css", "swagger-ui-bundle.js", "favicon-32x32.png"].contains(&name.as_str());
    let found = utoipa_swagger_ui::serve(&name, Arc::new(Config::from(DOCUMENT_PATH))).map_err(|error| {
        Refusal::new(ErrorKind::Internal, "docs", format!("read {name} of the API's page: {error}"))
    })?;
    let file = found.filter(|_| wanted).ok_or_else(missing)?;
    let _ = headers;
    let kind = HeaderValue::try_from(file.content_type)
        .map_err(|error| Refusal::new(ErrorKind::Internal, "docs", format!("name the type of {name}: {error}")))?;
    Ok(with_policy(([(header::CONTENT_TYPE, kind)], file.bytes.into_owned())))
}

fn with_policy(content: impl IntoResponse) -> Response {
    let mut response = content.into_response();
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    response
}
