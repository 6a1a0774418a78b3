//! Quipu as a library.

pub mod client;
pub mod embedded;
