//! Jobs as the master knows them: what was asked, how far it is, what came out.

pub mod admission;
pub mod entry;
pub mod history;
pub mod index;
pub mod opening;
pub mod results;
pub mod view;
