//! Where a table's bytes are kept and where its records begin.

pub mod table_index;
pub mod uploads;
