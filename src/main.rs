//! The program `dockplugd`.

use std::process::ExitCode;

fn main() -> ExitCode {
    if let Some(code) = dockplug::runtime::monitor::dispatch() {
        return code;
    }
    ExitCode::SUCCESS
}
