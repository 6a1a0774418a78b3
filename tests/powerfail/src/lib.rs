//! A file system in memory that forgets, when its power is cut, whatever was not synced.
//!
//! [`disk`] is the model, pure and without a mount: what is seen now, what would be found after a power cut, and what
//! README.md says what is modelled and what is not.

pub mod chance;
pub mod control;
pub mod disk;
pub mod file;
pub mod mount;
