//! Messages for tests.
//!
//! `START` to `DELEGATED` were made by another encoder (Python's struct) from the D-Bus specification;
//! the other calls, `BIG_*` and `UNKNOWN_OBJECT` are written by hand from it; the
//! others captured with strace from systemd 252 (252.39-1~deb12u2, user manager), serials set to 1.

/// `Get` of `ControlGroup` of `init.scope`.
pub(super) const GET: &[u8] = b"l\x01\0\x01\x35\0\0\0\x01\0\0\0\xa0\0\0\0\
    \x01\x01o\0\x2b\0\0\0/org/freedesktop/systemd1/unit/init_2escope\0\0\0\0\0\
    \x02\x01s\0\x1f\0\0\0org.freedesktop.DBus.Properties\0\
    \x03\x01s\0\x03\0\0\0Get\0\0\0\0\0\
    \x06\x01s\0\x18\0\0\0org.freedesktop.systemd1\0\0\0\0\0\0\0\0\
    \x08\x01g\0\x02ss\0\
    \x1e\0\0\0org.freedesktop.systemd1.Scope\0\0\x0c\0\0\0ControlGroup\0";

/// `SetUnitProperties` of `init.scope`, `AllowedCPUs=0,8-9` and `AllowedMemoryNodes=0`.
pub(super) const SET: &[u8] = b"l\x01\0\x01\x60\0\0\0\x01\0\0\0\xad\0\0\0\
    \x01\x01o\0\x19\0\0\0/org/freedesktop/systemd1\0\0\0\0\0\0\0\
    \x02\x01s\0\x20\0\0\0org.freedesktop.systemd1.Manager\0\0\0\0\0\0\0\0\
    \x03\x01s\0\x11\0\0\0SetUnitProperties\0\0\0\0\0\0\0\
    \x06\x01s\0\x18\0\0\0org.freedesktop.systemd1\0\0\0\0\0\0\0\0\
    \x08\x01g\0\x07sba(sv)\0\0\0\0\
    \x0a\0\0\0init.scope\0\0\x01\0\0\0\x48\0\0\0\
    \x0b\0\0\0AllowedCPUs\0\x02ay\0\x08\0\0\0\x01\x03\0\0\0\0\0\0\
    \x12\0\0\0AllowedMemoryNodes\0\x02ay\0\0\x08\0\0\0\x01\0\0\0\0\0\0\0";

/// `SetUnitProperties` of `init.scope`, no `CPUQuota=`.
pub(super) const SET_QUOTA: &[u8] = b"l\x01\0\x01\x40\0\0\0\x01\0\0\0\xad\0\0\0\
    \x01\x01o\0\x19\0\0\0/org/freedesktop/systemd1\0\0\0\0\0\0\0\
    \x02\x01s\0\x20\0\0\0org.freedesktop.systemd1.Manager\0\0\0\0\0\0\0\0\
    \x03\x01s\0\x11\0\0\0SetUnitProperties\0\0\0\0\0\0\0\
    \x06\x01s\0\x18\0\0\0org.freedesktop.systemd1\0\0\0\0\0\0\0\0\
    \x08\x01g\0\x07sba(sv)\0\0\0\0\
    \x0a\0\0\0init.scope\0\0\x01\0\0\0\x28\0\0\0\
    \x12\0\0\0CPUQuotaPerSecUSec\0\x01t\0\0\0\0\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff";

/// The answer to `Get`: `/init.scope`.
pub(super) const GROUP: &[u8] = b"l\x02\x01\x01\x14\0\0\0\x07\0\0\0\x37\0\0\0\
    \x05\x01u\0\x01\0\0\0\
    \x07\x01s\0\x18\0\0\0org.freedesktop.systemd1\0\0\0\0\0\0\0\0\
    \x08\x01g\0\x01v\0\0\
    \x01s\0\0\x0b\0\0\0/init.scope\0";

/// The same in big-endian order.
pub(super) const BIG_GROUP: &[u8] = b"B\x02\x01\x01\0\0\0\x14\0\0\0\x07\0\0\0\x37\
    \x05\x01u\0\0\0\0\x01\
    \x07\x01s\0\0\0\0\x18org.freedesktop.systemd1\0\0\0\0\0\0\0\0\
    \x08\x01g\0\x01v\0\0\
    \x01s\0\0\0\0\0\x0b/init.scope\0";

