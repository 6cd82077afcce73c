//! What a unit may use, and services that are started anew.

use super::*;

/// The answer to `Get` of `AllowedCPUs`: 0-3,6-15, the bytes that busctl shows of systemd 252.
const ALLOWED: &[u8] = b"l\x02\x01\x01\x10\0\0\0\x07\0\0\0\x37\0\0\0\
    \x05\x01u\0\x01\0\0\0\
    \x07\x01s\0\x18\0\0\0org.freedesktop.systemd1\0\0\0\0\0\0\0\0\
    \x08\x01g\0\x01v\0\0\
    \x02ay\0\x08\0\0\0\xcf\xff\0\0\0\0\0\0";

/// The bytes of a call that follow its header.
fn body(call: &[u8]) -> &[u8] {
    let length = u32::from_le_bytes(call[4..8].try_into().unwrap());
    &call[call.len() - length as usize..]
}

#[test]
fn a_units_cpus_are_read_and_a_unit_that_is_not_there_has_none() {
    let allowed = |answer: Vec<u8>, unit: &str| {
        let peer = answering(answer);
        let allowed = peer.connect(LONG).unwrap().allowed_cpus(unit);
        allowed.map(|cpus| cpus.map(|cpus| cpus.to_string()))
    };
    for unit in ["system.slice", "init.scope"] {
        assert_eq!(allowed(ALLOWED.to_vec(), unit).unwrap().as_deref(), Some("0-3,6-15"));
    }
    assert_eq!(allowed(NO_SUCH_UNIT.to_vec(), "x.slice").unwrap(), None);
    // An array that is longer than the message, and a value of another type.
    let error = allowed(with(ALLOWED, ALLOWED.len() - 12, 0xff), "x.slice").unwrap_err();
    assert!(matches!(error, Error::Malformed { cause: Malformed::Truncated, .. }), "{error}");
    let error = allowed(GROUP.to_vec(), "x.slice").unwrap_err();
    assert!(matches!(error, Error::Malformed { cause: Malformed::Type, .. }), "{error}");
}

#[test]
fn a_unit_is_restricted_and_its_restriction_lifted_and_no_other_name_is_sent() {
    for (cpus, bytes) in [("0-3,6-15", &b"\x08\0\0\0\xcf\xff\0\0\0\0\0\0"[..]), ("", b"\0\0\0\0")] {
        let peer = answering(DONE.to_vec());
        let cpus = CpuSet::parse_possibly_empty(cpus).unwrap();
        let mut systemd = peer.connect(LONG).unwrap();
        // The answer is to another call's serial.
        let _ = systemd.restrict("system.slice", &cpus);
        drop(systemd);
        let sent = peer.thread.join().unwrap();
        let start = b"\x0c\0\0\0system.slice\0\0\0\0\x01\0\0\0";
        assert!(body(&sent).starts_with(start) && body(&sent).ends_with(bytes), "{sent:?}");
    }
    let peer = Peer::new(|listener| log_in(listener).read(&mut [0]).unwrap());
    let mut systemd = peer.connect(LONG).unwrap();
    for name in ["", ".slice", "a.service", "a b.slice", "a/b.slice", "slice"] {
        let refused = systemd.restrict(name, &CpuSet::new());
        assert!(matches!(refused, Err(Error::ScopeName(_))), "{name:?}");
    }
    drop(systemd);
    assert_eq!(peer.thread.join().unwrap(), 0, "something was sent");
}

/// The answer to `Get` of `CPUQuotaPerSecUSec`: 1500000, one and a half CPUs.
const QUOTA: &[u8] = b"l\x02\x01\x01\x10\0\0\0\x07\0\0\0\x37\0\0\0\
    \x05\x01u\0\x01\0\0\0\
    \x07\x01s\0\x18\0\0\0org.freedesktop.systemd1\0\0\0\0\0\0\0\0\
    \x08\x01g\0\x01v\0\0\
    \x01t\0\0\0\0\0\0\x60\xe3\x16\0\0\0\0\0";

#[test]
fn a_units_quota_is_read_and_set_and_a_unit_that_is_not_there_has_none() {
    let quota = |answer: &[u8], unit: &str| {
        let peer = answering(answer.to_vec());
        peer.connect(LONG).unwrap().quota(unit)
    };
    assert_eq!(quota(QUOTA, "kubepods-pod1.slice").unwrap(), Some(1_500_000));
    assert_eq!(quota(NO_SUCH_UNIT, "x.slice").unwrap(), None);
    let error = quota(GROUP, "x.slice").unwrap_err();
    assert!(matches!(error, Error::Malformed { cause: Malformed::Type, .. }), "{error}");
    let peer = answering(DONE.to_vec());
    let mut systemd = peer.connect(LONG).unwrap();
    // The answer is to another call's serial.
    let _ = systemd.set_quota("kubepods-pod1.slice", 1_500_000);
    assert!(matches!(systemd.set_quota("a.service", 1), Err(Error::ScopeName(_))));
    drop(systemd);
    let sent = peer.thread.join().unwrap();
    assert!(
        body(&sent).ends_with(b"CPUQuotaPerSecUSec\0\x01t\0\0\0\0\0\0\0\x60\xe3\x16\0\0\0\0\0")
    );
}

#[test]
fn a_service_is_restarted_when_its_job_has_ended() {
    let restart = |answer: Vec<u8>| {
        let peer = answering(answer);
        let mut systemd = peer.connect(SHORT * 4).unwrap();
        let restarted = systemd.restart_if_running("irqbalance.service");
        drop(systemd);
        (restarted, peer.thread.join().unwrap())
    };
    let (restarted, sent) = restart([JOB, OTHER_JOB_DONE, JOB_DONE].concat());
    restarted.unwrap();
    let expected = b"\x12\0\0\0irqbalance.service\0\0\x07\0\0\0replace\0";
    assert_eq!(body(&sent), expected);
    let error = restart([JOB, JOB_FAILED].concat()).0.unwrap_err().to_string();
    assert!(error.contains("did not start irqbalance.service"), "{error}");
    let error = restart(NO_SUCH_UNIT.to_vec()).0.unwrap_err();
    assert!(matches!(error, Error::Refused { .. }), "{error}");
}
