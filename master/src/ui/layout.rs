//! What every page has around its content.

use super::{assets, icons};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use maud::{DOCTYPE, Markup, html};
use quipu_shared::access::Caller;
use quipu_shared::api::status_of;
use quipu_shared::service::{ErrorKind, ServiceError};

/// Nothing but our own files, and nobody's frame.
pub(super) const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
     img-src 'self' data:; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";
/// The cookie that remembers which colours somebody chose. The page's script writes it.
const THEME_COOKIE: &str = "quipu_theme";

/// A part of the dashboard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Overview,
    Jobs,
    Try,
    Elsewhere,
}

/// A page's frame.
pub(super) struct Frame<'a> {
    pub(super) caller: &'a Caller,
    /// Of the request, which says which colours are wanted.
    pub(super) headers: &'a HeaderMap,
    pub(super) place: Place,
    pub(super) title: &'a str,
    /// The stream that brings what changes.
    pub(super) live: Option<String>,
    /// A further script.
    pub(super) script: Option<&'static str>,
}

/// The colours that somebody chose, where they did.
fn theme(headers: &HeaderMap) -> Option<&'static str> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = cookies.flat_map(|text| text.split(';')).filter_map(|pair| pair.trim().split_once('='));
    match pairs.find(|(name, _)| *name == THEME_COOKIE)?.1 {
        "dark" => Some("dark"),
        "light" => Some("light"),
        _ => None,
    }
}

/// A whole page.
pub(super) fn page(frame: &Frame<'_>, content: &Markup) -> Response {
    let link = |place: Place, href: &str, text: &str| {
        let current = (frame.place == place).then_some("page");
        html! { a href=(href) aria-current=[current] { (text) } }
    };
    let markup = html! {
        (DOCTYPE)
        html lang="en" data-theme=[theme(frame.headers)] {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (frame.title) " · Quipu" }
                link rel="icon" href=(ICON);
                link rel="stylesheet" href=(assets::path("style.css"));
                link rel="stylesheet" href=(assets::path("parts.css"));
                script type="module" src=(assets::path("page.js")) {}
                @if frame.live.is_some() { script type="module" src=(assets::path("live.js")) {} }
                @if let Some(script) = frame.script { script type="module" src=(assets::path(script)) {} }
            }
            body data-live=[frame.live.as_deref()] {
                a.skip href="#main" { "Skip to the content" }
                header.top {
                    a.brand href="/" aria-label="Quipu, overview" { (icons::logo("logo")) span { "quipu" } }
                    nav aria-label="Pages" {
                        (link(Place::Overview, "/", "Overview"))
                        (link(Place::Jobs, "/jobs", "Jobs"))
                        (link(Place::Try, "/try", "Try"))
                    }
                    div.tools {
                        @if frame.live.is_some() {
                            p.link role="status" id="link" data-state="connecting" {
                                span.dot aria-hidden="true" {} span.word { "connecting" }
                            }
                        }
                        button.icon-button type="button" id="theme" hidden aria-label="Switch between light and dark" {
                            (icons::theme())
                        }
                        p.who title="The token that this browser is logged in with, and its role" {
                            span.name { (frame.caller.name) }
                            span.role { (frame.caller.role) }
                        }
                        form method="post" action="/logout" { button.quiet type="submit" { "Log out" } }
                    }
                }
                main id="main" tabindex="-1" { (content) }
                footer.bottom {
                    p { "Quipu " (env!("CARGO_PKG_VERSION")) }
                    p { a href="/docs" { "API" } " · " a href="/metrics" { "Metrics" } }
                }
                div id="notices" role="status" aria-live="polite" {}
            }
        }
    };
    respond(StatusCode::OK, &markup, POLICY)
}

/// The logo as a picture of 64 by 64, for the browser's tab.
const ICON: &str = "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 32 32' fill='none' \
    stroke-width='3' stroke-linecap='round'%3E%3Cpath d='M3 7c6-2.6 20-2.6 26 0' stroke='%237a4a2b'/%3E%3Cpath d='M9 \
    6v22' stroke='%23b3411f'/%3E%3Cpath d='M16 5v18' stroke='%230f6b73'/%3E%3Cpath d='M23 6v22' \
    stroke='%23b07a10'/%3E%3Cg stroke='none'%3E%3Ccircle cx='9' cy='17' r='3.5' fill='%23b3411f'/%3E%3Ccircle cx='16' \
    cy='14' r='3.5' fill='%230f6b73'/%3E%3Ccircle cx='23' cy='21' r='3.5' fill='%23b07a10'/%3E%3C/g%3E%3C/svg%3E";

/// HTML with the headers that every page has.
pub(super) fn respond(status: StatusCode, markup: &Markup, policy: &str) -> Response {
    let mut response = (status, Html(markup.0.clone())).into_response();
    let headers = response.headers_mut();
    if let Ok(policy) = HeaderValue::try_from(policy) {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    response
}

/// A page that says why there is no other.
pub(super) fn trouble(frame: &Frame<'_>, error: &ServiceError) -> Response {
    let head = match error.kind {
        ErrorKind::NotFound => "There is no such thing",
        ErrorKind::Busy => "Too much at once",
        _ => "That did not work",
    };
    let content = html! {
        div.empty {
            h1 { (head) }
            p { (error.message) "." }
            p { a.button href="/" { "To the overview" } }
        }
    };
    let mut response = page(frame, &content);
    *response.status_mut() = StatusCode::from_u16(status_of(error.kind)).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response
}

#[cfg(test)]
mod tests {
    use super::theme;
    use axum::http::{HeaderMap, HeaderValue, header};

    #[test]
    fn only_known_colours_are_taken_from_the_cookie() {
        for (cookie, wanted) in [
            ("quipu_theme=dark", Some("dark")),
            ("a=b; quipu_theme=light", Some("light")),
            ("quipu_theme=\"><script>", None),
            ("x", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::COOKIE, HeaderValue::from_str(cookie).unwrap());
            assert_eq!(theme(&headers), wanted, "{cookie}");
        }
        assert_eq!(theme(&HeaderMap::new()), None);
    }
}
