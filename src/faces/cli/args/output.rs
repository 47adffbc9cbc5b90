//! How reading verbs print: `--json`, and Docker's options.

use clap::Args;

use crate::faces::cli::format::Spec;

/// The output format of verbs that read.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct Format {
    /// Print JSON instead of a table
    #[arg(long)]
    pub json: bool,
}

/// `--json`, or `--format` as Docker has it.
#[derive(Debug, Clone, Default, Args)]
pub struct Output {
    /// Output format
    #[command(flatten)]
    pub json: Format,
    /// json, table, `table TEMPLATE`, or TEMPLATE: a Go template
    #[arg(long, value_name = "TEMPLATE", value_parser = Spec::parse, conflicts_with = "json")]
    pub format: Option<Spec>,
}

/// The same with Docker's short flag of `inspect`.
#[derive(Debug, Clone, Default, Args)]
pub struct Inspected {
    /// Output format
    #[command(flatten)]
    pub json: Format,
    /// json, table, `table TEMPLATE`, or TEMPLATE: a Go template
    #[arg(long, short = 'f', value_name = "TEMPLATE", value_parser = Spec::parse, conflicts_with = "json")]
    pub format: Option<Spec>,
}

/// How verbs that list print.
#[derive(Debug, Clone, Default, Args)]
pub struct Listed {
    /// Output format
    #[command(flatten)]
    pub output: Output,
    /// Print ids only
    #[arg(long, short, conflicts_with = "json")]
    pub quiet: bool,
    /// Print whole ids
    #[arg(long)]
    pub no_trunc: bool,
}

/// What the help of verbs with `--format` says about templates.
macro_rules! templates {
    ($examples:literal, $fields:literal) => {
        concat!(
            $fields,
            "\n\n\
In a TEMPLATE, \\t and \\n are a tab and a line end, and the functions are those of Go and json,\n\
join, split, lower, upper, title, pad, truncate.\n\nExamples:\n",
            $examples
        )
    };
}
pub(super) use templates;
