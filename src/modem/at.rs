//! From bytes to lines: the AT line discipline of 3GPP TS 27.007 / ITU-T V.250 as Quectel speaks it (EC2x&EG9x&EG2x-G AT Commands
//! Manual V2.0, section 1.4). No I/O and no time.
//!
//! - `<CR>` or `<LF>` ends a line; empty lines are nothing. So the `<CR><LF>` around answers and the lone `<CR>` after an echo need no
//!   state, and a cut between any two bytes changes nothing.
//! - NULs are skipped: they come at power-up and from two readers of one port.
//! - A line longer than [`LINE_MAX`] is thrown away whole, and counted.
//! - A line with control bytes, or one that is not text, is [`Line::Garbage`]: it can neither be an answer nor end one.
//! - A line is final only if it is one of the result codes below, whole: `UNKNOWN COMMAND`, `+CME ERROR:` without its space and `OKAY`
//!   are not.
//!
//! Echo is not told apart here, because only the dialogue knows what was sent; see [`is_echo`].

/// Longest line kept, in bytes. The longest answer we ask for, `+QENG`, stays below 200; operator lists are not asked for.
pub const LINE_MAX: usize = 1024;

/// A result code: nothing more belongs to the command after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Final {
    /// `OK`.
    Ok,
    /// `CONNECT`, with what follows it on the line (a rate with `ATX4`).
    Connect(String),
    /// `ERROR`.
    Error,
    /// `+CME ERROR: `, number or text as sent.
    Cme(String),
    /// `+CMS ERROR: `, number or text as sent.
    Cms(String),
    /// `NO CARRIER`.
    NoCarrier,
    /// `BUSY`.
    Busy,
    /// `NO ANSWER`.
    NoAnswer,
    /// `NO DIALTONE`.
    NoDialtone,
    /// `COMMAND NOT SUPPORT`, Quectel and Huawei for an unknown command.
    NotSupported,
}

impl Final {
    /// The result code that this line is, if it is one.
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        Some(match line.trim_end() {
            "OK" => Self::Ok,
            "ERROR" => Self::Error,
            "CONNECT" => Self::Connect(String::new()),
            "NO CARRIER" => Self::NoCarrier,
            "BUSY" => Self::Busy,
            "NO ANSWER" => Self::NoAnswer,
            "NO DIALTONE" => Self::NoDialtone,
            "COMMAND NOT SUPPORT" => Self::NotSupported,
            _ => {
                if let Some(rate) = line.strip_prefix("CONNECT ") {
                    Self::Connect(rate.trim().to_owned())
                } else if let Some(cause) = line.strip_prefix("+CME ERROR: ") {
                    Self::Cme(cause.trim().to_owned())
                } else if let Some(cause) = line.strip_prefix("+CMS ERROR: ") {
                    Self::Cms(cause.trim().to_owned())
                } else {
                    return None;
                }
            }
        })
    }
}

/// One line from the modem, never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// Text: an information response, an unsolicited code, an echo.
    Text(String),
    /// A result code.
    Final(Final),
    /// Bytes that are no line of an AT dialogue, escaped for a message (at most [`LINE_MAX`] bytes before escaping).
    Garbage(String),
}

/// What had to be thrown away; for status and messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Noise {
    /// NUL bytes skipped.
    pub nuls: u64,
    /// Lines that were not text.
    pub garbage_lines: u64,
    /// Lines longer than [`LINE_MAX`].
    pub long_lines: u64,
}

/// The line splitter; holds at most [`LINE_MAX`] bytes.
#[derive(Debug, Default)]
pub struct Lines {
    line: Vec<u8>,
    too_long: bool,
    noise: Noise,
}

impl Lines {
    /// Takes one byte; gives the line that it ends, if it ends one.
    pub fn push(&mut self, byte: u8) -> Option<Line> {
        match byte {
            0 => {
                self.noise.nuls = self.noise.nuls.saturating_add(1);
                None
            }
            b'\r' | b'\n' => self.end(),
            _ if self.line.len() < LINE_MAX => {
                self.line.push(byte);
                None
            }
            _ => {
                self.too_long = true;
                None
            }
        }
    }

    /// Forgets an unfinished line.
    pub fn clear(&mut self) {
        self.line.clear();
        self.too_long = false;
    }

