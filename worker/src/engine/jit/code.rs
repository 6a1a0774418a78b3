//! Compiles segments into memory that is writable first and executable then, never both, and calls them.

use super::emit::{self, Shape};
use super::plan::{Plan, Step};
use super::{Checks, JitError};
use cranelift_codegen::isa::OwnedTargetIsa;
use cranelift_codegen::settings::{self, Configurable};
use cranelift_frontend::FunctionBuilderContext;
use cranelift_jit::{JITBuilder, JITMemoryProvider, JITModule, SystemMemoryProvider};
use cranelift_module::{FuncId, Module, ModuleError};
use quipu_shared::formula::typed::TypedFormula;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, OnceLock, PoisonError};

/// Machine code of a plan's segments.
pub(super) struct Code {
    entries: Vec<Entry>,
    /// Owns the memory of `entries`; only the drop takes it.
    module: Mutex<Option<JITModule>>,
}

/// Takes the table of addresses and the number of rows; returns other than 0 if a row failed.
type Entry = unsafe extern "C" fn(*const usize, u64) -> u64;

impl Code {
    /// Compiles every segment of a plan.
    pub fn compile(formula: &TypedFormula, plan: &Plan, checks: Checks) -> Result<Self, JitError> {
        Self::compile_into(Box::new(SystemMemoryProvider::new()), formula, plan, checks)
    }

    /// Compiles into memory of a provider.
    pub fn compile_into(
        memory: Box<dyn JITMemoryProvider + Send>,
        formula: &TypedFormula,
        plan: &Plan,
        checks: Checks,
    ) -> Result<Self, JitError> {
        let mut builder = JITBuilder::with_isa(isa()?, Box::new(|libcall| format!("{libcall:?}")));
        builder.memory_provider(memory);
        let mut code = Self { entries: Vec::new(), module: Mutex::new(Some(JITModule::new(builder))) };
        // A defect of the compiler must not take more than this formula's code: the interpreter does the work.
        let compiled = catch_unwind(AssertUnwindSafe(|| code.define(formula, plan, checks)));
        compiled.unwrap_or_else(|_| Err(JitError::Compile("the compiler panicked".into())))?;
        Ok(code)
    }

    fn define(&mut self, formula: &TypedFormula, plan: &Plan, checks: Checks) -> Result<(), JitError> {
        let module = self.module.get_mut().unwrap_or_else(PoisonError::into_inner);
        let Some(module) = module else {
            return Ok(());
        };
        let mut context = module.make_context();
        let mut builder_context = FunctionBuilderContext::new();
        let shape = Shape::new(formula, plan, checks);
        let mut ids: Vec<FuncId> = Vec::new();
        for step in &plan.steps {
            let Step::Segment(segment) = step else { continue };
            context.func.signature = emit::signature(module);
            let config = module.target_config();
            if !emit::segment(&shape, segment, &mut context.func, &mut builder_context, config) {
                return Err(JitError::Compile("a value has no place".into()));
            }
            let id = module.declare_anonymous_function(&context.func.signature).map_err(of_module)?;
            module.define_function(id, &mut context).map_err(of_module)?;
            module.clear_context(&mut context);
            ids.push(id);
        }
        module.finalize_definitions().map_err(of_module)?;
        for id in ids {
            let address = module.get_finalized_function(id);
            // SAFETY: the function was declared with `emit::signature`, which is `Entry`'s: two words in, one out, in
            // the C convention of this machine.
            #[allow(unsafe_code, reason = "an address of machine code becomes a function")]
            let entry = unsafe { std::mem::transmute::<*const u8, Entry>(address) };
            self.entries.push(entry);
        }
        Ok(())
    }

    /// Runs a segment; returns whether a row failed.
    ///
    /// # Safety
    /// `table` is laid out as [`emit::Table`] says for this code's formula and plan. Each address in it is of at least
    /// `rows` values that nothing else writes during the call; those of result and slots are writable and overlap
    /// nothing. `rows` is a positive multiple of [`emit::turn_rows`].
    #[allow(unsafe_code, reason = "its caller answers for the addresses")]
    pub unsafe fn call(&self, segment: usize, table: &[usize], rows: usize) -> bool {
        let entry = self.entries[segment];
        // SAFETY: the caller answers for the arguments; the code lives as long as `self`.
        unsafe { entry(table.as_ptr(), rows as u64) != 0 }
    }
}

impl Drop for Code {
    fn drop(&mut self) {
        self.entries.clear();
        if let Some(module) = self.module.get_mut().unwrap_or_else(PoisonError::into_inner).take() {
            // SAFETY: nobody runs this code, since `self` is borrowed for every call, and its addresses went nowhere
            // else than into `entries`.
            #[allow(unsafe_code, reason = "memory of machine code is freed by hand")]
            unsafe {
                module.free_memory();
            }
        }
    }
}

impl std::fmt::Debug for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Code").field("segments", &self.entries.len()).finish_non_exhaustive()
    }
}

fn of_module(error: ModuleError) -> JitError {
    match error {
        ModuleError::Allocation { .. } | ModuleError::Backend(_) => JitError::Memory(error.to_string()),
        other => JitError::Compile(other.to_string()),
    }
}

/// This machine as the compiler sees it, found once.
pub(super) fn isa() -> Result<OwnedTargetIsa, JitError> {
    static ISA: OnceLock<Result<OwnedTargetIsa, String>> = OnceLock::new();
    ISA.get_or_init(find_isa).clone().map_err(JitError::Processor)
}

fn find_isa() -> Result<OwnedTargetIsa, String> {
    // Without these, rounding becomes a call of a function that the compiler would look up by name.
    #[cfg(target_arch = "x86_64")]
    if !(std::is_x86_feature_detected!("sse4.1") && std::is_x86_feature_detected!("sse4.2")) {
        return Err("it has no SSE 4.2".into());
    }
    if !cfg!(any(target_arch = "x86_64", target_arch = "aarch64")) {
        return Err("only x86-64 and 64-bit ARM are tried".into());
    }
    let mut flags = settings::builder();
    for (name, value) in [
        ("opt_level", "speed"),
        ("is_pic", "false"),
        ("use_colocated_libcalls", "false"),
        // Large frames touch their pages in line, without a call.
        ("probestack_strategy", "inline"),
        ("unwind_info", "false"),
        ("enable_verifier", if cfg!(any(test, debug_assertions)) { "true" } else { "false" }),
    ] {
        flags.set(name, value).map_err(|error| error.to_string())?;
    }
    let builder = cranelift_native::builder()?;
    builder.finish(settings::Flags::new(flags)).map_err(|error| error.to_string())
}
