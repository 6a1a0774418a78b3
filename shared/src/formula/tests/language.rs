//! The language is evalexpr's.

use super::eval;
use crate::spec::Scalar;

#[test]
fn precedence_is_arithmetic() {
    assert_eq!(eval("10 + 2 * 3"), Ok(Scalar::Int(16)));
    assert_eq!(eval("2^3^2"), Ok(Scalar::Float(64.0)));
    assert_eq!(eval("a=2.0; a^=3; a"), Ok(Scalar::Float(8.0)));
}