    /// What was thrown away so far.
    #[must_use]
    pub fn noise(&self) -> Noise {
        self.noise
    }

    fn end(&mut self) -> Option<Line> {
        let bytes = std::mem::take(&mut self.line);
        if std::mem::take(&mut self.too_long) {
            self.noise.long_lines = self.noise.long_lines.saturating_add(1);
            return Some(Line::Garbage(escape(&bytes)));
        }
        let Some(text) = text(&bytes) else {
            self.noise.garbage_lines = self.noise.garbage_lines.saturating_add(1);
            return Some(Line::Garbage(escape(&bytes)));
        };
        let text = text.trim();
        if text.is_empty() {
            return None;
        }
        // The untrimmed end matters: "+CME ERROR: " is an error with an empty cause, "+CME ERROR:" is nothing.
        let code = String::from_utf8_lossy(&bytes);
        Some(match Final::parse(code.trim_start()) {
            Some(code) => Line::Final(code),
            None => Line::Text(text.to_owned()),
        })
    }
}

/// The bytes as text, unless they are garbage. An answer that begins with `+` may carry an operator's name in a character set of its
/// own, so there odd bytes become U+FFFD instead.
fn text(bytes: &[u8]) -> Option<String> {
    if bytes.iter().any(|b| (*b < 0x20 && *b != b'\t') || *b == 0x7f) {
        return None;
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => Some(text.to_owned()),
        Err(_) if bytes.starts_with(b"+") => Some(String::from_utf8_lossy(bytes).into_owned()),
        Err(_) => None,
    }
}

/// Most bytes shown of garbage.
const SAMPLE_MAX: usize = 48;

/// The first bytes as printable text, for messages.
#[must_use]
pub fn escape(bytes: &[u8]) -> String {
    let mut out: String = bytes
        .iter()
        .take(SAMPLE_MAX)
        .flat_map(|b| std::ascii::escape_default(*b))
        .map(char::from)
        .collect();
    if bytes.len() > SAMPLE_MAX {
        out.push('…');
    }
    out
}

