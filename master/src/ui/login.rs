//! The page that asks for a token: the only one that can be had without.

use super::{assets, icons, layout};
use axum::http::StatusCode;
use axum::response::Response;
use maud::{DOCTYPE, Markup, PreEscaped, html};

/// The page as an answer. No other file can be had without a token, so its styles are in it, under a name of this answer.
pub(crate) fn response(status: StatusCode, error: Option<&str>) -> Response {
    let nonce = uuid::Uuid::new_v4().simple().to_string();
    let policy = format!(
        "default-src 'none'; style-src 'nonce-{nonce}'; img-src data:; form-action 'self'; frame-ancestors 'none'; \
         base-uri 'none'"
    );
    layout::respond(status, &page(&nonce, error), &policy)
}

fn page(nonce: &str, error: Option<&str>) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { "Log in · Quipu" }
                link rel="icon" href="data:,";
                style nonce=(nonce) { (PreEscaped(assets::LOGIN_STYLE)) }
            }
            body.login {
                main {
                    form.card method="post" action="/login" {
                        (icons::logo("logo large"))
                        h1 { "Quipu" }
                        p.lead { "Log in with a token of this cluster." }
                        @if let Some(error) = error { p.error role="alert" id="login-error" { (error) } }
                        label for="token" { "Token" }
                        input id="token" name="token" type="password" autocomplete="current-password" required
                            autofocus spellcheck="false" autocapitalize="off"
                            aria-describedby=[error.map(|_| "login-error")] aria-invalid=[error.map(|_| "true")];
                        button.primary type="submit" { "Log in" }
                        p.hint {
                            "An operator makes one with " code { "quipu token new NAME --role read" } ". The cluster's own is "
                            "printed by " code { "quipu secret token" } "."
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::page;

    #[test]
    fn error_is_shown_as_text() {
        let markup = page("n", Some("<script>alert(1)</script>")).into_string();
        assert!(markup.contains("&lt;script&gt;") && !markup.contains("<script"), "{markup}");
        assert!(!page("n", None).into_string().contains("role=\"alert\""));
    }
}
