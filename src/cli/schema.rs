//! `msee schema lab|drill`: the JSON Schema of a kind of file, for editors.

use std::process::ExitCode;

use clap::{Args, ValueEnum};

use crate::cli::print;
use crate::config::{self, FileKind};

/// Print the JSON Schema of lab or drill files
#[derive(Args, Debug)]
pub struct Schema {
    kind: Kind,
}

#[derive(ValueEnum, Clone, Copy, Debug)]
enum Kind {
    Lab,
    Drill,
}

impl Schema {
    pub fn run(&self) -> ExitCode {
        let kind = match self.kind {
            Kind::Lab => FileKind::Lab,
            Kind::Drill => FileKind::Drill,
        };
        print(&format!("{:#}\n", config::schema(kind)))
    }
}
