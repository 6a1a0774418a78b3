use super::{EvalConfig, EvalEngine, failure_error};
use quipu_shared::eval::{CheckRequest, EvalRequest, Outcome};
use quipu_shared::formula::{Evaluator, Formula, FormulaLimits, Symbols, hostile};
use quipu_shared::service::ErrorKind;
use quipu_shared::spec::Scalar;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

fn engine() -> Arc<EvalEngine> {
    EvalEngine::new(EvalConfig::default())
}

/// One that sends everything to its pool.
fn pooled(config: EvalConfig) -> Arc<EvalEngine> {
    EvalEngine::new(EvalConfig { inline_cost_ns_max: 0.0, ..config })
}

fn request(json: &str) -> EvalRequest {
    serde_json::from_str(json).unwrap()
}

async fn outcomes(engine: &Arc<EvalEngine>, json: &str) -> Vec<Outcome> {
    engine.evaluate(request(json)).await.unwrap()
}

const MIXED: &str = r#"{"evaluations":[
    {"formula":"10 + 2 * 3"},
    {"formula":"a / 2","variables":{"a":7}},
    {"formula":"a / 2","variables":{"a":7.0}},
    {"formula":"b = a * k; b + 1","variables":{"a":2}},
    {"formula":"b"},
    {"formula":"1 / 0"},
    {"formula":"str::to_uppercase(t)","variables":{"t":"x"}},
    {"formula":"k","variables":{"k":"mine"}},
    {"formula":"1 +"}
],"variables":{"k":10}}"#;

#[tokio::test]
async fn formulas_stand_for_themselves_and_fail_alone() {
    for engine in [engine(), pooled(EvalConfig::default())] {
        let outcomes = outcomes(&engine, MIXED).await;
        let codes: Vec<&str> = outcomes.iter().map(|o| o.as_ref().map_or_else(|e| e.code.as_str(), |_| "")).collect();
        assert_eq!(codes, ["", "", "", "", "unknown_variable", "division_by_zero", "", "", "unexpected_end"]);
        let values: Vec<Scalar> = outcomes.into_iter().flatten().collect();
        let text = |text: &str| Scalar::String(text.into());
        let expected = [Scalar::Int(16), Scalar::Int(3), Scalar::Float(3.5), Scalar::Int(21), text("X"), text("mine")];
        assert_eq!(values, expected);
        assert_eq!((engine.stats().evaluations, engine.stats().failed), (9, 3));
    }
}

#[tokio::test]
async fn columns_give_a_value_a_row() {
    let engine = engine();
    let json = r#"{"formula":"a * k + b","columns":{"a":[1,2,3],"b":[0.5,1,"x"]},"variables":{"k":2}}"#;
    let outcomes = outcomes(&engine, json).await;
    assert_eq!(outcomes[..2], [Ok(Scalar::Float(2.5)), Ok(Scalar::Int(5))]);
    assert_eq!(outcomes[2].as_ref().unwrap_err().code, "wrong_type");
    assert_eq!(engine.stats().formula_misses, 1, "{:?}", engine.stats());
}

