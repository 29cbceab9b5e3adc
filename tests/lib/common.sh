# Shared by tests/setup and tests/run. Sourced, not run.
# shellcheck shell=bash

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
# Everything the scripts make lies below cargo's own target folder, so that `cargo clean` removes it.
TARGET_DIR=$(realpath -m "${CARGO_TARGET_DIR:-$ROOT/target}")
[ -z "${CARGO_TARGET_DIR:-}" ] || export CARGO_TARGET_DIR=$TARGET_DIR
# mosquitto and udev's tools lie where an ordinary user's PATH does not look.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
# The Raspberry Pi's target, and the folder its toolchain settings are written to.
ARMV7=armv7-unknown-linux-gnueabihf
ARMV7_DIR=$TARGET_DIR/armv7
# Seconds that a program which ran into its time limit has to end before it is killed: `timeout -k "$KILL_AFTER" LIMIT PROGRAM`.
KILL_AFTER=10
# The oldest compiler Onyx promises to build with: Cargo.toml's rust-version.
MSRV=$(sed -n 's/^rust-version *= *"\(.*\)"/\1/p' "$ROOT/Cargo.toml")

say() { printf '%s\n' "$*"; }
die() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}
have() { command -v "$1" >/dev/null 2>&1; }

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif have sudo; then
        sudo "$@"
    else
        die "needs root for: $*. Run as root, or install sudo."
    fi
}

# The version a rustc says, "1.85.0"; nothing when it does not run.
rustc_version() { "$1" --version 2>/dev/null | sed -n 's/^rustc \([0-9.]*\).*/\1/p'; }

# Where Debian puts the compiler, whatever rustup puts before it in PATH.
DEBIAN_RUSTC=/usr/bin/rustc
