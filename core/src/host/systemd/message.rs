//! D-Bus messages: a call to bytes, bytes to an answer (D-Bus specification, "Message Format").

use super::wire::{MAX_MESSAGE, Malformed, Order, Reader, Writer};

/// The part of the header that gives the message's length.
pub(super) const PREFIX: usize = 16;

const METHOD_CALL: u8 = 1;
const METHOD_RETURN: u8 = 2;
const ERROR: u8 = 3;
const SIGNAL: u8 = 4;

const FIELD_PATH: u8 = 1;
const FIELD_INTERFACE: u8 = 2;
const FIELD_MEMBER: u8 = 3;
const FIELD_ERROR_NAME: u8 = 4;
const FIELD_REPLY_SERIAL: u8 = 5;
const FIELD_DESTINATION: u8 = 6;
const FIELD_SIGNATURE: u8 = 8;

/// A method call to systemd.
#[derive(Debug)]
pub(super) struct Call<'a> {
    /// The object, as in `/org/freedesktop/systemd1`.
    pub(super) path: &'a str,
    pub(super) interface: &'a str,
    pub(super) member: &'static str,
    /// The types of the arguments, as in `ss`.
    pub(super) signature: &'a str,
    /// The arguments.
    pub(super) body: Vec<u8>,
}

impl Call<'_> {
    /// The message; `serial` is what the answer will refer to, and not 0.
    pub(super) fn encode(&self, serial: u32) -> Vec<u8> {
        let mut writer = Writer::default();
        writer.raw(&[b'l', METHOD_CALL, 0, 1]);
        writer.uint32(self.body.len() as u32);
        writer.uint32(serial);
        writer.array(8, |fields| {
            for (code, signature, value) in [
                (FIELD_PATH, "o", self.path),
                (FIELD_INTERFACE, "s", self.interface),
                (FIELD_MEMBER, "s", self.member),
                (FIELD_DESTINATION, "s", "org.freedesktop.systemd1"),
            ] {
                fields.align(8);
                fields.raw(&[code]);
                fields.signature(signature);
                fields.string(value);
            }
            fields.align(8);
            fields.raw(&[FIELD_SIGNATURE]);
            fields.signature("g");
            fields.signature(self.signature);
        });
        writer.align(8);
        writer.raw(&self.body);
        writer.into_bytes()
    }
}

/// A message from the peer, as much of it as an answer needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    kind: u8,
    order: Order,
    reply_serial: Option<u32>,
    error_name: String,
    /// What a signal is called.
    member: String,
    signature: String,
    body: Vec<u8>,
}

/// A job of systemd's that has ended, as the signal `JobRemoved` tells it
/// (org.freedesktop.systemd1(5)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct JobRemoved<'a> {
    /// The job's object.
    pub(super) job: &'a str,
    /// `done`, or how it failed.
    pub(super) result: &'a str,
}

impl Message {
    /// The length in bytes of the message that starts with `prefix`; at most [`MAX_MESSAGE`].
    pub(super) fn length(prefix: &[u8; PREFIX]) -> Result<usize, Malformed> {
        let order = Order::of(prefix[0])?;
        if prefix[3] != 1 {
            return Err(Malformed::Version(prefix[3]));
        }
        let body = Reader::new(prefix, 4, order).uint32()?;
        let fields = Reader::new(prefix, 12, order).uint32()?;
        let length = PREFIX as u64 + u64::from(fields).next_multiple_of(8) + u64::from(body);
        match usize::try_from(length) {
            Ok(fits) if fits <= MAX_MESSAGE => Ok(fits),
            _ => Err(Malformed::TooLarge(length)),
        }
    }

