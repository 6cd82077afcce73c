//! What a unit may use, for as long as this boot lasts; units started anew
//! (org.freedesktop.systemd1(5)).

use super::error::{Error, printable};
use super::message::Call;
use super::wire::Writer;
use super::{Systemd, Value, is_unit_name, refusal, set_unit_properties};
use crate::CpuSet;

/// The property of a CFS quota: microseconds in a second.
pub(super) const QUOTA: &str = "CPUQuotaPerSecUSec";

/// Its value where there is none.
pub const NO_QUOTA: u64 = u64::MAX;

impl Systemd {
    /// The CPUs that a slice or scope is restricted to (`AllowedCPUs=`), empty where it is not;
    /// `None` if systemd has no such unit.
    pub fn allowed_cpus(&mut self, unit: &str) -> Result<Option<CpuSet>, Error> {
        let Some(interface) = interface(unit) else { return Ok(None) };
        let Some(answer) = self.ask(unit, interface, "AllowedCPUs")? else { return Ok(None) };
        let bytes = answer.bytes_in_variant();
        let bytes = bytes.map_err(|cause| self.endpoint.malformed(cause))?;
        Ok(Some(CpuSet::from_bytes(&bytes)))
    }

    /// The cgroup of a slice or scope; `None` if systemd has no such unit, or nobody is in it.
    pub fn cgroup_of_unit(&mut self, unit: &str) -> Result<Option<String>, Error> {
        let Some(interface) = interface(unit) else { return Ok(None) };
        let Some(answer) = self.ask(unit, interface, "ControlGroup")? else { return Ok(None) };
        let group = answer.string_in_variant();
        let group = group.map_err(|cause| self.endpoint.malformed(cause))?;
        Ok((!group.is_empty()).then(|| group.to_owned()))
    }

    /// Restricts a slice or scope to CPUs in this boot; to none at all stands for no restriction, which
    /// leaves in the kernel what was there (systemd 252, 257). The caller verifies.
    pub fn restrict(&mut self, unit: &str, cpus: &CpuSet) -> Result<(), Error> {
        if interface(unit).is_none() {
            return Err(Error::ScopeName(printable(unit)));
        }
        let properties = [("AllowedCPUs", Value::Cpus(cpus))];
        self.call(unit, &set_unit_properties(unit, &properties)).map(drop)
    }

    /// The CFS quota of a slice or scope (`CPUQuota=`) in microseconds of a second, `u64::MAX` where it
    /// has none; `None` if systemd has no such unit.
    pub fn quota(&mut self, unit: &str) -> Result<Option<u64>, Error> {
        let Some(interface) = interface(unit) else { return Ok(None) };
        let Some(answer) = self.ask(unit, interface, QUOTA)? else { return Ok(None) };
        answer.uint64_in_variant().map(Some).map_err(|cause| self.endpoint.malformed(cause))
    }

    /// Gives a slice or scope a CFS quota for this boot, or lifts it (`u64::MAX`).
    pub fn set_quota(&mut self, unit: &str, quota: u64) -> Result<(), Error> {
        if interface(unit).is_none() {
            return Err(Error::ScopeName(printable(unit)));
        }
        let properties = [(QUOTA, Value::Number(quota))];
        self.call(unit, &set_unit_properties(unit, &properties)).map(drop)
    }

    /// Has systemd read its units anew.
    pub fn reload(&mut self) -> Result<(), Error> {
        self.call("all units", &manager("Reload", "", Writer::default())).map(drop)
    }

    /// Restarts a service if it runs, and waits until it does again.
    pub fn restart_if_running(&mut self, service: &str) -> Result<(), Error> {
        let mut body = Writer::default();
        body.string(service);
        body.string("replace");
        let call = manager("TryRestartUnit", "ss", body);
        match self.connection.call_and_wait(&call)? {
            Ok(result) if result == "done" => Ok(()),
            Ok(result) => {
                let (scope, result) = (service.to_owned(), printable(&result));
                Err(Error::NotStarted { scope, result })
            }
            Err(answer) => Err(refusal(call.member, service, &answer)
                .unwrap_or(Error::ScopeName(printable(service)))),
        }
    }
}

/// The interface of a slice or scope; none for what is no name of either.
fn interface(unit: &str) -> Option<&'static str> {
    match unit.rsplit_once('.')? {
        (stem, "scope") if is_unit_name(stem, unit) => Some("org.freedesktop.systemd1.Scope"),
        (stem, "slice") if is_unit_name(stem, unit) => Some("org.freedesktop.systemd1.Slice"),
        _ => None,
    }
}

fn manager(member: &'static str, signature: &'static str, body: Writer) -> Call<'static> {
    Call {
        path: "/org/freedesktop/systemd1",
        interface: "org.freedesktop.systemd1.Manager",
        member,
        signature,
        body: body.into_bytes(),
    }
}
