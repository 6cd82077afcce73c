//! Tells systemd which CPUs a scope may use, so that it does not write its own value back; has it
//! make scopes.
//!
//! ```text
//! Systemd (this file)    the calls: Get, SetUnitProperties
//!   transient            StartTransientUnit
//!   unit                 AllowedCPUs and CPUQuota of any unit; Reload, TryRestartUnit
//!   connection           login, messages out and in
//!     endpoint           socket, time limit
//!     message, wire      bytes ⇄ messages and values; pure
//! ```
//!
//! A peer-to-peer D-Bus connection over systemd's private socket: no bus daemon, hence no `Hello`.
//! Everything that comes from the peer is untrusted: lengths, types and time are limited.

mod connection;
mod endpoint;
mod error;
#[cfg(test)]
mod fixtures;
mod message;
mod transient;
mod unit;
mod wire;

use std::path::Path;
use std::time::{Duration, Instant};

use crate::CpuSet;
use connection::Connection;
use endpoint::Endpoint;
use error::printable;
use message::{Call, Message};
use wire::Writer;

pub use error::Error;
pub use transient::NewScope;
pub use unit::NO_QUOTA;
pub use wire::Malformed;

/// Where systemd listens as PID 1.
pub const PRIVATE_SOCKET: &str = "/run/systemd/private";

/// What systemd answers with if it has no such unit (org.freedesktop.systemd1(5), D-Bus
/// specification).
const UNKNOWN_UNIT: [&str; 2] =
    ["org.freedesktop.systemd1.NoSuchUnit", "org.freedesktop.DBus.Error.UnknownObject"];

/// The longest unit name, with its suffix, in bytes (systemd.unit(5): 255 characters).
const MAX_UNIT_NAME: usize = 255;

/// What a scope may use (systemd.resource-control(5)).
#[derive(Clone, Copy, Debug)]
pub struct Restriction<'a> {
    /// Its CPUs (`AllowedCPUs=`).
    pub cpus: &'a CpuSet,
    /// The NUMA nodes of its memory (`AllowedMemoryNodes=`); none for its memory as it is.
    pub memory_nodes: Option<&'a CpuSet>,
    /// Whether its CFS quota is lifted (`CPUQuota=`).
    pub is_unthrottled: bool,
}

/// A property's value.
#[derive(Clone, Copy, Debug)]
enum Value<'a> {
    /// A mask (`ay`).
    Cpus(&'a CpuSet),
    /// A number (`t`).
    Number(u64),
}

/// A connection to systemd's private socket.
#[derive(Debug)]
pub struct Systemd {
    endpoint: Endpoint,
    connection: Connection,
}

impl Systemd {
    /// Connects and logs in; `None` where there is no such socket: systemd is not PID 1.
    ///
    /// `limit` is for this and all calls that follow, together; the time between them is free.
    pub fn connect(socket: &Path, limit: Duration) -> Result<Option<Self>, Error> {
        let endpoint = Endpoint::new(socket.to_owned(), limit);
        let connection = Connection::open(&endpoint)?;
        Ok(connection.map(|connection| Self { endpoint, connection }))
    }

    /// No call that follows takes longer than until then, whatever the limit leaves it.
    pub fn until(&mut self, deadline: Instant) {
        self.connection.until(deadline);
    }

    /// The cgroup that systemd has for a scope or a service, as in `/kubepods.slice/cri-1f.scope`;
    /// `None` if it has no such unit (property `ControlGroup`, org.freedesktop.systemd1(5)).
    pub fn control_group(&mut self, unit: &str) -> Result<Option<String>, Error> {
        let Some(answer) = self.property(unit, "ControlGroup")? else { return Ok(None) };
        let group = answer.string_in_variant();
        let group = group.map_err(|cause| self.endpoint.malformed(cause))?;
        Ok((!group.is_empty()).then(|| group.to_owned()))
    }

    /// Whether a scope or service may divide its own cgroup (`Delegate=`,
    /// systemd.resource-control(5)); not if systemd has no such unit.
    pub fn is_delegated(&mut self, unit: &str) -> Result<bool, Error> {
        let Some(answer) = self.property(unit, "Delegate")? else { return Ok(false) };
        answer.bool_in_variant().map_err(|cause| self.endpoint.malformed(cause))
    }

    /// A property of a scope or service; `None` if systemd has no such unit.
    fn property(&mut self, unit: &str, name: &str) -> Result<Option<Message>, Error> {
        let interface = match unit.rsplit_once('.') {
            Some((stem, "scope")) if is_unit_name(stem, unit) => "org.freedesktop.systemd1.Scope",
            Some((stem, "service")) if is_unit_name(stem, unit) => {
                "org.freedesktop.systemd1.Service"
            }
            _ => return Ok(None),
        };
        self.ask(unit, interface, name)
    }

