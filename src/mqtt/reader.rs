//! Reading the fields of a packet that is there whole (MQTT 3.1.1 and 5 section 1.5).

use super::rule::{self, Violation};
use super::text;

/// Most bytes of a variable byte integer (MQTT 3.1.1 section 2.2.3, 5 section 1.5.5).
pub const VARIABLE_BYTES: usize = 4;

/// What is left to be read.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'b>(pub &'b [u8]);

impl<'b> Reader<'b> {
    /// Whether everything has been read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// So many bytes.
    ///
    /// # Errors
    /// [`rule::TRUNCATED`], as in all that follow.
    pub fn bytes(&mut self, length: usize) -> Result<&'b [u8], Violation> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(&rule::TRUNCATED)?;
        self.0 = rest;
        Ok(taken)
    }

    /// One byte.
    pub fn byte(&mut self) -> Result<u8, Violation> {
        let (&first, rest) = self.0.split_first().ok_or(&rule::TRUNCATED)?;
        self.0 = rest;
        Ok(first)
    }

    /// Two bytes, the high one first.
    pub fn two(&mut self) -> Result<u16, Violation> {
        let (bytes, rest) = self.0.split_first_chunk().ok_or(&rule::TRUNCATED)?;
        self.0 = rest;
        Ok(u16::from_be_bytes(*bytes))
    }

    /// Four bytes, the highest first.
    pub fn four(&mut self) -> Result<u32, Violation> {
        let (bytes, rest) = self.0.split_first_chunk().ok_or(&rule::TRUNCATED)?;
        self.0 = rest;
        Ok(u32::from_be_bytes(*bytes))
    }

    /// Binary data: its length in two bytes, and itself.
    pub fn field(&mut self) -> Result<&'b [u8], Violation> {
        let length = self.two()?;
        self.bytes(usize::from(length))
    }

    /// A string: binary data that is UTF-8 without U+0000.
    pub fn text(&mut self) -> Result<&'b str, Violation> {
        text::text(self.field()?)
    }

    /// A variable byte integer of version 5: the fewest bytes that hold it.
    ///
    /// # Errors
    /// [`rule::TRUNCATED`], [`rule::REMAINING_LENGTH`], [`rule::LENGTH_FORM`].
    pub fn variable(&mut self) -> Result<u32, Violation> {
        let mut value = 0_u32;
        for index in 0..VARIABLE_BYTES {
            let byte = self.byte()?;
            value |= u32::from(byte & 0x7f) << (7 * index);
            if byte & 0x80 == 0 {
                if byte == 0 && index > 0 {
                    return Err((&rule::LENGTH_FORM).into());
                }
                return Ok(value);
            }
        }
        Err((&rule::REMAINING_LENGTH).into())
    }
}
