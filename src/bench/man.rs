//! `onyx-bench man DIRECTORY`: the man pages of the programs, made from the same definitions that parse their command lines, so that the
//! two cannot differ. One page for a program and one for each of its subcommands, as `onyx-agent-status.1`.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Command, CommandFactory};

/// What `onyx-bench man` takes.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where the pages are written; made if it is not there
    directory: PathBuf,
}

/// Writes the pages of all programs; `bench` is the command line of `onyx-bench` itself.
///
/// # Errors
/// When a page cannot be written.
pub fn run(args: &Args, bench: Command) -> anyhow::Result<()> {
    write(
        &args.directory,
        [
            crate::agent::cli::Cli::command(),
            crate::gateway::cli::Cli::command(),
            bench,
        ],
    )
}

/// Writes the pages of these programs into `directory`.
///
/// # Errors
/// When a page cannot be written.
pub fn write(directory: &Path, programs: impl IntoIterator<Item = Command>) -> anyhow::Result<()> {
    std::fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    for program in programs {
        let name = program.get_name().to_owned();
        clap_mangen::generate_to(program.propagate_version(true), directory)
            .with_context(|| format!("cannot write the man pages of {name} into {}", directory.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[test]
    fn each_program_and_each_visible_subcommand_has_a_page() {
        let dir = tempfile::tempdir().unwrap();
        let small = Command::new("onyx-small").about("Small").version("1").subcommands([
            Command::new("go").about("Goes").arg(clap::arg!(--far <N> "How far")),
            Command::new("secret").hide(true),
        ]);
        write(&dir.path().join("man"), [small, crate::agent::cli::Cli::command()]).unwrap();
        let list = std::fs::read_dir(dir.path().join("man")).unwrap();
        let mut names: Vec<_> = list.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        for want in [
            "onyx-agent.1",
            "onyx-agent-run.1",
            "onyx-agent-krypton-aws.1",
            "onyx-small.1",
            "onyx-small-go.1",
        ] {
            assert!(names.iter().any(|n| n == want), "{want} is not in {names:?}");
        }
        assert!(!names.iter().any(|n| n.contains("secret") || n.contains("help")), "{names:?}");
        let text = |name: &str| std::fs::read_to_string(dir.path().join("man").join(name)).unwrap();
        assert!(text("onyx-small-go.1").contains("How far"));
        let status = text("onyx-agent-status.1").replace('\\', "");
        assert!(status.contains(".TH onyx-agent-status 1"), "{status}");
        assert!(
            status.contains("onyx-agent status"),
            "the synopsis is what one types: {status}"
        );
    }
}
