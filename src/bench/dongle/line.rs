//! The line discipline: bytes in, command lines out.
//!
//! A command line ends with CR. LF is thrown away wherever it is, as the manual asks for the one after CR. Backspace (S5 = 8) takes the last
//! character back. `A/` repeats the last line and needs no CR (V.250 section 5.2.4). A line longer than [`MAX_LINE`] is kept in mind as too
//! long and costs no memory.

/// The longest command line, in bytes. Quectel states no limit for its USB ports; a `AT+CGLA` of 260 bytes needs 540.
pub(super) const MAX_LINE: usize = 1024;

pub(super) const CR: u8 = b'\r';
pub(super) const LF: u8 = b'\n';
const BACKSPACE: u8 = 0x08;

/// What a byte completed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum LineEvent {
    /// A line, without its CR.
    Line(Vec<u8>),
    /// A line of more than [`MAX_LINE`] bytes.
    TooLong,
    /// `A/`.
    Repeat,
}

/// Collects one line.
#[derive(Debug, Default)]
pub(super) struct LineReader {
    line: Vec<u8>,
    too_long: bool,
}

impl LineReader {
    /// Takes one byte.
    pub(super) fn push(&mut self, byte: u8) -> Option<LineEvent> {
        match byte {
            LF => None,
            CR => {
                let line = std::mem::take(&mut self.line);
                if std::mem::take(&mut self.too_long) {
                    Some(LineEvent::TooLong)
                } else {
                    Some(LineEvent::Line(line))
                }
            }
            BACKSPACE => {
                self.line.pop();
                None
            }
            _ if self.line.len() >= MAX_LINE => {
                self.too_long = true;
                None
            }
            _ => {
                self.line.push(byte);
                if self.line.eq_ignore_ascii_case(b"A/") {
                    self.line.clear();
                    return Some(LineEvent::Repeat);
                }
                None
            }
        }
    }

    /// Forgets a line that has been begun.
    pub(super) fn clear(&mut self) {
        self.line.clear();
        self.too_long = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(bytes: &[u8]) -> Vec<LineEvent> {
        let mut reader = LineReader::default();
        bytes.iter().filter_map(|b| reader.push(*b)).collect()
    }

    #[test]
    fn lines_end_with_cr_and_lf_is_nothing() {
        let line = |text: &str| LineEvent::Line(text.as_bytes().to_vec());
        assert_eq!(feed(b"AT\r\nATI\r"), vec![line("AT"), line("ATI")]);
        assert_eq!(feed(b"\r\r\n"), vec![line(""), line("")]);
        assert_eq!(feed(b"ATX\x08I\r"), vec![line("ATI")]);
        assert_eq!(feed(b"AT"), vec![]);
    }

    #[test]
    fn repeats_without_cr() {
        assert_eq!(feed(b"a/"), vec![LineEvent::Repeat]);
    }

    #[test]
    fn a_long_line_is_noted_and_the_next_is_whole() {
        let mut bytes = vec![b'x'; MAX_LINE * 3];
        bytes.extend_from_slice(b"\rAT\r");
        assert_eq!(feed(&bytes), vec![LineEvent::TooLong, LineEvent::Line(b"AT".to_vec())]);
        let mut bytes = vec![b'x'; MAX_LINE];
        bytes.push(CR);
        assert_eq!(feed(&bytes), vec![LineEvent::Line(vec![b'x'; MAX_LINE])]);
    }
}
