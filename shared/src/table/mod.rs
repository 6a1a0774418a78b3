//! Rows that are read: CSV and JSON-lines.
