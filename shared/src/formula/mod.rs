//! Formulas: evalexpr behind guards.
