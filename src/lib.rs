//! Quipu as a library.

pub mod client;
