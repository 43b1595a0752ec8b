//! `kubectl surefoot`: see and steer releases.

use std::process::ExitCode;

use surefoot::cli::{Arguments, run};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    run(Arguments::read()).await.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
