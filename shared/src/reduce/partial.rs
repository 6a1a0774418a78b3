//! Partials as bytes: one byte of version, then postcard.

use super::error::ReduceError;
use super::extremes::{Cell, End, Extreme, ExtremeForm};
use super::histogram::HistogramForm;
use super::moments::{NodeForm, Tree};
use super::parse::{BINS_MAX, REDUCTIONS_MAX};
use super::sketch::{BUCKETS, Sketch, SketchForm};
use super::sum::{Squares, Sums, SumsForm};
use super::{ReducerSet, Truth};
use crate::spec::Reduction;
use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use std::fmt;
use std::marker::PhantomData;

/// Version of the form below; a change of any law or form raises it.
const PARTIAL_VERSION: u8 = 2;
/// The largest partial that is read. A sketch with every bucket of both signs is 25 MB, a full histogram 1 MB.
pub const PARTIAL_BYTES_MAX: usize = 32 << 20;

/// Names of inputs, far above the columns of any table that is worth a formula.
const INPUTS_MAX: usize = 1 << 16;
/// Nodes of the tree of blocks: a shard has a hundred at most, and shards merge as they come.
const NODES_MAX: usize = 1 << 18;

#[derive(Serialize, Deserialize)]
struct Form {
    #[serde(deserialize_with = "bounded::<_, _, REDUCTIONS_MAX>")]
    reductions: Vec<Reduction>,
    #[serde(deserialize_with = "bounded::<_, _, INPUTS_MAX>")]
    inputs: Vec<String>,
    exact: bool,
    count: u64,
    truths: u64,
    falsehoods: u64,
    sums: Option<SumsForm>,
    squares: Option<Vec<u8>>,
    #[serde(deserialize_with = "bounded::<_, _, NODES_MAX>")]
    nodes: Vec<NodeForm>,
    lowest: Option<ExtremeForm>,
    highest: Option<ExtremeForm>,
    histogram: Option<HistogramForm>,
    sketch: Option<SketchForm>,
}

/// Reads a list of at most `MAX` elements: elements of a byte each may take forty in memory.
fn bounded<'de, D: Deserializer<'de>, T: Deserialize<'de>, const MAX: usize>(d: D) -> Result<Vec<T>, D::Error> {
    struct Bounded<T, const MAX: usize>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for Bounded<T, MAX> {
        type Value = Vec<T>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "at most {MAX} elements")
        }
        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<T>, A::Error> {
            let mut list = Vec::new();
            while let Some(element) = seq.next_element()? {
                if list.len() == MAX {
                    return Err(A::Error::invalid_length(MAX, &self));
                }
                list.push(element);
            }
            Ok(list)
        }
    }

    d.deserialize_seq(Bounded::<T, MAX>(PhantomData))
}

/// Of a histogram's counts.
pub(super) fn bins<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<u64>, D::Error> {
    bounded::<_, _, { BINS_MAX as usize }>(d)
}

/// Of a sketch's buckets of one sign.
pub(super) fn buckets<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<(u64, u64)>, D::Error> {
    bounded::<_, _, { BUCKETS as usize }>(d)
}

/// Of a row's inputs.
pub(super) fn cells<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<Cell>, D::Error> {
    bounded::<_, _, INPUTS_MAX>(d)
}

impl ReducerSet {
    /// The partial as bytes: the same for the same rows, whatever the order of pushing and merging.
    pub fn to_bytes(&self) -> Vec<u8> {
        let form = Form {
            reductions: self.reductions.clone(),
            inputs: self.inputs.clone(),
            exact: self.exact,
            count: self.count,
            truths: self.truth.truths,
            falsehoods: self.truth.falsehoods,
            sums: self.sums.as_ref().map(Sums::to_form),
            squares: self.squares.as_ref().map(Squares::to_bytes),
            nodes: self.moments.as_ref().map(Tree::to_form).unwrap_or_default(),
            lowest: self.lowest.as_ref().and_then(Extreme::to_form),
            highest: self.highest.as_ref().and_then(Extreme::to_form),
            histogram: self.histogram.as_ref().map(super::histogram::Histogram::to_form),
            sketch: self.sketch.as_ref().map(Sketch::to_form),
        };
        // Writing into memory has no errors, and every length in the form is known.
        postcard::to_extend(&form, vec![PARTIAL_VERSION]).unwrap_or_default()
    }

    /// Reads a partial.
    ///
    /// # Errors
    /// For bytes that [`ReducerSet::to_bytes`] of this version would not write. Memory stays within a small multiple of
    /// the bytes given, whatever lengths they claim.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ReduceError> {
        if bytes.len() > PARTIAL_BYTES_MAX {
            return Err(ReduceError::TooLarge(bytes.len()));
        }
        let (&version, rest) = bytes.split_first().ok_or(ReduceError::Corrupt("it is empty"))?;
        if version != PARTIAL_VERSION {
            return Err(ReduceError::Version { found: version, known: PARTIAL_VERSION });
        }
        let (form, left): (Form, _) =
            postcard::take_from_bytes(rest).map_err(|_| ReduceError::Corrupt("it is cut short or damaged"))?;
        if !left.is_empty() {
            return Err(ReduceError::Corrupt("it goes on after its end"));
        }
        Self::from_form(form)
    }

    fn from_form(form: Form) -> Result<Self, ReduceError> {
        const CONTRADICTION: ReduceError = ReduceError::Corrupt("it contradicts its reductions");
        let empty = Self::new(&form.reductions, &form.inputs, form.exact)?;
        let inputs = if empty.wants_inputs { form.inputs.len() } else { 0 };
        let extreme = |end, wanted: bool, form: Option<ExtremeForm>| match (wanted, form) {
            (true, form) => Extreme::from_form(end, form, inputs).map(Some).ok_or(CONTRADICTION),
            (false, None) => Ok(None),
            (false, Some(_)) => Err(CONTRADICTION),
        };
        let present = form.sums.is_some() == empty.sums.is_some()
            && form.squares.is_some() == empty.squares.is_some()
            && (form.nodes.is_empty() || empty.moments.is_some())
            && form.histogram.is_some() == empty.histogram.is_some()
            && form.sketch.is_some() == empty.sketch.is_some();
        if !present {
            return Err(CONTRADICTION);
        }
        let sums = form.sums.as_ref().map(|form| Sums::from_form(form).ok_or(CONTRADICTION)).transpose()?;
        let squares = form.squares.as_ref().map(|bytes| Squares::from_bytes(bytes).ok_or(CONTRADICTION)).transpose()?;
        let tree = || Tree::from_form(&form.nodes).ok_or(CONTRADICTION);
        Ok(Self {
            exact: form.exact,
            count: form.count,
            truth: Truth { truths: form.truths, falsehoods: form.falsehoods },
            sums,
            squares,
            moments: empty.moments.is_some().then(tree).transpose()?,
            lowest: extreme(End::Lowest, empty.lowest.is_some(), form.lowest)?,
            highest: extreme(End::Highest, empty.highest.is_some(), form.highest)?,
            histogram: match (empty.histogram, form.histogram) {
                (Some(histogram), Some(form)) => Some(histogram.with_form(form).ok_or(CONTRADICTION)?),
                _ => None,
            },
            sketch: form.sketch.as_ref().map(|form| Sketch::from_form(form).ok_or(CONTRADICTION)).transpose()?,
            reductions: form.reductions,
            inputs: form.inputs,
            wants_inputs: empty.wants_inputs,
            wants_numbers: empty.wants_numbers,
            wants_booleans: empty.wants_booleans,
            scratch: empty.scratch,
        })
    }
}
