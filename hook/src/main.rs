//! `kcm-hook`: gives a container its own CPU cores before its first instruction runs, and takes
//! them back when it ends. An OCI runtime calls it with the container's state on standard input.

mod annotations;
mod args;
mod create;
mod default_pool;
mod identity;
mod logging;
mod node;
mod oci;
mod poststop;

use std::os::unix::process::parent_id;
use std::process::ExitCode;
use std::time::Instant;

use args::{Args, Command};
use create::Caller;
use kcm_core::host::errand;
use oci::{Stage, State};

fn main() -> ExitCode {
    if let Some(done) = errand::run_if_sent() {
        return done;
    }
    let caller = Caller { started: Instant::now(), runtime: parent_id() };
    logging::init();
    match run(caller) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            logging::failure(&error);
            ExitCode::FAILURE
        }
    }
}

fn run(caller: Caller) -> anyhow::Result<()> {
    let args = match args::parse(std::env::args_os().skip(1))? {
        Command::Run(args) => args,
        Command::Print(text) => {
            println!("{text}");
            return Ok(());
        }
    };
    let state = State::read(std::io::stdin().lock())?;
    match stage(&args, &state)? {
        Stage::CreateRuntime => create::create(&args, &state, caller),
        Stage::Poststop => poststop::poststop(&args, &state, caller),
    }
}

fn stage(args: &Args, state: &State) -> anyhow::Result<Stage> {
    match args.stage {
        Some(stage) => Ok(stage),
        None => state.stage_by_status(),
    }
}
