//! A command line taken apart (V.250 section 5): basic commands stand side by side, extended ones are joined by `;`.

/// One command of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Command {
    /// `E0`, `&F`, `Z`, ...: the letter (with `&` before it) in upper case and its number, 0 when left out.
    Basic(String, u32),
    /// `S<register>=<value>`.
    Register,
    /// `D...`: the rest of the line is the number to dial.
    Dial(String),
    /// `+NAME...`.
    Extended(Extended),
    /// Cannot be read.
    Bad,
}

/// An extended command; the name is in upper case and without its `+`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Extended {
    pub(super) name: String,
    pub(super) kind: Kind,
}

/// Which form an extended command has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// `+X`
    Run,
    /// `+X?`
    Read,
    /// `+X=?`
    Test,
    /// `+X=...`
    Set(Vec<Arg>),
}

/// One argument, without its quotes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Arg {
    pub(super) text: String,
}

impl Arg {
    /// The argument as a small number.
    pub(super) fn number(&self) -> Option<u32> {
        self.text.parse().ok()
    }
}

/// The arguments' texts, for matching on slices.
pub(super) fn texts(args: &[Arg]) -> Vec<&str> {
    args.iter().map(|arg| arg.text.as_str()).collect()
}

/// Takes the line after `AT` apart. After something that cannot be read there is nothing more.
pub(super) fn parse(line: &str) -> Vec<Command> {
    let mut commands = Vec::new();
    let mut rest = line;
    loop {
        rest = rest.trim_start_matches([' ', ';']);
        let Some(first) = rest.chars().next() else {
            return commands;
        };
        let (command, remaining) = match first.to_ascii_uppercase() {
            '+' | '$' => extended(rest),
            'D' => (Command::Dial(rest.get(1..).unwrap_or_default().trim().to_owned()), ""),
            'S' => register(rest),
            '&' | 'A'..='Z' => basic(rest),
            _ => (Command::Bad, ""),
        };
        let bad = command == Command::Bad;
        commands.push(command);
        if bad {
            return commands;
        }
        rest = remaining;
    }
}

fn basic(text: &str) -> (Command, &str) {
    let name_len = if text.starts_with('&') { 2 } else { 1 };
    let Some((name, rest)) = text.split_at_checked(name_len) else {
        return (Command::Bad, "");
    };
    if !name.trim_start_matches('&').bytes().all(|b| b.is_ascii_alphabetic()) {
        return (Command::Bad, "");
    }
    let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (value, rest) = rest.split_at(digits);
    match if value.is_empty() { Ok(0) } else { value.parse() } {
        Ok(value) => (Command::Basic(name.to_ascii_uppercase(), value), rest),
        Err(_) => (Command::Bad, ""),
    }
}

fn register(text: &str) -> (Command, &str) {
    let after = text.get(1..).unwrap_or_default();
    let number_end = after.trim_start_matches(|c: char| c.is_ascii_digit());
    if number_end.len() == after.len() {
        return (Command::Bad, "");
    }
    match number_end.strip_prefix('=') {
        Some(value) => (
            Command::Register,
            value.trim_start_matches(|c: char| c.is_ascii_digit()),
        ),
        None => (Command::Bad, ""),
    }
}

fn extended(text: &str) -> (Command, &str) {
    let mut quoted = false;
    let end = text.find(|c: char| {
        quoted ^= c == '"';
        c == ';' && !quoted
    });
    let (this, rest) = text.split_at(end.unwrap_or(text.len()));
    let body = this.strip_prefix('+').unwrap_or(this).trim();
    let name_end = body.find(['=', '?']).unwrap_or(body.len());
    let (name, tail) = body.split_at(name_end);
    let name = name.trim().to_ascii_uppercase();
    let kind = match tail {
        "" => Kind::Run,
        "?" => Kind::Read,
        "=?" => Kind::Test,
        _ => match tail.strip_prefix('=') {
            Some(args) => match arguments(args) {
                Some(args) => Kind::Set(args),
                None => return (Command::Bad, ""),
            },
            None => return (Command::Bad, ""),
        },
    };
    (Command::Extended(Extended { name, kind }), rest)
}

/// Splits at commas outside quotes; `None` when a quote stays open or text follows a closing quote.
fn arguments(text: &str) -> Option<Vec<Arg>> {
    let mut args = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start();
        let (arg, after) = match rest.strip_prefix('"') {
            Some(inside) => {
                let (value, after) = inside.split_once('"')?;
                (value, after.trim_start())
            }
            None => {
                let end = rest.find(',').unwrap_or(rest.len());
                let (value, after) = rest.split_at(end);
                (value.trim(), after)
            }
        };
        args.push(Arg { text: arg.to_owned() });
        if after.is_empty() {
            return Some(args);
        }
        rest = after.strip_prefix(',')?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ext(name: &str, kind: Kind) -> Command {
        Command::Extended(Extended {
            name: name.into(),
            kind,
        })
    }

    fn set(args: &[&str]) -> Kind {
        Kind::Set(args.iter().map(|text| Arg { text: (*text).into() }).collect())
    }

    #[test]
    fn extended_commands() {
        assert_eq!(
            parse("+csq;+CREG?"),
            vec![ext("CSQ", Kind::Run), ext("CREG", Kind::Read)]
        );
        assert_eq!(parse("+CREG=?"), vec![ext("CREG", Kind::Test)]);
        assert_eq!(
            parse("+QICSGP=1, 1,\"a;b,c\",\"\",,1;+CSQ"),
            vec![
                ext("QICSGP", set(&["1", "1", "a;b,c", "", "", "1"])),
                ext("CSQ", Kind::Run)
            ]
        );
        assert_eq!(parse("+CPIN=\"12"), vec![Command::Bad]);
        assert_eq!(parse("+CPIN=\"12\"3"), vec![Command::Bad]);
        assert_eq!(parse("+X?Y"), vec![Command::Bad]);
    }

    #[test]
    fn basic_commands_stand_side_by_side() {
        assert_eq!(
            parse("e0Q0 v1&c1S0=0+CMEE=2"),
            vec![
                Command::Basic("E".into(), 0),
                Command::Basic("Q".into(), 0),
                Command::Basic("V".into(), 1),
                Command::Basic("&C".into(), 1),
                Command::Register,
                ext("CMEE", set(&["2"])),
            ]
        );
        assert_eq!(parse("D*99***1#;x"), vec![Command::Dial("*99***1#;x".into())]);
        assert_eq!(parse(""), vec![]);
    }

    #[test]
    fn what_cannot_be_read_ends_the_line() {
        for line in ["é", "&", "&é", "S", "S0?", "E99999999999999", "~~", "1"] {
            assert_eq!(parse(line).last(), Some(&Command::Bad), "{line}");
        }
    }
}
