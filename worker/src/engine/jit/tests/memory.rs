//! Memory of machine code: never writable and executable, freed, and refused without harm.

use super::{Checks, Compiled, Scratch, typed};
use crate::engine::jit::JitError;
use crate::engine::jit::code::Code;
use crate::engine::jit::plan::Plan;
use cranelift_jit::{BranchProtection, JITMemoryKind, JITMemoryProvider, SystemMemoryProvider};
use cranelift_module::{ModuleError, ModuleResult};
use std::io;

const TEXT: &str = "math::sin(x * y) * 2.5 + i * j";

/// Bytes of executable memory that is no file's, after checking that none of it is writable.
#[cfg(target_os = "linux")]
fn executable_bytes() -> u64 {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let mut bytes = 0;
    for line in maps.lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (addresses, rights) = (fields[0], fields[1]);
        assert!(!rights.contains("wx"), "{line}");
        if rights.contains('x') && fields.len() == 5 {
            let (from, to) = addresses.split_once('-').unwrap();
            bytes += u64::from_str_radix(to, 16).unwrap() - u64::from_str_radix(from, 16).unwrap();
        }
    }
    bytes
}

#[cfg(target_os = "linux")]
#[test]
fn no_memory_is_writable_and_executable() {
    let formula = typed(TEXT);
    let code: Vec<Compiled> = (0..50).map(|_| Compiled::new(&formula, Checks::Checked).unwrap()).collect();
    assert!(executable_bytes() > 0);
    drop(code);
    executable_bytes();
}

#[cfg(target_os = "linux")]
#[test]
fn dropped_code_leaves_no_memory() {
    // Each takes a page, so that leaked ones would be 8 MB.
    const COMPILED: usize = 2000;
    const OTHER_TESTS_BYTES: u64 = 4 << 20;
    let formula = typed("x + 1.0");
    for _ in 0..COMPILED {
        Compiled::new(&formula, Checks::Checked).unwrap();
    }
    let bytes = executable_bytes();
    assert!(bytes < OTHER_TESTS_BYTES, "{bytes} bytes");
}

/// Refuses one kind of request, as a hardened system does.
struct Refusing {
    inner: SystemMemoryProvider,
    at_allocation: bool,
}

impl JITMemoryProvider for Refusing {
    fn allocate(&mut self, size: usize, align: u64, kind: JITMemoryKind) -> io::Result<*mut u8> {
        if self.at_allocation {
            return Err(io::Error::from(io::ErrorKind::PermissionDenied));
        }
        self.inner.allocate(size, align, kind)
    }

    #[allow(unsafe_code, reason = "the trait's method is unsafe")]
    unsafe fn free_memory(&mut self) {
        // SAFETY: the caller's promise is passed on.
        unsafe { self.inner.free_memory() }
    }

    fn finalize(&mut self, _: BranchProtection) -> ModuleResult<()> {
        let error = io::Error::from(io::ErrorKind::PermissionDenied);
        Err(ModuleError::Allocation { err: error })
    }
}

#[test]
fn a_system_that_refuses_executable_memory_gives_an_error() {
    let formula = typed(TEXT);
    let plan = Plan::new(&formula).unwrap();
    for at_allocation in [false, true] {
        let memory = Box::new(Refusing { inner: SystemMemoryProvider::new(), at_allocation });
        let refused = Code::compile_into(memory, &formula, &plan, Checks::Checked);
        assert!(
            matches!(&refused, Err(JitError::Memory(reason)) if reason.contains("permission denied")),
            "{refused:?}"
        );
    }
}

#[test]
fn code_moves_between_threads() {
    fn assert_shared<T: Send + Sync>() {}
    fn assert_sent<T: Send>() {}
    assert_shared::<Compiled>();
    assert_sent::<Scratch>();
}
