//! Who may ask: tokens, the sessions of browsers, and the log of who did what. How that is asked over HTTP is
//! [`crate::http`]'s.

pub mod audit;
pub mod sessions;
pub mod tokens;
