//! A place to try formulas: typed, checked as one types, evaluated, swept or sampled. The script does the work.

use super::UiState;
use super::Who;
use super::layout::{self, Frame, Place};
use super::results::PLOT_ROWS_MAX;
use axum::extract::{Extension, State};
use axum::http::HeaderMap;
use axum::response::Response;
use maud::{Markup, html};
use quipu_shared::access::AccessRole;

/// Formulas to begin with, each with how it is to be run.
const EXAMPLES: [(&str, &str, &str); 4] = [
    ("eval", "10 + 2 * 3", "A sum"),
    ("eval", "price * qty * (1.0 - discount)", "With variables"),
    ("sweep", "math::exp(-x * x) * math::cos(4.0 * x)", "A curve"),
    ("sample", "if(x * x + y * y <= 1.0, 4.0, 0.0)", "An estimate of π"),
];

/// `GET /try`.
pub(super) async fn page(State(_): UiState, Extension(caller): Who, headers: HeaderMap) -> Response {
    let frame = Frame {
        caller: &caller,
        headers: &headers,
        place: Place::Try,
        title: "Try a formula",
        live: None,
        script: Some("try.js"),
    };
    layout::page(&frame, &content(caller.role >= AccessRole::Submit))
}

fn content(may_run: bool) -> Markup {
    html! {
        div.heading { h1 { "Try a formula" } }
        noscript { p.error { "Formulas are tried with a script, and this browser runs none." } }
        form.try id="try" autocomplete="off" data-points=(PLOT_ROWS_MAX) {
            div.card {
                div.field {
                    label for="formula" { "Formula" }
                    div.editor {
                        pre.mirror id="mirror" aria-hidden="true" {}
                        textarea id="formula" rows="2" spellcheck="false" autocapitalize="off" autocorrect="off"
                            aria-describedby="verdict" maxlength="8192" {}
                    }
                    div.verdict id="verdict" role="status" aria-live="polite" { p.note { "Type a formula, or take an example." } }
                    ul.notes id="notes" {}
                }
                ul.examples aria-label="Examples" {
                    @for (kind, formula, text) in EXAMPLES {
                        li { button.quiet type="button" data-kind=(kind) data-formula=(formula) { (text) } }
                    }
                }
                details id="typed" hidden {
                    summary { "Typed form" }
                    pre.listing tabindex="0" role="region" aria-label="Typed form" { code id="form" {} }
                }
            }
            @if may_run { (run()) } @else {
                p.note { "This token may look and check, but not run: it takes the role " code { "submit" } "." }
            }
        }
        section id="outcome" aria-labelledby="outcome-title" hidden {
            h2 id="outcome-title" { "Result" }
            div id="answer" aria-live="polite" aria-busy="false" {}
        }
    }
}

fn run() -> Markup {
    html! {
        fieldset.card.kinds {
            legend { "Run it" }
            div.choices {
                @for (kind, text, hint) in [
                    ("eval", "Once", "with one value for each variable"),
                    ("sweep", "As a sweep", "over ranges, drawn as a plot"),
                    ("sample", "As a sample", "of random draws, drawn as a histogram"),
                ] {
                    label.choice {
                        input type="radio" name="kind" value=(kind) checked[kind == "eval"];
                        span { strong { (text) } " " span.note { (hint) } }
                    }
                }
            }
            div.inputs id="inputs" {}
            div.inputs id="sampling" hidden {
                div.field.short {
                    label for="rows" { "Draws" }
                    input id="rows" type="text" inputmode="numeric" value="100000";
                }
                div.field.short {
                    label for="seed" { "Seed" }
                    input id="seed" type="text" inputmode="numeric" value="7";
                }
                div.field.short {
                    label for="bins" { "Bins" }
                    input id="bins" type="text" inputmode="numeric" value="40";
                }
            }
            div.actions {
                button.primary type="submit" id="run" { "Evaluate" }
                span.hint { kbd { "Ctrl" } " + " kbd { "Enter" } }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::content;

    #[test]
    fn who_may_only_look_gets_nothing_to_run() {
        assert!(!content(false).into_string().contains("type=\"submit\""));
        assert!(content(true).into_string().contains("type=\"submit\""));
    }
}
