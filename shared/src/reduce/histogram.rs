//! Counts in equal bins: half open, the last one closed.

use super::error::ReduceError;
use super::kernels::{self, PIECE};
use super::lanes::Mask;
use super::parse::{BINS_MAX, argument};
use super::partial;
use serde::{Deserialize, Serialize};

/// What `histogram` keeps.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Histogram {
    /// One more than bins, strictly rising.
    edges: Vec<f64>,
    bins_per_unit: f64,
    counts: Vec<u64>,
    under: u64,
    over: u64,
    nan: u64,
}

/// [`Histogram`] as it travels; its edges follow from the reduction.
#[derive(Serialize, Deserialize)]
pub(super) struct HistogramForm {
    #[serde(deserialize_with = "partial::bins")]
    counts: Vec<u64>,
    under: u64,
    over: u64,
    nan: u64,
}

/// Refuses a histogram that has no bins, too many, or bins that floats can't tell apart.
pub(super) fn check(lo: f64, hi: f64, bins: u32) -> Result<(), ReduceError> {
    let refuse = |problem: String| Err(argument("histogram", problem));
    if bins == 0 {
        return refuse("there must be at least one bin".into());
    }
    if bins > BINS_MAX {
        return Err(ReduceError::TooManyBins(bins.into()));
    }
    if !lo.is_finite() || !hi.is_finite() {
        return refuse(format!("the edges {lo} and {hi} are not both finite"));
    }
    if lo >= hi {
        return refuse(format!("the lower edge {lo} is not below the upper edge {hi}"));
    }
    if !(hi - lo).is_finite() || !(f64::from(bins) / (hi - lo)).is_finite() {
        return refuse(format!("the distance between {lo} and {hi} is too large or too small for floats"));
    }
    let mut previous = lo;
    for i in 1..=bins {
        let next = edge(lo, hi, bins, i);
        if next <= previous {
            return refuse(format!("{bins} bins between {lo} and {hi} are narrower than floats can tell; take fewer"));
        }
        previous = next;
    }
    Ok(())
}

fn edge(lo: f64, hi: f64, bins: u32, i: u32) -> f64 {
    if i == bins { hi } else { lo + (hi - lo) * (f64::from(i) / f64::from(bins)) }
}

impl Histogram {
    /// An empty one; the arguments have passed [`check`].
    pub(super) fn new(lo: f64, hi: f64, bins: u32) -> Self {
        Self {
            edges: (0..=bins).map(|i| edge(lo, hi, bins, i)).collect(),
            bins_per_unit: f64::from(bins) / (hi - lo),
            counts: vec![0; bins as usize],
            under: 0,
            over: 0,
            nan: 0,
        }
    }

    pub(super) fn push<M: Mask>(&mut self, values: &[f64], mask: M) {
        let bins = self.counts.len();
        let last = bins - 1;
        let (lo, hi) = (self.edges[0], self.edges[bins]);
        let mut near = [0; PIECE];
        // Under, over, NaN: as the kernel numbers them behind the last bin.
        let mut outside = [0_u64; 3];
        for (p, piece) in values.chunks(PIECE).enumerate() {
            // At most BINS_MAX bins, far below 2^32.
            kernels::bins_near(piece, &mut near, (lo, hi), self.bins_per_unit, last as u32);
            for (i, (x, near)) in piece.iter().zip(near).enumerate() {
                let counts = M::DENSE || mask.valid(p * PIECE + i);
                let mut bin = near as usize;
                if bin > last {
                    if let Some(outside) = outside.get_mut(bin - bins) {
                        *outside += u64::from(counts);
                    }
                    continue;
                }
                // Rounding puts a few values next to the bin whose edges enclose the value; the edges decide.
                while *x < self.edges[bin] {
                    bin -= 1;
                }
                while *x >= self.edges[bin + 1] && bin < last {
                    bin += 1;
                }
                self.counts[bin] = self.counts[bin].wrapping_add(u64::from(counts));
            }
        }
        for (total, more) in [&mut self.under, &mut self.over, &mut self.nan].into_iter().zip(outside) {
            *total = total.wrapping_add(more);
        }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine = mine.saturating_add(*theirs);
        }
        self.under = self.under.saturating_add(other.under);
        self.over = self.over.saturating_add(other.over);
        self.nan = self.nan.saturating_add(other.nan);
    }

    pub(super) fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "edges": self.edges, "counts": self.counts, "under": self.under, "over": self.over, "nan": self.nan,
        })
    }

    pub(super) fn to_form(&self) -> HistogramForm {
        HistogramForm { counts: self.counts.clone(), under: self.under, over: self.over, nan: self.nan }
    }

    /// Takes the counts; `None` where there are not as many as bins.
    pub(super) fn with_form(self, form: HistogramForm) -> Option<Self> {
        let fits = form.counts.len() == self.counts.len();
        fits.then_some(Self { counts: form.counts, under: form.under, over: form.over, nan: form.nan, ..self })
    }
}
