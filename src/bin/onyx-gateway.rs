//! `onyx-gateway`: see [`onyx::gateway`].

fn main() -> std::process::ExitCode {
    onyx::gateway::cli::main()
}
