//! Philox4x32-10: random bits as a pure function of key and counter.
//!
//! Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3" (2011). Nothing but 32-bit integer
//! arithmetic, so the bits are the same everywhere.

const ROUNDS: usize = 10;
const MULTIPLIERS: [u32; 2] = [0xd251_1f53, 0xcd9e_8d57];
const KEY_STEPS: [u32; 2] = [0x9e37_79b9, 0xbb67_ae85];
/// Counters that are worked on side by side.
const WIDTH: usize = 8;

/// The random words of one variable.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stream {
    key: [u32; 2],
}

impl Stream {
    /// The key is the first eight bytes of BLAKE3 over a tag, the seed and the name.
    pub(super) fn new(seed: u64, name: &str) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"quipu/v1/draw").update(&seed.to_le_bytes()).update(name.as_bytes());
        let hash = hasher.finalize();
        let (words, _) = hash.as_bytes().as_chunks::<4>();
        Self { key: [u32::from_le_bytes(words[0]), u32::from_le_bytes(words[1])] }
    }

    /// The word of draw `i` at its `attempt`-th try: half of the block at counter (i / 2, attempt).
    pub(super) fn word(&self, i: u64, attempt: u32) -> u64 {
        let [low, high] = self.pairs::<1>(i / 2, attempt)[0];
        if i.is_multiple_of(2) { low } else { high }
    }

    /// The words of draws from `first` on, at their first try.
    pub(super) fn words(&self, first: u64, out: &mut [u64]) {
        // The second half of a block, where the range begins with it.
        let odd = usize::from(!first.is_multiple_of(2)).min(out.len());
        let (head, out) = out.split_at_mut(odd);
        head.fill_with(|| self.word(first, 0));
        let mut counter = first.div_ceil(2);
        let (chunks, rest) = out.as_chunks_mut::<{ 2 * WIDTH }>();
        for chunk in chunks {
            chunk.copy_from_slice(self.pairs::<WIDTH>(counter, 0).as_flattened());
            counter += WIDTH as u64;
        }
        for (i, slot) in rest.iter_mut().enumerate() {
            *slot = self.word(counter * 2 + i as u64, 0);
        }
    }

    /// The blocks of `N` counters from `counter` on, each as two words.
    fn pairs<const N: usize>(&self, counter: u64, attempt: u32) -> [[u64; 2]; N] {
        let counters: [u64; N] = std::array::from_fn(|l| counter.wrapping_add(l as u64));
        let low = counters.map(|counter| counter as u32);
        let high = counters.map(|counter| (counter >> 32) as u32);
        let state = philox([low, high, [attempt; N], [0; N]], self.key);
        let word = |low: usize, l: usize| u64::from(state[low][l]) | u64::from(state[low + 1][l]) << 32;
        std::array::from_fn(|l| [word(0, l), word(2, l)])
    }
}

/// The ten rounds, on `N` counters side by side.
#[inline(always)]
fn philox<const N: usize>(mut state: [[u32; N]; 4], mut key: [u32; 2]) -> [[u32; N]; 4] {
    for round in 0..ROUNDS {
        if round > 0 {
            key = [key[0].wrapping_add(KEY_STEPS[0]), key[1].wrapping_add(KEY_STEPS[1])];
        }
        let [mut a, mut b, mut c, mut d] = state;
        for l in 0..N {
            let first = u64::from(MULTIPLIERS[0]) * u64::from(a[l]);
            let second = u64::from(MULTIPLIERS[1]) * u64::from(c[l]);
            a[l] = (second >> 32) as u32 ^ b[l] ^ key[0];
            b[l] = second as u32;
            c[l] = (first >> 32) as u32 ^ d[l] ^ key[1];
            d[l] = first as u32;
        }
        state = [a, b, c, d];
    }
    state
}

#[cfg(test)]
mod tests {
    use super::{Stream, philox};

    /// Known answers published with Random123 (`kat_vectors`, philox4x32 10).
    #[test]
    fn published_answers_come_out() {
        let cases = [
            ([0; 4], [0; 2], [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]),
            ([u32::MAX; 4], [u32::MAX; 2], [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]),
            (
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
                [0xa409_3822, 0x299f_31d0],
                [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1],
            ),
        ];
        for (counter, key, answer) in cases {
            assert_eq!(philox(counter.map(|word| [word]), key), answer.map(|word| [word]));
            assert_eq!(philox(counter.map(|word| [word; 8]), key), answer.map(|word| [word; 8]));
        }
    }

    #[test]
    fn any_range_of_words_has_the_words_of_its_draws() {
        let stream = Stream::new(7, "u");
        for first in [0, 1, 5, 16, u64::from(u32::MAX) * 2 - 3] {
            for len in [0, 1, 2, 15, 16, 17, 100] {
                let mut words = vec![0; len];
                stream.words(first, &mut words);
                let expected: Vec<u64> = (0..len as u64).map(|i| stream.word(first + i, 0)).collect();
                assert_eq!(words, expected, "{len} words from {first} on");
            }
        }
    }

    #[test]
    fn seed_name_and_attempt_all_change_the_words() {
        let word = Stream::new(7, "u").word(3, 0);
        assert_ne!(word, Stream::new(8, "u").word(3, 0));
        assert_ne!(word, Stream::new(7, "v").word(3, 0));
        assert_ne!(word, Stream::new(7, "u").word(3, 1));
        assert_ne!(word, Stream::new(7, "u").word(2, 0));
    }
}
