//! The command line of Telltale.

use std::process::ExitCode;

fn main() -> ExitCode {
    telltale::main()
}
