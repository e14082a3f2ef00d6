//! `msee lab config FILE NODE --for frr|bird|ios|junos`: the customer's side of a lab, to paste.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};

use crate::cli::files::{open, render};
use crate::cli::tell;
use crate::config::lab::Lab;
use crate::lab::edge::{Customer, FORMATS, Format};

/// Print the customer's side of the configuration, ready to paste
///
/// Addresses, VLANs, BGP sessions, BFD and policy of one of the lab's site routers.
#[derive(Args, Debug)]
pub struct EdgeConfig {
    /// The lab file
    file: PathBuf,
    /// A router of one of its sites
    node: String,
    /// The language
    #[arg(long = "for", value_name = "FORMAT", value_parser = format_parser())]
    format: Format,
}

impl EdgeConfig {
    pub fn run(&self) -> ExitCode {
        tell(self.outcome())
    }

    fn outcome(&self) -> Result<String, String> {
        let lab = open(&self.file)?.lab().map_err(render)?;
        let customer =
            Customer::of(&lab, &self.node).ok_or_else(|| no_such_router(&lab, &self.node))?;
        Ok((self.format.configuration)(&customer))
    }
}

/// A row of [`FORMATS`] by its name.
fn format_parser() -> impl TypedValueParser<Value = Format> {
    let values = FORMATS.iter().map(|format| PossibleValue::new(format.name).help(format.about));
    PossibleValuesParser::new(values).map(|given: String| {
        let row = FORMATS.iter().find(|format| format.name == given);
        *row.expect("only names of rows are possible")
    })
}

fn no_such_router(lab: &Lab, node: &str) -> String {
    let routers = lab.sites.iter().flat_map(|site| &site.routers);
    let names: Vec<_> = routers.map(|router| router.name.as_str()).collect();
    format!(
        "lab {} has no site router `{node}`; one of {} has a configuration\n",
        lab.name,
        names.join(", ")
    )
}
