//! The `runhub` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    runhub::cli::run()
}
