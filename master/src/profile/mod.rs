//! Looking into a running master: where its processors' time goes, what its memory is taken by, what its threads do.
//!
//! Nothing here runs unless somebody asks, and one CPU profile at a time does.

mod heap;
mod message;
mod threads;

pub use heap::HeapReport;
pub use threads::{ThreadReport, ThreadView};

use flate2::Compression;
use flate2::write::GzEncoder;
use pprof::ProfilerGuardBuilder;
use prost::Message as _;
use std::io::Write as _;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::Mutex;

/// Longest profile: it is held in memory, and its connection is open all the while.
pub const PROFILE_SECONDS_MAX: u64 = 120;
/// Length of a profile unless the request says otherwise.
pub const PROFILE_SECONDS_DEFAULT: u64 = 10;
/// Most samples a second of CPU time; each costs some 10 us of the thread that it interrupts.
pub const FREQUENCY_HZ_MAX: u32 = 1_000;
/// Samples a second unless the request says otherwise: not a divisor of what else runs by the clock.
pub const FREQUENCY_HZ_DEFAULT: u32 = 99;

/// Code in which a sample is not taken: the unwinder itself, and what may hold a lock that it needs. The C library is
/// not among it, for system calls are made there: since glibc 2.35 the unwinder finds its tables without a lock.
const NOT_SAMPLED: [&str; 4] = ["libgcc", "ld-linux", "pthread", "vdso"];

/// Why there is no profile.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// Another one is being made.
    #[error("another CPU profile is being made; one runs at a time")]
    Busy,
    /// The sampler does not start.
    #[error("sample this process: {0}")]
    Sample(pprof::Error),
    /// Its samples could not be written.
    #[error("write the profile: {0}")]
    Write(String),
}

/// Makes CPU profiles, one at a time.
#[derive(Debug, Default)]
pub struct Profiler {
    busy: Arc<Mutex<()>>,
}

impl From<pprof::Error> for ProfileError {
    fn from(error: pprof::Error) -> Self {
        match error {
            // The sampler is the process's own.
            pprof::Error::Running => Self::Busy,
            error => Self::Sample(error),
        }
    }
}

impl Profiler {
    /// Samples this process for a while; gives a profile in pprof's form, compressed with gzip. Stops when dropped.
    ///
    /// # Errors
    /// [`ProfileError::Busy`], or where the sampler can't be started.
    pub async fn cpu(&self, length: Duration, frequency_hz: u32) -> Result<Vec<u8>, ProfileError> {
        let busy = Arc::clone(&self.busy).try_lock_owned().map_err(|_| ProfileError::Busy)?;
        let begun = SystemTime::now();
        let sampler = ProfilerGuardBuilder::default()
            .frequency(i32::try_from(frequency_hz).unwrap_or(i32::MAX))
            .blocklist(&NOT_SAMPLED)
            .build()?;
        tokio::time::sleep(length).await;
        // Names of functions are looked up in the binary, which takes its time.
        let made = tokio::task::spawn_blocking(move || {
            let _busy = busy;
            let report = sampler.report().build()?;
            drop(sampler);
            let profile = message::profile(&report.data, begun, length, frequency_hz);
            compress(&profile.encode_to_vec())
        });
        made.await.unwrap_or_else(|panic| Err(ProfileError::Write(panic.to_string())))
    }
}

fn compress(bytes: &[u8]) -> Result<Vec<u8>, ProfileError> {
    let failed = |error: std::io::Error| ProfileError::Write(error.to_string());
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(bytes).map_err(failed)?;
    gzip.finish().map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::read::GzDecoder;
    use message::Profile;
    use std::io::Read as _;
    use std::sync::atomic::{AtomicBool, Ordering};

    /// Has a name that no other code has.
    #[inline(never)]
    fn burn_for_the_profile(stop: &AtomicBool) -> u64 {
        let mut sum = 0_u64;
        while !stop.load(Ordering::Relaxed) {
            sum = std::hint::black_box(sum.wrapping_mul(31).wrapping_add(7));
        }
        sum
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn profile_names_what_burns_time_and_another_one_has_to_wait() {
        let stop = Arc::new(AtomicBool::new(false));
        let burner = {
            let stop = Arc::clone(&stop);
            let named = std::thread::Builder::new().name("burner".into());
            named.spawn(move || burn_for_the_profile(&stop)).expect("a thread")
        };
        let profiler = Arc::new(Profiler::default());
        let (first, second) =
            tokio::join!(profiler.cpu(Duration::from_millis(800), 200), profiler.cpu(Duration::from_millis(1), 99));
        assert!(matches!(second, Err(ProfileError::Busy)), "{second:?}");
        stop.store(true, Ordering::Relaxed);
        burner.join().expect("it ends");

        let mut bytes = Vec::new();
        GzDecoder::new(&first.expect("a profile")[..]).read_to_end(&mut bytes).expect("gzip");
        let profile = Profile::decode(&bytes[..]).expect("a profile");
        let text = |index: i64| profile.string_table[usize::try_from(index).expect("an index")].as_str();
        assert_eq!(text(0), "", "as the format asks for");
        let types: Vec<_> = profile.sample_type.iter().map(|of| (text(of.r#type), text(of.unit))).collect();
        assert_eq!(types, [("samples", "count"), ("cpu", "nanoseconds")]);
        assert_eq!(profile.period, 5_000_000);
        let names_of = |sample: &message::Sample| {
            let locations = sample.location_id.iter().map(|id| &profile.location[*id as usize - 1]);
            let functions = locations.flat_map(|location| &location.line).map(|line| line.function_id);
            functions.map(|id| text(profile.function[id as usize - 1].name).to_owned()).collect::<Vec<_>>()
        };
        let burnt = profile.sample.iter().filter(|sample| {
            let thread = sample.label.iter().any(|label| (text(label.key), text(label.str)) == ("thread", "burner"));
            thread && names_of(sample).iter().any(|name| name.contains("burn_for_the_profile"))
        });
        let (count, ns) = burnt.fold((0, 0), |sum, sample| (sum.0 + sample.value[0], sum.1 + sample.value[1]));
        assert!(count > 0, "{:?}", profile.sample.iter().map(names_of).collect::<Vec<_>>());
        assert_eq!(ns, count * profile.period);
        assert!(profile.location.iter().enumerate().all(|(at, location)| location.id == at as u64 + 1));
        let again = profiler.cpu(Duration::from_millis(1), 99).await;
        assert!(again.is_ok(), "the sampler is free again: {again:?}");
    }
}
