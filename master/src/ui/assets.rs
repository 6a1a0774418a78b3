//! Styles and scripts, which are part of the binary.

use axum::extract::Path;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use std::sync::LazyLock;

/// What a browser is told of a file whose name changes with it.
pub(crate) const KEPT_FOR_GOOD: &str = "private, max-age=31536000, immutable";

const CSS: &str = "text/css; charset=utf-8";
const JS: &str = "text/javascript; charset=utf-8";

/// Every file by its name.
const FILES: [(&str, &str, &str); 7] = [
    ("style.css", CSS, include_str!("assets/style.css")),
    ("parts.css", CSS, include_str!("assets/parts.css")),
    ("page.js", JS, include_str!("assets/page.js")),
    ("live.js", JS, include_str!("assets/live.js")),
    ("morph.js", JS, include_str!("assets/morph.js")),
    ("literal.js", JS, include_str!("assets/literal.js")),
    ("try.js", JS, include_str!("assets/try.js")),
];

/// The styles of the page that asks for a token: no other file can be had without one.
pub(super) const LOGIN_STYLE: &str = include_str!("assets/style.css");

/// Names this set of files: a browser may keep what it has of it for good.
static BUILD: LazyLock<String> = LazyLock::new(|| {
    let mut hasher = blake3::Hasher::new();
    for (name, _, text) in FILES {
        hasher.update(name.as_bytes()).update(&[0]).update(text.as_bytes()).update(&[0]);
    }
    hasher.finalize().to_hex()[..12].to_owned()
});

/// Where a file is.
pub(super) fn path(name: &str) -> String {
    format!("/ui/{}/{name}", *BUILD)
}

/// `GET /ui/{build}/{file}`.
pub(super) async fn file(Path((build, name)): Path<(String, String)>) -> Response {
    let Some((_, media_type, text)) = FILES.iter().find(|(known, ..)| *known == name) else {
        return (StatusCode::NOT_FOUND, "there is no such file\n").into_response();
    };
    let mut response = ([(header::CONTENT_TYPE, HeaderValue::from_static(media_type))], *text).into_response();
    if build == *BUILD {
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static(KEPT_FOR_GOOD));
    }
    response
}
