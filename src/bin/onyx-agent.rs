//! `onyx-agent`: see [`onyx::agent`].

fn main() -> std::process::ExitCode {
    onyx::agent::cli::main()
}
