//! The library's own types; `lib.rs` names what is public.

pub mod cluster;
pub mod error;
pub mod jobs;
pub mod output;
