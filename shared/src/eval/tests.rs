use super::{CheckAnswer, CheckRequest, EvalRequest, EvalSubject, Variables};
use crate::formula::FormulaLimits;
use crate::spec::{ColumnType, Scalar};
use proptest::prelude::{Just, Strategy, any, prop_assert_eq, prop_oneof, proptest};

fn read(json: &str) -> Result<EvalRequest, String> {
    serde_json::from_str(json).map_err(|error| error.to_string())
}

fn variables(json: &str) -> Vec<(String, Scalar)> {
    serde_json::from_str::<Variables>(json).unwrap().0
}

#[test]
fn json_numbers_keep_their_type() {
    let read = variables(
        r#"{"a":2,"b":2.0,"c":2e0,"d":-9223372036854775808,"e":9223372036854775808,"f":true,"g":"NaN","h":null,
            "i":[1,[2.5,"x"]],"j":{"float":2},"k":{"float":"-inf"},"l":{"int":3},"m":{"tuple":[{"float":1}]}}"#,
    );
    let float = Scalar::Float;
    let expected = [
        Scalar::Int(2),
        float(2.0),
        float(2.0),
        Scalar::Int(i64::MIN),
        float(9_223_372_036_854_775_808.0),
        Scalar::Boolean(true),
        Scalar::String("NaN".into()),
        Scalar::Empty,
        Scalar::Tuple(vec![Scalar::Int(1), Scalar::Tuple(vec![float(2.5), Scalar::String("x".into())])]),
        float(2.0),
        float(f64::NEG_INFINITY),
        Scalar::Int(3),
        Scalar::Tuple(vec![float(1.0)]),
    ];
    assert_eq!(read.into_iter().map(|(_, value)| value).collect::<Vec<_>>(), expected);
}

#[test]
fn members_say_what_is_asked_for() {
    let one = read(r#"{"formula":"a","variables":{"a":1}}"#).unwrap();
    assert_eq!((&one.subject, one.evaluations()), (&EvalSubject::One("a".into()), 1));
    let rows = read(r#"{"formula":"a+b","columns":{"a":[1,2],"b":[0.5,1.5]}}"#).unwrap();
    assert!(matches!(rows.subject, EvalSubject::Rows(..)) && rows.evaluations() == 2);
    let many = read(r#"{"evaluations":[{"formula":"1"},{"formula":"a","variables":{"a":1}}],"cache":true}"#).unwrap();
    assert!(many.cache && many.evaluations() == 2);
    for (json, said) in [
        ("{}", "give `formula`"),
        (r#"{"formula":"1","evaluations":[]}"#, "give `formula`"),
        (r#"{"columns":{"a":[1]}}"#, "give `formula`"),
        (r#"{"formula":"1","columns":{}}"#, "no column"),
        (r#"{"formula":"1","columns":{"a":[1],"b":[]}}"#, "one length"),
        (r#"{"formula":"1","variables":{"a":1,"b":2,"a":3}}"#, "\"a\" is given twice"),
        (r#"{"formula":"1","variables":{"a":{"flot":3}}}"#, "flot"),
        (r#"{"formula":"1","variables":[]}"#, "an object of names and values"),
        (r#"{"formula":"1","formulas":[]}"#, "formulas"),
    ] {
        let error = read(json).unwrap_err();
        assert!(error.contains(said), "{json}: {error}");
    }
}

#[test]
fn names_are_bounded() {
    let object = |count: usize| {
        let members: Vec<String> = (0..count).map(|index| format!("\"v{index}\":1")).collect();
        format!("{{{}}}", members.join(","))
    };
    assert_eq!(variables(&object(super::VARIABLES_MAX)).len(), super::VARIABLES_MAX);
    let error = serde_json::from_str::<Variables>(&object(super::VARIABLES_MAX + 1)).unwrap_err().to_string();
    assert!(error.contains("more than 1000 names"), "{error}");
}

fn scalars() -> impl Strategy<Value = Scalar> {
    let flat = prop_oneof![
        any::<i64>().prop_map(Scalar::Int),
        any::<f64>().prop_filter("NaN is no equal", |x| !x.is_nan()).prop_map(Scalar::Float),
        any::<bool>().prop_map(Scalar::Boolean),
        any::<String>().prop_map(Scalar::String),
        Just(Scalar::Empty),
    ];
    flat.prop_recursive(3, 16, 4, |inner| proptest::collection::vec(inner, 0..4).prop_map(Scalar::Tuple))
}

proptest! {
    #[test]
    fn requests_read_back(value in scalars(), column in proptest::collection::vec(scalars(), 0..4)) {
        let variables = Variables(vec![("a".into(), value.clone()), ("b".into(), Scalar::Int(1))]);
        let one = EvalRequest::one("a+b", variables.clone());
        let rows = EvalRequest { subject: EvalSubject::Rows("c".into(), vec![("c".into(), column)]), ..one.clone() };
        for request in [one, rows] {
            let json = serde_json::to_string(&request).unwrap();
            prop_assert_eq!(read(&json).unwrap(), request);
        }
    }
}

fn check(json: &str) -> CheckAnswer {
    let request: CheckRequest = serde_json::from_str(json).unwrap();
    CheckAnswer::of(&request, &FormulaLimits::default())
}

#[test]
fn a_check_tells_what_explain_does() {
    let answer = check(r#"{"formula":"n / 2 + b","types":{"n":"int"},"variables":{"b":3}}"#);
    assert!(answer.valid && answer.error.is_none());
    assert_eq!((answer.ty, answer.columns.len()), (Some(ColumnType::Int), 1));
    assert!(answer.notes[0].contains("drops the fraction"), "{:?}", answer.notes);
    assert!(answer.cost_ns_per_row.unwrap() > 0.0 && answer.typed_form.unwrap().len() > 2);
    let text = check(r#"{"formula":"str::to_uppercase(name)","types":{"name":"string"}}"#);
    assert!(text.valid && text.ty.is_none() && text.because.is_some() && text.typed_form.is_none());
}

#[test]
fn a_check_of_a_bad_formula_names_the_place() {
    let answer = check(r#"{"formula":"1 +"}"#);
    let error = answer.error.unwrap();
    assert_eq!((answer.valid, error.code.as_str(), error.column), (false, "unexpected_end", Some(4)));
    let answer = check(r#"{"formula":"a + foo(1)"}"#);
    assert_eq!((answer.error.unwrap().column, answer.columns[0].name.as_str()), (Some(5), "a"));
    let answer = check(r#"{"formula":"a + math::sin(1.0)","symbols":{"functions":"none"}}"#);
    assert_eq!(answer.error.unwrap().code, "function_not_allowed");
}
