//! A program's words: its result on standard output, and its last words, an error with its causes in one line, each said once.
//!
//! Our errors write their cause into their own sentence, because a log shows only that sentence; foreign errors keep theirs in the
//! chain. Printing the whole chain would say many things twice.

use std::io::{self, Write};

/// Writes to standard output. A reader that has gone (`| head`) has what it wanted, so that is no error.
///
/// # Errors
/// Everything else that keeps the text from being written.
pub fn out(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(e) => Err(io::Error::new(
            e.kind(),
            format!("cannot write to standard output: {e}"),
        )),
        Ok(()) => Ok(()),
    }
}

/// The error and those of its causes that it does not already quote.
#[must_use]
pub fn sentence(error: &anyhow::Error) -> String {
    let mut out = String::new();
    for cause in error.chain() {
        let text = cause.to_string();
        if out.contains(&text) {
            continue;
        }
        if !out.is_empty() {
            out.push_str(": ");
        }
        out.push_str(&text);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn each_cause_is_said_once() {
        let io = || std::io::Error::from(std::io::ErrorKind::NotFound);
        let quoted = crate::control::ControlError::NotRunning {
            program: "onyx-test",
            path: "/x".into(),
            source: io(),
        };
        let text = sentence(&anyhow::Error::from(quoted));
        assert_eq!(text.matches("not found").count(), 1, "{text}");
        let text = sentence(&Err::<(), _>(io()).context("cannot read a").unwrap_err());
        assert_eq!(text, "cannot read a: entity not found");
    }
}