/// The answer to `Get` for a scope that systemd does not know: the empty string.
pub(super) const NO_GROUP: &[u8] = b"l\x02\x01\x01\x09\0\0\0\x01\0\0\0\x37\0\0\0\
    \x05\x01u\0\x01\0\0\0\
    \x07\x01s\0\x18\0\0\0org.freedesktop.systemd1\0\0\0\0\0\0\0\0\
    \x08\x01g\0\x01v\0\0\
    \x01s\0\0\0\0\0\0\0";

/// The answer to `SetUnitProperties`: no arguments.
pub(super) const DONE: &[u8] = b"l\x02\x01\x01\0\0\0\0\x08\0\0\0\x29\0\0\0\
    \x05\x01u\0\x01\0\0\0\
    \x07\x01s\0\x18\0\0\0org.freedesktop.systemd1\0\0\0\0\0\0\0\0";

/// The error for a scope that systemd does not know.
pub(super) const NO_SUCH_UNIT: &[u8] = b"l\x03\x01\x01\x23\0\0\0\x04\0\0\0\x67\0\0\0\
    \x05\x01u\0\x01\0\0\0\
    \x04\x01s\0\x23\0\0\0org.freedesktop.systemd1.NoSuchUnit\0\0\0\0\0\
    \x07\x01s\0\x18\0\0\0org.freedesktop.systemd1\0\0\0\0\0\0\0\0\
    \x08\x01g\0\x01s\0\0\
    \x1e\0\0\0Unit cri-nope.scope not found.\0";

/// The error for an object path that nobody serves, without a text; by hand.
pub(super) const UNKNOWN_OBJECT: &[u8] = b"l\x03\x01\x01\0\0\0\0\x04\0\0\0\x39\0\0\0\
    \x05\x01u\0\x01\0\0\0\
    \x04\x01s\0\x28\0\0\0org.freedesktop.DBus.Error.UnknownObject\0\0\0\0\0\0\0\0";

/// An error without a text, in big-endian order.
pub(super) const BIG_NO_TEXT: &[u8] = b"B\x03\x01\x01\0\0\0\0\0\0\0\x04\0\0\0\x18\
    \x05\x01u\0\0\0\0\x01\
    \x04\x01s\0\0\0\0\x07a.B\nc.D\0";

/// A signal that systemd sends to every private connection.
pub(super) const UNIT_NEW: &[u8] = b"l\x04\x01\x01\x4a\0\0\0\x02\0\0\0\x98\0\0\0\
    \x01\x01o\0\x19\0\0\0/org/freedesktop/systemd1\0\0\0\0\0\0\0\
    \x02\x01s\0\x20\0\0\0org.freedesktop.systemd1.Manager\0\0\0\0\0\0\0\0\
    \x03\x01s\0\x07\0\0\0UnitNew\0\
    \x07\x01s\0\x18\0\0\0org.freedesktop.systemd1\0\0\0\0\0\0\0\0\
    \x08\x01g\0\x02so\0\
    \x0e\0\0\0cri-nope.scope\0\0\
    \x31\0\0\0/org/freedesktop/systemd1/unit/cri_2dnope_2escope\0";

/// `StartTransientUnit` of `x.scope` in `user-0.slice` for process 4711.
pub(super) const START: &[u8] =
    b"l\x01\0\x01\xe8\0\0\0\x01\0\0\0\xb6\0\0\0\x01\x01o\0\x19\0\0\0/org/freedesktop/sy\
    stemd1\0\0\0\0\0\0\0\x02\x01s\0 \0\0\0org.freedesktop.systemd1.Manager\0\0\0\0\0\0\
    \0\0\x03\x01s\0\x12\0\0\0StartTransientUnit\0\0\0\0\0\0\x06\x01s\0\x18\0\0\0org.f\
    reedesktop.systemd1\0\0\0\0\0\0\0\0\x08\x01g\0\x10ssa(sv)a(sa(sv))\0\0\0\x07\0\0\0\
    x.scope\0\x04\0\0\0fail\0\0\0\0\xc0\0\0\0\0\0\0\0\x0b\0\0\0Description\0\x01s\0\0\
    \x06\0\0\0a test\0\0\x05\0\0\0Slice\0\x01s\0\0\0\0\x0c\0\0\0user-0.slice\0\0\0\0\0\
    \0\0\0\x0b\0\0\0CollectMode\0\x01s\0\0\x12\0\0\0inactive-or-failed\0\0\0\0\0\0\x08\
    \0\0\0Delegate\0\x01b\0\x01\0\0\0\0\0\0\0\x08\0\0\0TasksMax\0\x01t\0\xff\xff\xff\xff\
    \xff\xff\xff\xff\x04\0\0\0PIDs\0\x02au\0\0\0\0\x04\0\0\0g\x12\0\0\0\0\0\0\0\0\0\0\
    ";

