//! D-Bus values as bytes (D-Bus specification, "Marshaling (Wire Format)").
//!
//! Offsets count from the start of a message's header or body; both start on a multiple of 8,
//! so that a value's alignment is the same within its own buffer.

/// The longest message that kcm reads, in bytes; systemd's answers to its calls have a few hundred.
pub(super) const MAX_MESSAGE: usize = 128 * 1024;

/// Why bytes are no message that kcm understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The bytes end before the value does.
    #[error("it ends in the middle of a value")]
    Truncated,
    /// The first byte is neither `l` nor `B`.
    #[error("it starts with byte {0:#04x}, not with 'l' or 'B'")]
    ByteOrder(u8),
    /// A major protocol version other than 1.
    #[error("it has protocol version {0}, not 1")]
    Version(u8),
    /// The header announces more than 128 KiB.
    #[error("it is {0} bytes long, more than {MAX_MESSAGE}")]
    TooLarge(u64),
    /// A string that does not end in NUL or is no UTF-8.
    #[error("a text in it is not UTF-8 with a final NUL")]
    Text,
    /// A value of another type than the call or the header field has.
    #[error("it holds a value of an unexpected type")]
    Type,
}

/// The order of the bytes of a number, given by a message's first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Little,
    Big,
}

impl Order {
    /// The order that a message's first byte stands for.
    pub(super) fn of(mark: u8) -> Result<Self, Malformed> {
        match mark {
            b'l' => Ok(Self::Little),
            b'B' => Ok(Self::Big),
            other => Err(Malformed::ByteOrder(other)),
        }
    }
}

/// Takes values from untrusted bytes, front to back.
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    order: Order,
}

impl<'a> Reader<'a> {
    /// Reads `bytes` from offset `at`.
    pub(super) fn new(bytes: &'a [u8], at: usize, order: Order) -> Self {
        Self { bytes, at, order }
    }

    /// Whether no byte is left.
    pub(super) fn is_at_end(&self) -> bool {
        self.at >= self.bytes.len()
    }

    /// Skips to the next multiple of `boundary`.
    pub(super) fn align(&mut self, boundary: usize) {
        self.at = self.at.next_multiple_of(boundary);
    }

    /// A BYTE (`y`).
    pub(super) fn byte(&mut self) -> Result<u8, Malformed> {
        self.array().map(|[byte]| byte)
    }

    /// A UINT32 (`u`).
    pub(super) fn uint32(&mut self) -> Result<u32, Malformed> {
        self.align(4);
        let bytes = self.array()?;
        Ok(match self.order {
            Order::Little => u32::from_le_bytes(bytes),
            Order::Big => u32::from_be_bytes(bytes),
        })
    }

    /// A UINT64 (`t`).
    pub(super) fn uint64(&mut self) -> Result<u64, Malformed> {
        self.align(8);
        let bytes = self.array()?;
        Ok(match self.order {
            Order::Little => u64::from_le_bytes(bytes),
            Order::Big => u64::from_be_bytes(bytes),
        })
    }

    /// A STRING (`s`) or OBJECT_PATH (`o`): length in four bytes, text, NUL.
    pub(super) fn string(&mut self) -> Result<&'a str, Malformed> {
        let length = self.uint32()?;
        self.text(length as usize)
    }

    /// An ARRAY of BYTE (`ay`): length in four bytes, bytes.
    pub(super) fn bytes(&mut self) -> Result<Vec<u8>, Malformed> {
        let length = self.uint32()?;
        self.take(length as usize).map(<[u8]>::to_vec)
    }

    /// A SIGNATURE (`g`): length in one byte, text, NUL.
    pub(super) fn signature(&mut self) -> Result<&'a str, Malformed> {
        let length = self.byte()?;
        self.text(usize::from(length))
    }

    /// Skips a value of one basic type; containers are refused, so that nothing nests.
    pub(super) fn skip(&mut self, signature: &str) -> Result<(), Malformed> {
        let width = match signature {
            "s" | "o" => return self.string().map(drop),
            "g" => return self.signature().map(drop),
            "y" => 1,
            "n" | "q" => 2,
            "b" | "i" | "u" | "h" => 4,
            "x" | "t" | "d" => 8,
            _ => return Err(Malformed::Type),
        };
        self.align(width);
        self.take(width).map(drop)
    }

    fn text(&mut self, length: usize) -> Result<&'a str, Malformed> {
        let text = self.take(length)?;
        if self.byte()? != 0 || text.contains(&0) {
            return Err(Malformed::Text);
        }
        std::str::from_utf8(text).map_err(|_| Malformed::Text)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let bytes = self.take(N)?;
        bytes.try_into().map_err(|_| Malformed::Truncated)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let rest = self.bytes.get(self.at..).ok_or(Malformed::Truncated)?;
        let taken = rest.get(..length).ok_or(Malformed::Truncated)?;
        self.at += length;
        Ok(taken)
    }
}

/// Puts values after one another, little-endian.
#[derive(Debug, Default)]
pub(super) struct Writer(Vec<u8>);

impl Writer {
    /// What was written.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// Fills with zeros up to the next multiple of `boundary`.
    pub(super) fn align(&mut self, boundary: usize) {
        self.0.resize(self.0.len().next_multiple_of(boundary), 0);
    }

    /// Bytes as they are.
    pub(super) fn raw(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// A UINT32 (`u`), or a BOOLEAN (`b`) as 0 or 1.
    pub(super) fn uint32(&mut self, number: u32) {
        self.align(4);
        self.raw(&number.to_le_bytes());
    }

    /// A UINT64 (`t`).
    pub(super) fn uint64(&mut self, number: u64) {
        self.align(8);
        self.raw(&number.to_le_bytes());
    }

    /// A STRING (`s`) or OBJECT_PATH (`o`).
    pub(super) fn string(&mut self, text: &str) {
        self.uint32(text.len() as u32);
        self.raw(text.as_bytes());
        self.raw(&[0]);
    }

    /// A SIGNATURE (`g`).
    pub(super) fn signature(&mut self, text: &str) {
        self.raw(&[text.len() as u8]);
        self.raw(text.as_bytes());
        self.raw(&[0]);
    }

    /// An ARRAY whose elements start on a multiple of `boundary`; its length counts from the
    /// first element on, without the padding before it.
    pub(super) fn array(&mut self, boundary: usize, elements: impl FnOnce(&mut Self)) {
        self.uint32(0);
        let length_at = self.0.len() - 4;
        self.align(boundary);
        let first = self.0.len();
        elements(self);
        let length = (self.0.len() - first) as u32;
        self.0[length_at..length_at + 4].copy_from_slice(&length.to_le_bytes());
    }
}

#[cfg(test)]
mod tests;