    /// The message that `bytes` are, from the first to the last.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let prefix = bytes.first_chunk().ok_or(Malformed::Truncated)?;
        if Self::length(prefix)? != bytes.len() {
            return Err(Malformed::Truncated);
        }
        let order = Order::of(prefix[0])?;
        let fields_end = PREFIX + Reader::new(prefix, 12, order).uint32()? as usize;
        let fields = bytes.get(..fields_end).ok_or(Malformed::Truncated)?;
        let body = bytes.get(fields_end.next_multiple_of(8)..);
        let mut message = Self {
            kind: prefix[1],
            order,
            reply_serial: None,
            error_name: String::new(),
            member: String::new(),
            signature: String::new(),
            body: body.ok_or(Malformed::Truncated)?.to_vec(),
        };
        let mut reader = Reader::new(fields, PREFIX, order);
        while !reader.is_at_end() {
            message.read_field(&mut reader)?;
        }
        Ok(message)
    }

    /// Reads a header field: STRUCT of BYTE and VARIANT; unknown ones "must be ignored".
    fn read_field(&mut self, reader: &mut Reader<'_>) -> Result<(), Malformed> {
        reader.align(8);
        let code = reader.byte()?;
        match (code, reader.signature()?) {
            (FIELD_ERROR_NAME, "s") => self.error_name = reader.string()?.to_owned(),
            (FIELD_REPLY_SERIAL, "u") => self.reply_serial = Some(reader.uint32()?),
            (FIELD_MEMBER, "s") => self.member = reader.string()?.to_owned(),
            (FIELD_SIGNATURE, "g") => self.signature = reader.signature()?.to_owned(),
            (FIELD_ERROR_NAME | FIELD_REPLY_SERIAL | FIELD_MEMBER | FIELD_SIGNATURE, _) => {
                return Err(Malformed::Type);
            }
            (_, signature) => reader.skip(signature)?,
        }
        Ok(())
    }

    /// Whether this is the answer to the call of that serial, and no signal or other answer.
    pub(super) fn answers(&self, serial: u32) -> bool {
        matches!(self.kind, METHOD_RETURN | ERROR) && self.reply_serial == Some(serial)
    }

    /// The name and the text of an error, if this is one; the text may be missing.
    pub(super) fn error(&self) -> Option<(&str, &str)> {
        let mut arguments = Reader::new(&self.body, 0, self.order);
        let text = match self.signature.starts_with('s') {
            true => arguments.string().unwrap_or_default(),
            false => "",
        };
        (self.kind == ERROR).then_some((&self.error_name, text))
    }

    /// The string in the variant that a property's value is.
    pub(super) fn string_in_variant(&self) -> Result<&str, Malformed> {
        let mut arguments = Reader::new(&self.body, 0, self.order);
        if self.signature != "v" || arguments.signature()? != "s" {
            return Err(Malformed::Type);
        }
        arguments.string()
    }

    /// The truth in the variant that a property's value is.
    pub(super) fn bool_in_variant(&self) -> Result<bool, Malformed> {
        let mut arguments = Reader::new(&self.body, 0, self.order);
        if self.signature != "v" || arguments.signature()? != "b" {
            return Err(Malformed::Type);
        }
        match arguments.uint32()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Malformed::Type),
        }
    }

    /// The number in the variant that a property's value is.
    pub(super) fn uint64_in_variant(&self) -> Result<u64, Malformed> {
        let mut arguments = Reader::new(&self.body, 0, self.order);
        if self.signature != "v" || arguments.signature()? != "t" {
            return Err(Malformed::Type);
        }
        arguments.uint64()
    }

    /// The bytes in the variant that a property's value is.
    pub(super) fn bytes_in_variant(&self) -> Result<Vec<u8>, Malformed> {
        let mut arguments = Reader::new(&self.body, 0, self.order);
        if self.signature != "v" || arguments.signature()? != "ay" {
            return Err(Malformed::Type);
        }
        arguments.bytes()
    }

    /// The object that an answer names, as that of a new job.
    pub(super) fn object(&self) -> Result<&str, Malformed> {
        match self.signature.as_str() {
            "o" => Reader::new(&self.body, 0, self.order).string(),
            _ => Err(Malformed::Type),
        }
    }

    /// The job of which this signal says that it has ended; none for any other message.
    pub(super) fn job_removed(&self) -> Option<JobRemoved<'_>> {
        if (self.kind, self.member.as_str(), self.signature.as_str())
            != (SIGNAL, "JobRemoved", "uoss")
        {
            return None;
        }
        let mut arguments = Reader::new(&self.body, 0, self.order);
        arguments.uint32().ok()?;
        let job = arguments.string().ok()?;
        let _unit = arguments.string().ok()?;
        Some(JobRemoved { job, result: arguments.string().ok()? })
    }
}

#[cfg(test)]
mod tests;