/// The answer to it: job 77.
pub(super) const JOB: &[u8] =
    b"l\x02\x01\x01%\0\0\0\x07\0\0\x007\0\0\0\x05\x01u\0\x01\0\0\0\x07\x01s\0\x18\0\0\0or\
    g.freedesktop.systemd1\0\0\0\0\0\0\0\0\x08\x01g\0\x01o\0\0 \0\0\0/org/freedesktop\
    /systemd1/job/77\0";

/// The signal that job 77 has ended well.
pub(super) const JOB_DONE: &[u8] =
    b"l\x04\x01\x01A\0\0\0\x09\0\0\0\xa2\0\0\0\x01\x01o\0\x19\0\0\0/org/freedesktop/sys\
    temd1\0\0\0\0\0\0\0\x02\x01s\0 \0\0\0org.freedesktop.systemd1.Manager\0\0\0\0\0\0\
    \0\0\x03\x01s\0\x0a\0\0\0JobRemoved\0\0\0\0\0\0\x07\x01s\0\x18\0\0\0org.freedeskt\
    op.systemd1\0\0\0\0\0\0\0\0\x08\x01g\0\x04uoss\0\0\0\0\0\0\0M\0\0\0 \0\0\0/org/fr\
    eedesktop/systemd1/job/77\0\0\0\0\x07\0\0\0x.scope\0\x04\0\0\0done\0";

/// The signal that job 77 has failed.
pub(super) const JOB_FAILED: &[u8] =
    b"l\x04\x01\x01C\0\0\0\x09\0\0\0\xa2\0\0\0\x01\x01o\0\x19\0\0\0/org/freedesktop/sys\
    temd1\0\0\0\0\0\0\0\x02\x01s\0 \0\0\0org.freedesktop.systemd1.Manager\0\0\0\0\0\0\
    \0\0\x03\x01s\0\x0a\0\0\0JobRemoved\0\0\0\0\0\0\x07\x01s\0\x18\0\0\0org.freedeskt\
    op.systemd1\0\0\0\0\0\0\0\0\x08\x01g\0\x04uoss\0\0\0\0\0\0\0M\0\0\0 \0\0\0/org/fr\
    eedesktop/systemd1/job/77\0\0\0\0\x07\0\0\0x.scope\0\x06\0\0\0failed\0";

/// The same of another job.
pub(super) const OTHER_JOB_DONE: &[u8] =
    b"l\x04\x01\x01A\0\0\0\x09\0\0\0\xa2\0\0\0\x01\x01o\0\x19\0\0\0/org/freedesktop/sys\
    temd1\0\0\0\0\0\0\0\x02\x01s\0 \0\0\0org.freedesktop.systemd1.Manager\0\0\0\0\0\0\
    \0\0\x03\x01s\0\x0a\0\0\0JobRemoved\0\0\0\0\0\0\x07\x01s\0\x18\0\0\0org.freedeskt\
    op.systemd1\0\0\0\0\0\0\0\0\x08\x01g\0\x04uoss\0\0\0\0\0\0\0N\0\0\0 \0\0\0/org/fr\
    eedesktop/systemd1/job/78\0\0\0\0\x07\0\0\0x.scope\0\x04\0\0\0done\0";

/// The answer to `Get` of `Delegate`: yes.
pub(super) const DELEGATED: &[u8] =
    b"l\x02\x01\x01\x08\0\0\0\x07\0\0\x007\0\0\0\x05\x01u\0\x01\0\0\0\x07\x01s\0\x18\0\0\0\
    org.freedesktop.systemd1\0\0\0\0\0\0\0\0\x08\x01g\0\x01v\0\0\x01b\0\0\x01\0\0\0";

/// Every message above.
pub(super) const ALL: [&[u8]; 16] = [
    GET,
    SET,
    GROUP,
    BIG_GROUP,
    NO_GROUP,
    DONE,
    NO_SUCH_UNIT,
    BIG_NO_TEXT,
    UNKNOWN_OBJECT,
    UNIT_NEW,
    START,
    JOB,
    JOB_DONE,
    JOB_FAILED,
    OTHER_JOB_DONE,
    DELEGATED,
];

/// A message with another byte at an offset.
pub(super) fn with(message: &[u8], offset: usize, byte: u8) -> Vec<u8> {
    let mut changed = message.to_vec();
    changed[offset] = byte;
    changed
}