    /// A property of a unit by the interface that has it; `None` if systemd has no such unit.
    fn ask(&mut self, unit: &str, interface: &str, name: &str) -> Result<Option<Message>, Error> {
        match self.call(unit, &get(&unit_path(unit), interface, name)) {
            Err(Error::Refused { name, .. }) if UNKNOWN_UNIT.contains(&name.as_str()) => Ok(None),
            other => other.map(Some),
        }
    }

    /// Restricts a scope until it ends (since systemd 244).
    ///
    /// No error does not mean that the CPUs hold: systemd only logs it when the kernel refuses a
    /// value, and on cgroup v1 it writes none. The caller verifies.
    pub fn restrict_scope(&mut self, scope: &str, to: Restriction<'_>) -> Result<(), Error> {
        if !is_scope_name(scope) {
            return Err(Error::ScopeName(printable(scope)));
        }
        let mut sets = vec![("AllowedCPUs", to.cpus)];
        sets.extend(to.memory_nodes.map(|nodes| ("AllowedMemoryNodes", nodes)));
        if let Some((property, _)) = sets.iter().find(|(_, set)| set.is_empty()) {
            let scope = scope.to_owned();
            return Err(Error::EmptySet { property, scope });
        }
        let mut properties: Vec<_> =
            sets.into_iter().map(|(name, set)| (name, Value::Cpus(set))).collect();
        if to.is_unthrottled {
            properties.push((unit::QUOTA, Value::Number(unit::NO_QUOTA)));
        }
        self.call(scope, &set_unit_properties(scope, &properties)).map(drop)
    }

    fn call(&mut self, scope: &str, call: &Call<'_>) -> Result<Message, Error> {
        let answer = self.connection.call(call)?;
        match refusal(call.member, scope, &answer) {
            Some(refusal) => Err(refusal),
            None => Ok(answer),
        }
    }
}

/// What an answer says if it is an error.
fn refusal(method: &'static str, scope: &str, answer: &Message) -> Option<Error> {
    let (name, text) = answer.error()?;
    Some(Error::Refused {
        method,
        scope: scope.to_owned(),
        name: printable(name),
        text: match text {
            "" => "no reason given".to_owned(),
            text => printable(text.trim_end_matches('.')),
        },
    })
}

/// `Get` of a property (D-Bus specification, org.freedesktop.DBus.Properties).
fn get<'a>(path: &'a str, interface: &str, property: &str) -> Call<'a> {
    let mut body = Writer::default();
    body.string(interface);
    body.string(property);
    Call {
        path,
        interface: "org.freedesktop.DBus.Properties",
        member: "Get",
        signature: "ss",
        body: body.into_bytes(),
    }
}

/// `SetUnitProperties(name, runtime, properties)`, for this boot only
/// (org.freedesktop.systemd1(5)).
fn set_unit_properties(scope: &str, properties: &[(&str, Value<'_>)]) -> Call<'static> {
    let mut body = Writer::default();
    body.string(scope);
    body.uint32(true.into());
    body.array(8, |structs| {
        for (name, value) in properties {
            structs.align(8);
            structs.string(name);
            match value {
                Value::Cpus(set) => {
                    structs.signature("ay");
                    structs.array(1, |mask| mask.raw(&set.to_bytes()));
                }
                Value::Number(number) => {
                    structs.signature("t");
                    structs.uint64(*number);
                }
            }
        }
    });
    Call {
        path: "/org/freedesktop/systemd1",
        interface: "org.freedesktop.systemd1.Manager",
        member: "SetUnitProperties",
        signature: "sba(sv)",
        body: body.into_bytes(),
    }
}

/// Whether systemd accepts a text as a scope's name (systemd.unit(5)).
fn is_scope_name(text: &str) -> bool {
    text.strip_suffix(".scope").is_some_and(|stem| is_unit_name(stem, text))
}

/// Whether a text whose stem this is can name a unit.
fn is_unit_name(stem: &str, text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
    !stem.is_empty() && text.len() <= MAX_UNIT_NAME && stem.chars().all(allowed)
}

/// A unit's object path: what is no letter and no digit becomes `_` and two hexadecimal digits,
/// and so does a digit at the start (org.freedesktop.systemd1(5), sd_bus_path_encode(3)).
fn unit_path(unit: &str) -> String {
    let mut path = String::from("/org/freedesktop/systemd1/unit/");
    for (i, byte) in unit.bytes().enumerate() {
        match byte {
            b'0'..=b'9' if i > 0 => path.push(byte.into()),
            b'a'..=b'z' | b'A'..=b'Z' => path.push(byte.into()),
            _ => path.push_str(&format!("_{byte:02x}")),
        }
    }
    path
}

#[cfg(test)]
mod tests;
