//! Scopes that systemd makes when it is asked to (org.freedesktop.systemd1(5), StartTransientUnit).

use super::error::{Error, printable};
use super::message::Call;
use super::wire::Writer;
use super::{Systemd, is_scope_name, refusal};

/// A scope that is to be.
#[derive(Clone, Debug)]
pub struct NewScope<'a> {
    /// Its name, as in `kcm-isolate-4711.scope`.
    pub name: &'a str,
    /// What it is, for people.
    pub description: &'a str,
    /// The slice that it is to be in, as in `user-0.slice`.
    pub slice: &'a str,
    /// The process that is moved into it, by its number in systemd's PID namespace.
    pub pid: u32,
}

impl Systemd {
    /// Makes a scope, and waits until the process is in it. systemd leaves what is below its cgroup
    /// alone (`Delegate=yes`), and forgets it when its last process has ended.
    pub fn start_scope(&mut self, scope: &NewScope<'_>) -> Result<(), Error> {
        for name in [scope.name, &format!("{}.scope", scope.slice)] {
            if !is_scope_name(name) {
                return Err(Error::ScopeName(printable(name)));
            }
        }
        let call = start_transient_unit(scope);
        match self.connection.call_and_wait(&call)? {
            Ok(result) if result == "done" => Ok(()),
            Ok(result) => {
                let (scope, result) = (scope.name.to_owned(), printable(&result));
                Err(Error::NotStarted { scope, result })
            }
            Err(answer) => Err(refusal(call.member, scope.name, &answer)
                .unwrap_or(Error::ScopeName(printable(scope.name)))),
        }
    }
}

/// `StartTransientUnit(name, mode, properties, aux)`.
pub(super) fn start_transient_unit(scope: &NewScope<'_>) -> Call<'static> {
    let mut body = Writer::default();
    body.string(scope.name);
    body.string("fail");
    body.array(8, |structs| {
        let mut property = |name: &str, signature: &str, value: &dyn Fn(&mut Writer)| {
            structs.align(8);
            structs.string(name);
            structs.signature(signature);
            value(structs);
        };
        property("Description", "s", &|value| value.string(scope.description));
        property("Slice", "s", &|value| value.string(scope.slice));
        property("CollectMode", "s", &|value| value.string("inactive-or-failed"));
        property("Delegate", "b", &|value| value.uint32(true.into()));
        // As a session's scope has it: the slice's limit holds.
        property("TasksMax", "t", &|value| value.uint64(u64::MAX));
        property("PIDs", "au", &|value| value.array(4, |pids| pids.uint32(scope.pid)));
    });
    body.array(8, |_| {});
    Call {
        path: "/org/freedesktop/systemd1",
        interface: "org.freedesktop.systemd1.Manager",
        member: "StartTransientUnit",
        signature: "ssa(sv)a(sa(sv))",
        body: body.into_bytes(),
    }
}
