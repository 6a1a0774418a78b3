//! Quipu as a library.
