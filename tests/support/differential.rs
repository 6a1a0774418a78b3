//! Random formulas over columns full of edges: the engine's tiers against evalexpr's evaluator.
//!
//! Everything comes from a [`Choices`], which draws from a seed or from a fuzzer's bytes, so that a case can be made again.

use quipu_shared::block::{Block, Column, RowState, Values};
use quipu_shared::config::TierChoice;
use quipu_shared::formula::{Evaluator, Formula, FormulaLimits, hostile};
use quipu_shared::spec::{ColumnType, OnError, Scalar};
use quipu_worker::engine::{Engine, Plan};
use std::sync::Arc;

/// Where decisions come from.
pub struct Choices<'a> {
    state: u64,
    /// Bytes of a fuzzer; when they are used up, the seed goes on.
    bytes: &'a [u8],
}

impl<'a> Choices<'a> {
    /// From a seed.
    pub fn from_seed(seed: u64) -> Self {
        Self { state: seed, bytes: &[] }
    }

    /// From a fuzzer's bytes.
    #[allow(dead_code, reason = "the fuzz target's entry")]
    pub fn from_bytes(bytes: &'a [u8]) -> Self {
        Self { state: 0, bytes }
    }

    /// SplitMix64 (Steele, Lea, Flood 2014).
    fn word(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        match self.bytes {
            [first, rest @ ..] => {
                self.bytes = rest;
                usize::from(*first) % n
            }
            [] => (self.word() % n as u64) as usize,
        }
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Type {
    Int,
    Float,
    Boolean,
}

const COLUMNS: [(&str, ColumnType); 8] = [
    ("x", ColumnType::Float),
    ("y", ColumnType::Float),
    ("z", ColumnType::Float),
    ("i", ColumnType::Int),
    ("j", ColumnType::Int),
    ("k", ColumnType::Int),
    ("p", ColumnType::Boolean),
    ("q", ColumnType::Boolean),
];

const FLOAT_FUNCTIONS: [&str; 22] = [
    "math::sin",
    "math::cos",
    "math::tan",
    "math::exp",
    "math::exp2",
    "math::ln",
    "math::log2",
    "math::log10",
    "math::cbrt",
    "math::asin",
    "math::acos",
    "math::atan",
    "math::sinh",
    "math::cosh",
    "math::tanh",
    "math::asinh",
    "math::acosh",
    "math::atanh",
    "math::sqrt",
    "floor",
    "ceil",
    "round",
];

/// A formula's text: most are well typed, some are not, a few are hostile or torn.
fn formula(choices: &mut Choices<'_>) -> String {
    match choices.below(40) {
        0 => {
            let cases = hostile::cases();
            let at = choices.below(cases.len());
            cases[at].1.chars().take(4000).collect()
        }
        1 | 2 => torn(choices),
        3..6 => {
            let ty = choices.pick(&[Type::Int, Type::Float, Type::Boolean]);
            let first = expression(choices, ty, 3);
            let second = expression(choices, ty, 3);
            let sign = choices.pick(&["=", "+=", "-=", "*=", "/=", "%=", "^=", "&&=", "||="]);
            format!("t = {first}; t {sign} {second}; t")
        }
        _ => {
            let ty = choices.pick(&[Type::Int, Type::Float, Type::Float, Type::Boolean]);
            let depth = 2 + choices.below(4);
            expression(choices, ty, depth)
        }
    }
}

/// A formula with a piece of it lost or doubled.
fn torn(choices: &mut Choices<'_>) -> String {
    let text: Vec<char> = expression(choices, Type::Float, 4).chars().collect();
    let from = choices.below(text.len() + 1);
    let to = from + choices.below(text.len() - from + 1);
    let twice = choices.one_in(2);
    text[..if twice { to } else { from }].iter().chain(&text[if twice { from } else { to }..]).collect()
}

fn expression(choices: &mut Choices<'_>, ty: Type, depth: usize) -> String {
    // Now and then something of another type, which is an error or another operation.
    let ty = if choices.one_in(60) { choices.pick(&[Type::Int, Type::Float, Type::Boolean]) } else { ty };
    if depth == 0 || choices.one_in(8) {
        return leaf(choices, ty);
    }
    let below = depth - 1;
    match ty {
        Type::Float => {
            let (a, b) = (expression(choices, Type::Float, below), expression(choices, Type::Float, below));
            match choices.below(12) {
                0..5 => format!("({a} {} {b})", choices.pick(&["+", "-", "*", "/", "%"])),
                5 => format!("({a} ^ {b})"),
                6 => format!("(-{a})"),
                7 | 8 => format!("{}({a})", choices.pick(&FLOAT_FUNCTIONS)),
                9 => format!(
                    "{}({a}, {b})",
                    choices.pick(&["min", "max", "math::atan2", "math::hypot", "math::pow", "math::log"])
                ),
                10 => {
                    let int = expression(choices, Type::Int, below);
                    format!("({a} {} {int})", choices.pick(&["+", "-", "*", "/"]))
                }
                _ => {
                    let condition = expression(choices, Type::Boolean, below);
                    format!("if({condition}, {a}, math::abs({b}))")
                }
            }
        }
        Type::Int => {
            let (a, b) = (expression(choices, Type::Int, below), expression(choices, Type::Int, below));
            match choices.below(10) {
                0..5 => format!("({a} {} {b})", choices.pick(&["+", "-", "*", "/", "%"])),
                5 => format!("(-{a})"),
                6 => format!("{}({a}, {b})", choices.pick(&["bitand", "bitor", "bitxor", "shl", "shr"])),
                7 => format!("{}({a})", choices.pick(&["math::abs", "bitnot"])),
                8 => format!("{}({a}, {b}, {a})", choices.pick(&["min", "max"])),
                _ => {
                    let condition = expression(choices, Type::Boolean, below);
                    format!("if({condition}, {a}, {b})")
                }
            }
        }
        Type::Boolean => match choices.below(8) {
            0..3 => {
                let ty = choices.pick(&[Type::Int, Type::Float]);
                let (a, b) = (expression(choices, ty, below), expression(choices, ty, below));
                format!("({a} {} {b})", choices.pick(&["<", "<=", ">", ">=", "==", "!="]))
            }
            3 | 4 => {
                let (a, b) = (expression(choices, Type::Boolean, below), expression(choices, Type::Boolean, below));
                format!("({a} {} {b})", choices.pick(&["&&", "||", "==", "!="]))
            }
            5 => format!("(!{})", expression(choices, Type::Boolean, below)),
            6 => {
                let (a, b) = (expression(choices, Type::Int, below), expression(choices, Type::Float, below));
                format!("({a} {} {b})", choices.pick(&["<", "<=", ">", ">=", "==", "!="]))
            }
            _ => {
                let test = choices.pick(&["math::is_nan", "math::is_finite", "math::is_infinite", "math::is_normal"]);
                format!("{test}({})", expression(choices, Type::Float, below))
            }
        },
    }
}

fn leaf(choices: &mut Choices<'_>, ty: Type) -> String {
    match (ty, choices.below(3)) {
        (Type::Float, 0) => {
            choices.pick(&["0.0", "1.0", "2.0", "0.5", "1e300", "5e-324", "nan", "inf", "3.7", "bound"]).into()
        }
        (Type::Float, _) => choices.pick(&["x", "y", "z"]).into(),
        (Type::Int, 0) => choices.pick(&["0", "1", "2", "7", "63", "64", "9223372036854775807", "4294967296"]).into(),
        (Type::Int, _) => choices.pick(&["i", "j", "k"]).into(),
        (Type::Boolean, 0) => choices.pick(&["true", "false"]).into(),
        (Type::Boolean, _) => choices.pick(&["p", "q"]).into(),
    }
}

const FLOATS: [f64; 20] = [
    f64::NAN,
    0.0,
    -0.0,
    f64::INFINITY,
    f64::NEG_INFINITY,
    5e-324,
    -5e-324,
    2.2e-308,
    f64::MIN_POSITIVE,
    1.0,
    -1.0,
    0.5,
    -2.5,
    1e300,
    -1e300,
    f64::MAX,
    f64::MIN,
    709.8,
    1e16,
    -0.75,
];
const INTS: [i64; 18] = [
    i64::MIN,
    i64::MIN + 1,
    i64::MAX,
    i64::MAX - 1,
    -1,
    0,
    1,
    2,
    3,
    62,
    63,
    64,
    -64,
    3_037_000_499,
    -3_037_000_500,
    1 << 52,
    (1 << 53) + 1,
    -4_294_967_296,
];

/// Columns of one block: edges, ordinary numbers, or both, with nulls in some.
pub fn block(choices: &mut Choices<'_>, rows: usize) -> Block {
    let mut columns = Vec::new();
    let mut nulls = Vec::new();
    for (_, ty) in COLUMNS {
        let kind = choices.below(3);
        let mut next = || choices.word();
        columns.push(match ty {
            ColumnType::Float => Column::Float(
                (0..rows)
                    .map(|_| match (kind, next()) {
                        (0, word) => FLOATS[(word % 20) as usize],
                        (1, word) => (word >> 11) as f64 / (1_u64 << 50) as f64 - 4.0,
                        (_, word) if word.is_multiple_of(4) => FLOATS[(word / 4 % 20) as usize],
                        (_, word) => f64::from_bits(word),
                    })
                    .collect(),
            ),
            ColumnType::Int => Column::Int(
                (0..rows)
                    .map(|_| match (kind, next()) {
                        (0, word) => INTS[(word % 18) as usize],
                        (1, word) => (word % 2001) as i64 - 1000,
                        (_, word) if word.is_multiple_of(4) => INTS[(word / 4 % 18) as usize],
                        (_, word) => (word as i64) >> (word % 60),
                    })
                    .collect(),
            ),
            _ => Column::Boolean((0..rows).map(|_| next().is_multiple_of(2)).collect()),
        });
        nulls.push(choices.one_in(6).then(|| (0..rows).map(|_| choices.word().is_multiple_of(16)).collect()));
    }
    Block { first_row: 0, len: rows, columns, nulls, bad_rows: Vec::new() }
}

/// Runs one formula over a block on every tier; gives the rows compared, 0 where there is no typed form.
///
/// # Panics
/// Where a tier differs from evalexpr: in a value's bits, its type, or which rows fail.
pub fn compare(choices: &mut Choices<'_>, block: &Block) -> usize {
    let limits = FormulaLimits::default();
    let text = formula(choices);
    let Ok(formula) = Formula::parse(&text, &limits) else { return 0 };
    let columns = COLUMNS.map(|(name, ty)| (name.to_owned(), ty));
    let names = COLUMNS.map(|(name, _)| name.to_owned());
    let bindings = [("bound".to_owned(), Scalar::Float(-1.25))];
    let plans = [TierChoice::Interpreter, TierChoice::Jit]
        .map(|choice| (choice, Arc::new(Plan::new(&formula, &columns, &bindings, &limits, choice))));
    if plans[0].1.typed().is_err() {
        return 0;
    }
    let on_error = choices.pick(&[OnError::Fail, OnError::Null, OnError::Skip]);
    let selected: Option<Vec<bool>> =
        choices.one_in(4).then(|| (0..block.len).map(|_| !choices.word().is_multiple_of(3)).collect());
    let selected = selected.as_deref();
    let expected = Evaluator::new(&formula, &names, &bindings, &limits).evaluate_where(block, selected, on_error);
    for (choice, plan) in &plans {
        let mut values = Values::default();
        Engine::new(plan).evaluate(block, selected, on_error, &mut values);
        assert_eq!(values.states, expected.states, "{choice:?}: states of {text}");
        let failed = |values: &Values| values.errors.iter().map(|error| error.row).collect::<Vec<_>>();
        assert_eq!(failed(&values), failed(&expected), "{choice:?}: failed rows of {text}");
        for (ours, theirs) in values.errors.iter().zip(&expected.errors) {
            assert!(ours == theirs || ours.code.is_empty(), "{choice:?}: {ours:?} for {theirs:?} of {text}");
        }
        compare_values(&values, &expected, &format!("{choice:?}: {text}"), block);
    }
    block.len
}

fn compare_values(ours: &Values, theirs: &Values, what: &str, block: &Block) {
    let valid = || (0..block.len).filter(|row| theirs.states[*row] == RowState::Valid);
    if valid().next().is_none() {
        return;
    }
    let inputs = |row: usize| block.columns.iter().map(|column| column.get(row)).collect::<Vec<_>>();
    match (&ours.column, &theirs.column) {
        (Column::Float(a), Column::Float(b)) => {
            let differs = valid().find(|row| a[*row].to_bits() != b[*row].to_bits());
            assert!(
                differs.is_none(),
                "{what}: {:?} of {:?}",
                differs.map(|row| (a[row], b[row])),
                differs.map(inputs)
            );
        }
        (Column::Int(a), Column::Int(b)) => {
            let differs = valid().find(|row| a[*row] != b[*row]);
            assert!(differs.is_none(), "{what}: {:?}", differs.map(|row| (a[row], b[row], inputs(row))));
        }
        (Column::Boolean(a), Column::Boolean(b)) => {
            let differs = valid().find(|row| a[*row] != b[*row]);
            assert!(differs.is_none(), "{what}: {:?}", differs.map(|row| (a[row], b[row], inputs(row))));
        }
        _ => panic!("{what}: a value of another type"),
    }
}
