//! Patterns in which `*` stands for any characters and `?` for any one: AWS's policy documents and the Azure CLI's `--device-id` have them.

/// One character of a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Glyph {
    Char(char),
    Any,
    One,
}

/// A pattern as it is written.
pub(super) fn glyphs(pattern: &str) -> Vec<Glyph> {
    let glyph = |c| match c {
        '*' => Glyph::Any,
        '?' => Glyph::One,
        other => Glyph::Char(other),
    };
    pattern.chars().map(glyph).collect()
}

/// Whether a text fits. It goes back to the last `*` only: time is bounded by the product of both lengths.
pub(super) fn matches(pattern: &[Glyph], text: &str) -> bool {
    let text: Vec<char> = text.chars().collect();
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while let Some(&here) = text.get(t) {
        match pattern.get(p) {
            Some(Glyph::Any) => {
                star = Some((p, t));
                p += 1;
            }
            Some(Glyph::One) => (p, t) = (p + 1, t + 1),
            Some(Glyph::Char(c)) if *c == here => (p, t) = (p + 1, t + 1),
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    (p, t) = (at + 1, from + 1);
                }
                None => return false,
            },
        }
    }
    pattern.iter().skip(p).all(|g| *g == Glyph::Any)
}