#[tokio::test]
async fn cheap_formulas_stay_and_dear_ones_go_to_the_pool() {
    let engine = engine();
    let long = format!("1{}", "+1".repeat(900));
    for (json, inline) in [
        (r#"{"formula":"1+1"}"#.to_owned(), true),
        (r#"{"formula":"a+1","variables":{"a":1.5}}"#.to_owned(), true),
        (r#"{"formula":"1 +"}"#.to_owned(), true),
        (r#"{"formula":"a","variables":{"a":"text"}}"#.to_owned(), false),
        (r#"{"formula":"\"x\" + \"y\""}"#.to_owned(), false),
        (format!(r#"{{"formula":"{long}"}}"#), false),
        (format!(r#"{{"evaluations":[{}]}}"#, [r#"{"formula":"1"}"#; 17].join(",")), false),
    ] {
        let before = engine.stats();
        outcomes(&engine, &json).await;
        let after = engine.stats();
        assert_eq!(
            (after.inline - before.inline, after.pooled - before.pooled),
            (inline.into(), (!inline).into()),
            "{json}"
        );
    }
}

#[tokio::test]
async fn hostile_formulas_end_as_they_do_in_jobs() {
    let engine = engine();
    let limits = FormulaLimits::default();
    for (name, text) in hostile::cases() {
        let expected = Formula::parse(&text, &limits).and_then(|formula| {
            formula.check(&Symbols::default())?;
            Evaluator::new(&formula, &[], &[], &limits).evaluate_once()
        });
        let outcome = engine.evaluate(EvalRequest::one(text, Default::default())).await.unwrap().pop().unwrap();
        match (expected, outcome) {
            (Ok(Scalar::Float(x)), Ok(Scalar::Float(y))) => assert_eq!(x.to_bits(), y.to_bits(), "{name}"),
            (Ok(expected), Ok(value)) => assert_eq!(expected, value, "{name}"),
            (Err(expected), Err(failure)) => {
                assert_eq!(
                    (expected.code.as_str(), &expected.message),
                    (failure.code.as_str(), &failure.message),
                    "{name}"
                );
                assert_eq!((expected.line, expected.column), (failure.line, failure.column), "{name}");
            }
            (expected, outcome) => panic!("{name}: {expected:?} and {outcome:?}"),
        }
    }
}

#[tokio::test]
async fn parsed_formulas_are_kept_by_what_they_may_name() {
    let engine = engine();
    let ask = |json: &'static str| outcomes(&engine, json);
    for _ in 0..3 {
        assert_eq!(ask(r#"{"formula":"min(a, 1)","variables":{"a":5}}"#).await, [Ok(Scalar::Int(1))]);
    }
    assert_eq!(engine.stats().formula_misses, 1);
    // Neither other names nor another policy find what was checked for these.
    let failed = ask(r#"{"formula":"min(a, 1)","variables":{"b":5}}"#).await;
    assert_eq!(failed[0].as_ref().unwrap_err().code, "unknown_variable");
    let failed = ask(r#"{"formula":"min(a, 1)","variables":{"a":5},"symbols":{"functions":"none"}}"#).await;
    assert_eq!(failed[0].as_ref().unwrap_err().code, "function_not_allowed");
    let failed = ask(r#"{"formula":"min(a, 1)","variables":{"a":5},"symbols":{"vars_only":[["b",null]]}}"#).await;
    assert_eq!(failed[0].as_ref().unwrap_err().code, "variable_not_allowed");
}

#[tokio::test]
async fn values_are_kept_where_asked_for_and_by_every_bit() {
    let engine = engine();
    let ask = async |value: &str, cache: bool| {
        let json = format!(r#"{{"formula":"1.0 / a","variables":{{"a":{value}}},"cache":{cache}}}"#);
        outcomes(&engine, &json).await.pop().unwrap().unwrap()
    };
    assert_eq!(ask("0.0", true).await, Scalar::Float(f64::INFINITY));
    assert_eq!(ask("-0.0", true).await, Scalar::Float(f64::NEG_INFINITY));
    assert_eq!(ask("2", true).await, Scalar::Float(0.5));
    assert_eq!(engine.stats().value_hits, 0);
    assert_eq!(ask("2", true).await, Scalar::Float(0.5));
    assert_eq!((engine.stats().value_hits, engine.stats().value_misses), (1, 3));
    assert_eq!(ask("2", false).await, Scalar::Float(0.5));
    assert_eq!(engine.stats().value_hits, 1);
}

#[tokio::test]
async fn caches_stay_within_their_bytes() {
    let engine = EvalEngine::new(EvalConfig { cache_bytes_max: 1 << 20, ..EvalConfig::default() });
    for number in 0..5_000 {
        let json = format!(r#"{{"formula":"({number}+a)*2","variables":{{"a":{number}}},"cache":true}}"#);
        outcomes(&engine, &json).await;
    }
    assert!(engine.caches.formulas.weight() <= 1 << 20 && engine.caches.values.weight() <= 1 << 20);
    assert!(engine.caches.formulas.len() > 10 && engine.caches.formulas.len() < 5_000);
}

#[tokio::test]
async fn limits_are_named() {
    let engine = EvalEngine::new(EvalConfig { batch_max: 2, ..EvalConfig::default() });
    let too_many = request(&format!(r#"{{"evaluations":[{}]}}"#, [r#"{"formula":"1"}"#; 3].join(",")));
    let error = engine.evaluate(too_many).await.unwrap_err();
    assert_eq!((error.kind, error.code.as_str()), (ErrorKind::TooLarge, "batch_too_large"));
    assert!(error.message.contains("limits.eval_batch_max"), "{error}");
    let names = |prefix: &str| -> String {
        (0..600).map(|index| format!("\"{prefix}{index}\":1")).collect::<Vec<_>>().join(",")
    };
    let too_wide = format!(
        r#"{{"evaluations":[{{"formula":"1","variables":{{{}}}}}],"variables":{{{}}}}}"#,
        names("a"),
        names("b")
    );
    assert_eq!(engine.evaluate(request(&too_wide)).await.unwrap_err().code, "too_many_variables");
}

#[tokio::test]
async fn a_full_queue_refuses_and_says_when_to_come_back() {
    let engine = pooled(EvalConfig { threads: 1, queue_max: 1, ..EvalConfig::default() });
    // One task holds the thread, one the queue.
    let (release, held) = channel::<()>();
    let (started, start) = channel();
    assert!(engine.pool.run(Box::new(move || {
        started.send(()).unwrap();
        let _ = held.recv();
    })));
    start.recv().unwrap();
    let waiting = tokio::spawn({
        let engine = Arc::clone(&engine);
        async move { outcomes(&engine, r#"{"formula":"1+1"}"#).await }
    });
    let deadline = Instant::now() + Duration::from_secs(10);
    while engine.stats().pooled == 0 {
        assert!(Instant::now() < deadline);
        tokio::task::yield_now().await;
    }
    let error = engine.evaluate(request(r#"{"formula":"1"}"#)).await.unwrap_err();
    assert_eq!((error.kind, error.retry_after_s), (ErrorKind::Busy, Some(1)));
    assert!(error.message.contains("limits.eval_queue_max"), "{error}");
    drop(release);
    assert_eq!(waiting.await.unwrap(), [Ok(Scalar::Int(2))]);
    assert_eq!(engine.stats().refused, 1);
}

#[tokio::test]
async fn a_batch_ends_with_its_deadline() {
    let engine = pooled(EvalConfig { deadline: Duration::from_millis(50), ..EvalConfig::default() });
    let slow = hostile::cases().into_iter().find(|(name, _)| *name == "contains_any_at_token_limit").unwrap().1;
    let evaluations = vec![serde_json::json!({ "formula": slow }); 1_000];
    let outcomes = outcomes(&engine, &serde_json::json!({ "evaluations": evaluations }).to_string()).await;
    let late = |outcome: &Outcome| matches!(outcome, Err(failure) if failure.code == "deadline_passed");
    assert_eq!(outcomes.len(), 1_000);
    assert!(!late(&outcomes[0]) && late(&outcomes[999]));
}

#[tokio::test]
async fn a_defect_costs_one_request() {
    let engine = pooled(EvalConfig { threads: 1, ..EvalConfig::default() });
    assert!(engine.pool.run(Box::new(|| panic!("told to panic"))));
    assert_eq!(outcomes(&engine, r#"{"formula":"1+1"}"#).await, [Ok(Scalar::Int(2))]);
}

#[tokio::test]
async fn checks_are_answered() {
    let request: CheckRequest = serde_json::from_str(r#"{"formula":"a*2.0"}"#).unwrap();
    let answer = engine().check(request).await.unwrap();
    assert!(answer.valid && answer.columns.len() == 1);
}

#[tokio::test]
async fn failures_of_one_formula_become_errors_with_their_place() {
    for (formula, kind, column) in [
        ("1 +", ErrorKind::Invalid, Some(4)),
        ("1 / 0", ErrorKind::Evaluation, Some(3)),
        ("b", ErrorKind::Invalid, Some(1)),
    ] {
        let outcome = engine().evaluate(EvalRequest::one(formula, Default::default())).await.unwrap().pop().unwrap();
        let error = failure_error(formula, outcome.unwrap_err());
        assert_eq!((error.kind, error.place.map(|place| place.column)), (kind, column), "{formula}");
    }
}
