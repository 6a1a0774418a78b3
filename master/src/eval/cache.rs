//! What is kept between requests: parsed formulas, and values where that was asked for. Both within a number of bytes.
//!
//! Keys are digests, so that a long formula costs its bytes once, and nobody can make two things share a place.

use super::Names;
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use quipu_shared::eval::Outcome;
use quipu_shared::formula::Formula;
use quipu_shared::spec::{Scalar, SymbolPolicy};
use std::sync::Arc;

/// What an entry takes beside its content: its key twice, its place among the others.
const ENTRY_BYTES: usize = 160;
/// Size of entries by which the caches lay out their shards; a formula of ten nodes takes about this.
const ENTRY_BYTES_GUESS: u64 = 4 << 10;

/// Kept formulas and values.
pub(super) struct Caches {
    pub(super) formulas: Cache<FormulaKey, Formula, ByBytes>,
    pub(super) values: Cache<ValueKey, Arc<Outcome>, ByBytes>,
}

impl Caches {
    /// With so many bytes for each of the two.
    pub(super) fn new(bytes_max: u64) -> Self {
        let items = usize::try_from((bytes_max / ENTRY_BYTES_GUESS).max(1)).unwrap_or(usize::MAX);
        Self {
            formulas: Cache::with_weighter(items, bytes_max, ByBytes),
            values: Cache::with_weighter(items, bytes_max, ByBytes),
        }
    }
}

/// Names a formula, the names that it can see, and what it may name: all that parsing and checking depend on.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct FormulaKey([u8; 32]);

impl FormulaKey {
    pub(super) fn new(text: &str, names: Names<'_>, policy: &SymbolPolicy) -> Self {
        let mut digest = Digest::new(text, policy);
        for name in names.iter() {
            digest.text(name);
        }
        Self(digest.finish())
    }
}

/// Names a formula with its variables' values: all that its value depends on.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct ValueKey([u8; 32]);

impl ValueKey {
    pub(super) fn new(text: &str, variables: &[(String, Scalar)], policy: &SymbolPolicy) -> Self {
        let mut digest = Digest::new(text, policy);
        for (name, value) in variables {
            digest.text(name);
            digest.value(value);
        }
        Self(digest.finish())
    }
}

/// A digest of parts, each with its length, so that no two lists of parts are one text.
struct Digest(blake3::Hasher);

impl Digest {
    fn new(text: &str, policy: &SymbolPolicy) -> Self {
        let mut digest = Self(blake3::Hasher::new());
        digest.text(text);
        digest.0.update(&[policy.functions as u8, u8::from(policy.vars_only.is_some())]);
        let allowed = policy.vars_only.as_deref().unwrap_or_default();
        digest.length(allowed.len());
        for (name, ty) in allowed {
            digest.text(name);
            digest.0.update(&[ty.map_or(u8::MAX, |ty| ty as u8)]);
        }
        digest
    }

    fn length(&mut self, length: usize) {
        self.0.update(&(length as u64).to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        self.length(text.len());
        self.0.update(text.as_bytes());
    }

    fn value(&mut self, value: &Scalar) {
        match value {
            Scalar::Int(value) => self.tagged(0, value.to_le_bytes()),
            // By its bits: 0.0 and -0.0 are two values.
            Scalar::Float(value) => self.tagged(1, value.to_bits().to_le_bytes()),
            Scalar::Boolean(value) => self.tagged(2, u64::from(*value).to_le_bytes()),
            Scalar::String(text) => {
                self.tagged(3, (text.len() as u64).to_le_bytes());
                self.0.update(text.as_bytes());
            }
            Scalar::Tuple(values) => {
                self.tagged(4, (values.len() as u64).to_le_bytes());
                for value in values {
                    self.value(value);
                }
            }
            Scalar::Empty => self.tagged(5, [0; 8]),
        }
    }

    fn tagged(&mut self, tag: u8, bytes: [u8; 8]) {
        self.0.update(&[tag]);
        self.0.update(&bytes);
    }

    fn finish(self) -> [u8; 32] {
        self.0.finalize().into()
    }
}

/// Weighs entries by their bytes.
#[derive(Clone)]
pub(super) struct ByBytes;

impl Weighter<FormulaKey, Formula> for ByBytes {
    fn weight(&self, _: &FormulaKey, formula: &Formula) -> u64 {
        (ENTRY_BYTES + formula.memory_bytes()) as u64
    }
}

impl Weighter<ValueKey, Arc<Outcome>> for ByBytes {
    fn weight(&self, _: &ValueKey, outcome: &Arc<Outcome>) -> u64 {
        let bytes = match &**outcome {
            Ok(value) => value_bytes(value),
            Err(failure) => failure.code.len() + failure.message.len(),
        };
        (ENTRY_BYTES + size_of::<Outcome>() + bytes) as u64
    }
}

fn value_bytes(value: &Scalar) -> usize {
    match value {
        Scalar::String(text) => text.len(),
        Scalar::Tuple(values) => values.iter().map(|value| size_of::<Scalar>() + value_bytes(value)).sum(),
        _ => 0,
    }
}
