//! Tests of the math functions: their accuracy, their edges, and that blocks have the bits of single values.

mod accuracy;
mod arguments;
mod bits;
mod edges;
mod reference;