/// Whether a line is the modem repeating a command. Any line that begins with `AT` is: no answer and no unsolicited code does, and an
/// echo of an *older* command must not be taken for an answer either.
#[must_use]
pub fn is_echo(line: &str) -> bool {
    line.get(..2).is_some_and(|start| start.eq_ignore_ascii_case("at"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use proptest::prelude::*;

    fn all(bytes: &[u8]) -> Vec<Line> {
        let mut lines = Lines::default();
        bytes.iter().filter_map(|b| lines.push(*b)).collect()
    }

    fn t(text: &str) -> Line {
        Line::Text(text.into())
    }

    /// Wire bytes and the lines in them; most come from the test tables of other implementations and from real logs.
    fn vectors() -> Vec<(&'static str, Vec<Line>)> {
        vec![
            ("\r\n", vec![]),
            ("\r", vec![]),
            ("\r\nOK\r\n", vec![Line::Final(Final::Ok)]),
            (
                "AT+CSQ\r\r\n+CSQ: 21,99\r\n\r\nOK\r\n",
                vec![t("AT+CSQ"), t("+CSQ: 21,99"), Line::Final(Final::Ok)],
            ),
            ("a\r\nthis is valid\r\n", vec![t("a"), t("this is valid")]),
            ("AT+GMR\r\r\n", vec![t("AT+GMR")]),
            ("AT\r\r\n\r\n", vec![t("AT")]),
            (
                "\r\nOK\r\n\r\n+CMTI: \"ME\",1\r\n",
                vec![Line::Final(Final::Ok), t("+CMTI: \"ME\",1")],
            ),
            (
                "\r\n+UUSORD: 0,5\r\nAT+USORD=0,4\r\r\n+USORD: 0,4,\"90030002\"\r\nOK\r\n",
                vec![
                    t("+UUSORD: 0,5"),
                    t("AT+USORD=0,4"),
                    t("+USORD: 0,4,\"90030002\""),
                    Line::Final(Final::Ok),
                ],
            ),
            (
                "\r\n+CME ERROR: raspberry\r\n",
                vec![Line::Final(Final::Cme("raspberry".into()))],
            ),
            ("\r\n+CME ERROR: 10\r\n", vec![Line::Final(Final::Cme("10".into()))]),
            ("\r\n+CME ERROR: \r\n", vec![Line::Final(Final::Cme(String::new()))]),
            ("\r\n+CME ERROR:\r\n", vec![t("+CME ERROR:")]),
            ("\r\n+CMS ERROR: 310\r\n", vec![Line::Final(Final::Cms("310".into()))]),
            (
                "\r\nERROR\r\n\r\noooops\r\n",
                vec![Line::Final(Final::Error), t("oooops")],
            ),
            ("\r\nCOMMAND NOT SUPPORT\r\n", vec![Line::Final(Final::NotSupported)]),
            ("\r\nUNKNOWN COMMAND\r\n", vec![t("UNKNOWN COMMAND")]),
            (
                "\r\nNO CARRIER\r\n\r\nSomething extra\r\n",
                vec![Line::Final(Final::NoCarrier), t("Something extra")],
            ),
            (
                "\r\nCONNECT 150000000\r\n\r\nCONNECT\r\n",
                vec![
                    Line::Final(Final::Connect("150000000".into())),
                    Line::Final(Final::Connect(String::new())),
                ],
            ),
            (
                "\r\nBUSY\r\n\r\nNO ANSWER\r\n\r\nNO DIALTONE\r\n",
                vec![
                    Line::Final(Final::Busy),
                    Line::Final(Final::NoAnswer),
                    Line::Final(Final::NoDialtone),
                ],
            ),
            ("\0\0\r\nO\0K\r\n", vec![Line::Final(Final::Ok)]),
            ("\r\nOKAY\r\n\r\nNOT OK\r\n", vec![t("OKAY"), t("NOT OK")]),
            ("\r\n\x01\x02OK\r\n", vec![Line::Garbage("\\x01\\x02OK".into())]),
        ]
    }

    #[test]
    fn every_vector_reads_as_it_should_however_it_is_cut() {
        for (wire, want) in vectors() {
            assert_eq!(all(wire.as_bytes()), want, "{wire:?}");
            for cut in 0..=wire.len() {
                let mut lines = Lines::default();
                let mut got = Vec::new();
                for part in [&wire.as_bytes()[..cut], &wire.as_bytes()[cut..]] {
                    got.extend(part.iter().filter_map(|b| lines.push(*b)));
                }
                assert_eq!(got, want, "{wire:?} cut at {cut}");
            }
        }
    }

    #[test]
    fn a_line_without_end_costs_no_memory_and_the_next_line_is_read() {
        let mut lines = Lines::default();
        for _ in 0..10 * LINE_MAX {
            assert_eq!(lines.push(b'x'), None);
            assert!(lines.line.len() <= LINE_MAX);
        }
        assert!(matches!(lines.push(b'\r'), Some(Line::Garbage(_))));
        assert_eq!(lines.noise().long_lines, 1);
        assert_eq!(
            "OK\r".bytes().filter_map(|b| lines.push(b)).last(),
            Some(Line::Final(Final::Ok))
        );
    }

    #[test]
    fn odd_bytes_in_an_operator_name_do_not_lose_the_answer() {
        assert_eq!(
            all(b"+COPS: 0,0,\"T\xe9l\",7\r\n"),
            vec![t("+COPS: 0,0,\"T\u{fffd}l\",7")]
        );
        assert!(matches!(all(b"\xff\xfe\x80\r\n")[..], [Line::Garbage(_)]));
    }

    #[test]
    fn echoes_are_known_by_their_first_letters() {
        for echo in ["AT", "at+csq", "ATE0", "AT+USORD=0,4"] {
            assert!(is_echo(echo), "{echo}");
        }
        for other in ["A", "RDY", "+CSQ: 1,2", "EG25", "日本"] {
            assert!(!is_echo(other), "{other}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..4096)) {
            let mut lines = Lines::default();
            for b in bytes {
                if let Some(Line::Text(text)) = lines.push(b) {
                    prop_assert!(!text.is_empty() && text.len() <= 3 * LINE_MAX);
                    prop_assert!(!text.contains(['\r', '\n', '\0']));
                }
                prop_assert!(lines.line.len() <= LINE_MAX);
            }
        }
    }
}
