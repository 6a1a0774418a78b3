//! The one place where a decoder's panic is caught.
//!
//! The decoders of `parquet` and `arrow-*` check most of what they read, but not all of it; a file that is not what it
//! says must never end a thread. What was decoded halfway is dropped with the error, so that nothing broken is used.

use crate::spec::TableFormat;
use crate::table::TableError;
use std::any::Any;
use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs a decoder over bytes that nobody vouches for.
pub(crate) fn guarded<T, E: Display>(
    format: TableFormat,
    decode: impl FnOnce() -> Result<T, E>,
) -> Result<T, TableError> {
    match catch_unwind(AssertUnwindSafe(decode)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(invalid(format, error)),
        Err(panic) => Err(invalid(format, format_args!("the decoder gave up: {}", reason(&*panic)))),
    }
}

/// The error of a file that is not what it says.
pub(crate) fn invalid(format: TableFormat, reason: impl Display) -> TableError {
    TableError::Columnar { format: name(format), reason: reason.to_string() }
}

/// The format as people call it.
pub(crate) fn name(format: TableFormat) -> &'static str {
    match format {
        TableFormat::Csv => "CSV",
        TableFormat::Ndjson => "JSON-lines",
        TableFormat::Parquet => "Parquet",
        TableFormat::Arrow => "Arrow IPC",
    }
}

fn reason(panic: &(dyn Any + Send)) -> &str {
    panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::guarded;
    use crate::spec::TableFormat;

    #[test]
    fn panics_and_errors_become_errors_of_the_table() {
        let panicked = guarded(TableFormat::Parquet, || -> Result<(), String> { panic!("index 7") });
        let message = panicked.unwrap_err().to_string();
        assert!(message.contains("Parquet") && message.contains("index 7"), "{message}");
        let failed = guarded(TableFormat::Parquet, || Err::<(), _>("too short"));
        assert!(failed.unwrap_err().to_string().contains("too short"));
        assert_eq!(guarded(TableFormat::Parquet, || Ok::<_, String>(7)).unwrap(), 7);
    }
}
