//! Values and formulas drawn from a seed.

use quipu_shared::formula::typed::ValueType;

/// Where the operations have their corners.
const FLOATS: [f64; 24] = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.5,
    -0.5,
    1.5,
    2.5,
    -2.5,
    0.499_999_999_999_999_94,
    -0.499_999_999_999_999_94,
    4_503_599_627_370_495.5,
    -4_503_599_627_370_497.0,
    f64::MIN_POSITIVE,
    -f64::MIN_POSITIVE,
    5e-324,
    -1e-310,
    f64::MAX,
    f64::MIN,
    f64::INFINITY,
    f64::NEG_INFINITY,
    9_223_372_036_854_775_807.0,
    1e-5,
    700.0,
];

const NANS: [u64; 3] = [0x7ff8_0000_0000_0000, 0xfff8_0000_0000_0000, 0x7ff0_0000_0000_1234];

const INTS: [i64; 16] =
    [0, 1, -1, 2, -2, 3, 7, 62, 63, 64, -63, i64::MAX, i64::MIN, i64::MAX - 1, i64::MIN + 1, 9_007_199_254_740_993];

/// A stream of choices: splitmix64.
pub struct Generator(pub u64);

impl Generator {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn one_of<T: Copy>(&mut self, values: &[T]) -> T {
        values[self.below(values.len())]
    }

    /// Bits of a value: a corner, something of everyday size, or any bits.
    pub fn value(&mut self, ty: ValueType) -> u64 {
        let kind = self.below(8);
        let small = self.next() as i64 % 1000;
        match (ty, kind) {
            (ValueType::Boolean, _) => self.next() & 1,
            (ValueType::Float, 0) => self.one_of(&NANS),
            (ValueType::Float, 1..4) => self.one_of(&FLOATS).to_bits(),
            (ValueType::Float, 4..7) => (small as f64 / 16.0).to_bits(),
            (ValueType::Int, 0..2) => self.one_of(&INTS) as u64,
            (ValueType::Int, 2..7) => small as u64,
            _ => self.next(),
        }
    }

    /// The text of a formula of a type, of so many levels at most.
    pub fn formula(&mut self, ty: ValueType, levels: usize) -> String {
        if levels == 0 || self.below(8) == 0 {
            return self.leaf(ty);
        }
        let levels = levels - 1;
        match ty {
            ValueType::Float => self.float(levels),
            ValueType::Int => self.int(levels),
            ValueType::Boolean => self.boolean(levels),
        }
    }

    fn leaf(&mut self, ty: ValueType) -> String {
        match ty {
            ValueType::Float => self.one_of(&["x", "y", "z", "x", "y", "1.5", "0.1", "2.0", "1e300"]),
            ValueType::Int => self.one_of(&["i", "j", "k", "i", "j", "1", "3", "1000", "62", "9223372036854775807"]),
            ValueType::Boolean => self.one_of(&["p", "q", "true", "false"]),
        }
        .to_string()
    }

    fn float(&mut self, levels: usize) -> String {
        let a = self.formula(ValueType::Float, levels);
        let kind = self.below(16);
        if kind == 0 {
            let condition = self.formula(ValueType::Boolean, levels);
            let b = self.formula(ValueType::Float, levels);
            return format!("if({condition}, {a}, {b})");
        }
        if kind < 4 {
            let int = self.formula(ValueType::Int, levels);
            let operator = self.one_of(&["+", "*", "-", "/"]);
            return format!("({int} {operator} {a})");
        }
        if kind < 7 {
            let function = self.one_of(&[
                "floor",
                "ceil",
                "round",
                "math::sqrt",
                "math::abs",
                "-",
                "math::sin",
                "math::exp",
                "math::ln",
            ]);
            return format!("{function}({a})");
        }
        let b = self.formula(ValueType::Float, levels);
        if kind < 9 {
            let function = self.one_of(&["min", "max", "math::atan2", "math::pow", "math::hypot"]);
            return format!("{function}({a}, {b})");
        }
        let operator = self.one_of(&["+", "-", "*", "/", "+", "-", "*", "/", "%", "^"]);
        format!("({a} {operator} {b})")
    }

    fn int(&mut self, levels: usize) -> String {
        let a = self.formula(ValueType::Int, levels);
        let kind = self.below(12);
        if kind == 0 {
            let condition = self.formula(ValueType::Boolean, levels);
            let b = self.formula(ValueType::Int, levels);
            return format!("if({condition}, {a}, {b})");
        }
        if kind < 3 {
            let function = self.one_of(&["math::abs", "-", "bitnot"]);
            return format!("{function}({a})");
        }
        let b = self.formula(ValueType::Int, levels);
        if kind < 6 {
            let function = self.one_of(&["min", "max", "bitand", "bitor", "bitxor", "shl", "shr"]);
            return format!("{function}({a}, {b})");
        }
        let operator = self.one_of(&["+", "-", "+", "-", "*", "/", "%"]);
        format!("({a} {operator} {b})")
    }

    fn boolean(&mut self, levels: usize) -> String {
        match self.below(6) {
            0 => {
                let a = self.formula(ValueType::Boolean, levels);
                format!("!({a})")
            }
            1 => {
                let (a, b) = (self.formula(ValueType::Boolean, levels), self.formula(ValueType::Boolean, levels));
                let operator = self.one_of(&["&&", "||", "==", "!="]);
                format!("({a} {operator} {b})")
            }
            2 => {
                let a = self.formula(ValueType::Float, levels);
                let function =
                    self.one_of(&["math::is_nan", "math::is_finite", "math::is_infinite", "math::is_normal"]);
                format!("{function}({a})")
            }
            kind => {
                let ty = if kind == 3 { ValueType::Int } else { ValueType::Float };
                let (a, b) = (self.formula(ty, levels), self.formula(ty, levels));
                let operator = self.one_of(&["==", "!=", "<", "<=", ">", ">="]);
                format!("({a} {operator} {b})")
            }
        }
    }
}
