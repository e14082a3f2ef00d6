use std::process::ExitCode;

fn main() -> ExitCode {
    msee::cli::main()
}
