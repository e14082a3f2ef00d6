//! `msee control-process`: what a lab on real frames starts for each of its routers.

use std::process::ExitCode;

use clap::Args;

use crate::cli::COULD_NOT_RUN;
use crate::control::runtime;

/// The control plane of a router, joined to its forwarding by the socket on standard input.
#[derive(Args, Debug)]
pub struct ControlProcess {
    /// Which router's it is, for whoever lists processes.
    #[arg(value_name = "LAB/ROUTER")]
    router: String,
}

impl ControlProcess {
    pub fn run(&self) -> ExitCode {
        match runtime::main() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("msee: control process of {}: {error}", self.router);
                ExitCode::from(COULD_NOT_RUN)
            }
        }
    }
}
