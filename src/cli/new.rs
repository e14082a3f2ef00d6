//! `msee drill new [DIR]`: a lab and a drill to begin with.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use crate::cli::{COULD_NOT_RUN, print};

/// Both run as they are, and say in comments what to fill in.
const STARTER: [(&str, &str); 2] = [
    ("lab.yaml", include_str!("starter/lab.yaml")),
    ("drill.yaml", include_str!("starter/drill.yaml")),
];

/// Write a lab and a drill to begin with
///
/// Two files with comments, lab.yaml and drill.yaml. Nothing that is there is overwritten.
#[derive(Args, Debug)]
pub struct New {
    /// The folder; made when it is not there
    #[arg(default_value = ".")]
    dir: PathBuf,
}

impl New {
    pub fn run(&self) -> ExitCode {
        match self.write() {
            Ok(()) => print(&self.next()),
            Err(error) => {
                eprint!("{error}");
                ExitCode::from(COULD_NOT_RUN)
            }
        }
    }

    fn write(&self) -> Result<(), String> {
        let paths = STARTER.map(|(name, _)| self.dir.join(name));
        // Looked at first, so that one file alone is not left behind.
        if let Some(there) = paths.iter().find(|path| path.symlink_metadata().is_ok()) {
            let folder = "allowed: a folder without lab.yaml and drill.yaml";
            return Err(format!("{}: is there already\n    {folder}\n", there.display()));
        }
        fs::create_dir_all(&self.dir).map_err(|error| because(&self.dir, &error))?;
        for (path, (_, text)) in paths.iter().zip(STARTER) {
            let file = OpenOptions::new().write(true).create_new(true).open(path);
            file.and_then(|mut file| file.write_all(text.as_bytes()))
                .map_err(|error| because(path, &error))?;
        }
        Ok(())
    }

    fn next(&self) -> String {
        let [lab, drill] = STARTER.map(|(name, _)| self.dir.join(name));
        let (lab, drill) = (lab.display(), drill.display());
        format!(
            "{lab}: fill in your circuit\n{drill}: what is done to it\n\nNext: msee drill {drill}\n"
        )
    }
}

fn because(path: &Path, error: &std::io::Error) -> String {
    format!("{}: {error}\n", path.display())
}
