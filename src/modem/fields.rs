//! The comma-separated fields of an information line: quoted or not, any of them missing or `-`.

/// Most fields kept of one line; the longest, `+QENG` of a GSM cell, has 27.
const FIELDS_MAX: usize = 40;

/// The fields behind a prefix, quotes removed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Fields(Vec<String>);

impl Fields {
    /// Splits the text behind the prefix. A comma inside quotes does not separate.
    #[must_use]
    pub fn of(text: &str) -> Self {
        let mut fields = vec![String::new()];
        let mut quoted = false;
        for c in text.trim().chars() {
            match c {
                '"' => quoted = !quoted,
                ',' if !quoted => {
                    if fields.len() == FIELDS_MAX {
                        break;
                    }
                    fields.push(String::new());
                }
                _ => {
                    if let Some(last) = fields.last_mut() {
                        last.push(c);
                    }
                }
            }
        }
        for field in &mut fields {
            let trimmed = field.trim();
            if trimmed.len() != field.len() {
                *field = trimmed.to_owned();
            }
        }
        Self(fields)
    }

    /// The fields of the last line with this prefix (which includes the colon); spaces after it do not matter.
    #[must_use]
    pub fn behind(prefix: &str, lines: &[String]) -> Option<Self> {
        lines
            .iter()
            .rev()
            .find_map(|line| line.strip_prefix(prefix))
            .map(Self::of)
    }

    /// Field `index` from 0; `None` if it is missing, empty or `-` (Quectel's "not valid now").
    #[must_use]
    pub fn text(&self, index: usize) -> Option<&str> {
        self.raw(index).filter(|f| !f.is_empty() && *f != "-")
    }

    /// Field `index` even if empty.
    #[must_use]
    pub fn raw(&self, index: usize) -> Option<&str> {
        self.0.get(index).map(String::as_str)
    }

    /// Field `index` as a decimal number.
    #[must_use]
    pub fn number<T: std::str::FromStr>(&self, index: usize) -> Option<T> {
        self.text(index)?.parse().ok()
    }

    /// Field `index` as a hexadecimal number.
    #[must_use]
    pub fn hex(&self, index: usize) -> Option<u32> {
        u32::from_str_radix(self.text(index)?, 16).ok()
    }

    /// How many fields there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn quotes_gaps_and_spaces() {
        let f = Fields::of(" 30, \"a,b\",,-,\"1E2F\",\"open");
        assert_eq!(f.count(), 6);
        assert_eq!(
            (f.number::<u8>(0), f.text(1), f.text(2), f.text(3)),
            (Some(30), Some("a,b"), None, None)
        );
        assert_eq!((f.hex(4), f.text(5), f.text(6)), (Some(0x1E2F), Some("open"), None));
        assert_eq!(f.raw(2), Some(""));
        assert_eq!(Fields::of(&",".repeat(1000)).count(), FIELDS_MAX);
    }

    #[test]
    fn the_last_line_with_the_prefix_counts() {
        let lines = vec![
            "+CPIN: NOT READY".to_owned(),
            "noise".to_owned(),
            "+CPIN:READY".to_owned(),
        ];
        assert_eq!(Fields::behind("+CPIN:", &lines).unwrap().text(0), Some("READY"));
        assert_eq!(Fields::behind("+CSQ:", &lines), None);
    }
}
