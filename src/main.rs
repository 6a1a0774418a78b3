//! The `quipu` binary: a command line in front of the library's clusters.

mod cmd;
mod failure;
mod output;
mod top;
mod up;

fn main() -> std::process::ExitCode {
    cmd::main()
}
