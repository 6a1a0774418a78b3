//! What comes of a job.

use crate::library::error::Error;
use bytes::Bytes;
use quipu_shared::service::JobView;
use serde_json::Value;

/// The whole output of a job.
#[derive(Clone, Debug)]
pub struct Output {
    text: String,
    job: JobView,
}

impl Output {
    pub(crate) fn new(bytes: Bytes, job: JobView) -> Result<Self, Error> {
        let text = String::from_utf8(bytes.into()).map_err(|error| Error::Results(error.to_string()))?;
        Ok(Self { text, job })
    }

    /// The output as the cluster rendered it: a JSON document of reductions, or rows in the job's format.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The job at its end: rows, failed rows, times.
    pub fn job(&self) -> &JobView {
        &self.job
    }

    /// The value of a reduction, by its name as it was asked for (`sum`, `quantile(0.5)`).
    ///
    /// Floats that JSON has no number for are `"NaN"`, `"inf"` and `"-inf"`.
    pub fn reduction(&self, name: &str) -> Option<Value> {
        let mut document: Value = serde_json::from_str(&self.text).ok()?;
        document.get_mut("result")?.get_mut(name).map(Value::take)
    }

    /// The rows of a job without reductions, as JSON objects; the builders ask for this form.
    pub fn rows(&self) -> impl Iterator<Item = Result<Value, Error>> + '_ {
        self.text.lines().map(|line| serde_json::from_str(line).map_err(|error| Error::Results(error.to_string())))
    }
}
