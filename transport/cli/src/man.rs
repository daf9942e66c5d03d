//! `sealane man` and `sealane completions`: the command line as pages for `man`, and as what a shell completes. Both come from the same
//! definitions that parse it.

use anyhow::{Context, Result};
use clap::Command;
use clap_complete::Shell;
use clap_mangen::Man;
use std::fs;
use std::path::{Path, PathBuf};

#[derive(Debug, clap::Args)]
pub(crate) struct ManArgs {
    /// A folder for the pages, one for each command; it is made if need be
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

#[derive(Debug, clap::Args)]
pub(crate) struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

/// Writes the pages of `command` and of all below it.
pub(crate) fn man(command: Command, args: &ManArgs) -> Result<()> {
    fs::create_dir_all(&args.out).with_context(|| format!("cannot make {}", args.out.display()))?;
    let mut command = command.disable_help_subcommand(true);
    command.build();
    let name = command.get_name().to_owned();
    let mut written = 0;
    page(&command, &name, &args.out, &mut written)?;
    crate::print(&format!("{written} pages in {}; read one: man {}/{name}.1\n", args.out.display(), args.out.display()))
}

fn page(command: &Command, name: &str, out: &Path, written: &mut usize) -> Result<()> {
    let mut text = Vec::new();
    Man::new(command.clone()).title(name.to_uppercase()).render(&mut text)?;
    let path = out.join(format!("{name}.1"));
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    *written += 1;
    for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
        page(below, &format!("{name}-{}", below.get_name()), out, written)?;
    }
    Ok(())
}

/// Prints what `shell` is to source.
pub(crate) fn completions(mut command: Command, args: &CompletionsArgs) -> Result<()> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut command, "sealane", &mut text);
    crate::print(&String::from_utf8(text).context("completions are text")?)
}
