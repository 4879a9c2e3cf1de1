//! `dockplugd`: configuration, log, build, serve, drain. Or, with a command, a client of one that runs.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;
use dockplug::app::{self, App};
use dockplug::commands;
use dockplug::config::command::Command;
use dockplug::config::{Args, Config};
use dockplug::error::chain;
use dockplug::runtime as containers;

/// More threads than this gain nothing: what takes long waits for disks and plugins.
const MAX_WORKER_THREADS: usize = 4;
/// How many blocking calls (files, archives) run at a time; more wait.
const MAX_BLOCKING_THREADS: usize = 64;
/// The stack of each thread in bytes; what is not used costs nothing.
const STACK_BYTES: usize = 1024 * 1024;

fn main() -> ExitCode {
    if let Some(code) = containers::monitor::dispatch().or_else(containers::embedded::dispatch) {
        return code;
    }
    let mut args = Args::parse();
    let done = match args.command.take() {
        Some(command) => ask(&args, command),
        None => run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nothing can be done if even this cannot be written.
            let _written = writeln!(std::io::stderr(), "dockplugd: {}", chain(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

/// A command: one thread, one question.
fn ask(args: &Args, command: Command) -> Result<(), Box<dyn std::error::Error>> {
    let host = args.daemon()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(commands::run(command, host))?)
}

fn run(args: &Args) -> Result<(), Box<dyn std::error::Error>> {
    let config = Config::resolve(args)?;
    app::start_logging(config.log);
    // Modes are what we say they are, whoever started us.
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(processors.min(MAX_WORKER_THREADS))
        .max_blocking_threads(MAX_BLOCKING_THREADS)
        .thread_stack_size(STACK_BYTES)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let signals = app::signals()?;
        App::start(config).await?.run(signals).await;
        Ok(())
    })
}
