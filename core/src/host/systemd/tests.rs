use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::thread::{self, JoinHandle};
use std::time::Instant;

use proptest::prelude::*;

use super::fixtures::*;
use super::*;

/// Long for a peer that answers, on a busy machine too.
const LONG: Duration = Duration::from_secs(20);
/// Short for a peer that does not.
const SHORT: Duration = Duration::from_millis(500);

fn to(cpus: &CpuSet) -> Restriction<'_> {
    Restriction { cpus, memory_nodes: None, is_unthrottled: false }
}

/// A program that listens where systemd would.
struct Peer<T> {
    directory: tempfile::TempDir,
    thread: JoinHandle<T>,
}

impl<T: Send + 'static> Peer<T> {
    fn new(script: impl FnOnce(&UnixListener) -> T + Send + 'static) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(directory.path().join("private")).unwrap();
        let thread = thread::spawn(move || script(&listener));
        Self { directory, thread }
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("private")
    }

    fn connect(&self, limit: Duration) -> Result<Systemd, Error> {
        Systemd::connect(&self.socket(), limit).map(Option::unwrap)
    }
}

/// Accepts a login; like systemd 252 only after `BEGIN`, and without a byte read past it.
fn log_in(listener: &UnixListener) -> UnixStream {
    let (mut stream, _) = listener.accept().unwrap();
    let mut line = Vec::new();
    while !line.ends_with(b"BEGIN\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        line.extend(byte);
    }
    let uid = nix::unistd::geteuid().to_string();
    let hex: String = uid.chars().map(|digit| format!("3{digit}")).collect();
    assert_eq!(line, format!("\0AUTH EXTERNAL {hex}\r\nBEGIN\r\n").as_bytes());
    stream.write_all(b"OK 3f31d23e79df4d6cb45af7c7f1b5e0a3\r\n").unwrap();
    stream
}

/// Reads one call.
fn call(stream: &mut UnixStream) -> Vec<u8> {
    let mut bytes = vec![0; message::PREFIX];
    stream.read_exact(&mut bytes).unwrap();
    let length = Message::length(bytes.first_chunk().unwrap()).unwrap();
    bytes.resize(length, 0);
    stream.read_exact(&mut bytes[message::PREFIX..]).unwrap();
    bytes
}

/// A peer that answers the first call with `answer`, then waits for the end.
fn answering(answer: Vec<u8>) -> Peer<Vec<u8>> {
    Peer::new(move |listener| {
        let mut stream = log_in(listener);
        let received = call(&mut stream);
        stream.write_all(&answer).unwrap();
        let _ = stream.read(&mut [0]);
        received
    })
}

fn control_group(answer: Vec<u8>, limit: Duration) -> Result<Option<String>, Error> {
    answering(answer).connect(limit).unwrap().control_group("init.scope")
}

#[test]
fn gives_the_cgroup_of_a_scope_or_none() {
    let found = Some("/init.scope".to_owned());
    for (answer, expected) in [
        (GROUP.to_vec(), found.clone()),
        (BIG_GROUP.to_vec(), found.clone()),
        ([UNIT_NEW, &with(DONE, 20, 9), GET, GROUP].concat(), found),
        (NO_GROUP.to_vec(), None),
        (NO_SUCH_UNIT.to_vec(), None),
        (UNKNOWN_OBJECT.to_vec(), None),
    ] {
        assert_eq!(control_group(answer, LONG).unwrap(), expected);
    }
}

#[test]
fn sends_the_calls_and_numbers_them() {
    let peer = Peer::new(|listener| {
        let mut stream = log_in(listener);
        let first = call(&mut stream);
        stream.write_all(GROUP).unwrap();
        let second = call(&mut stream);
        stream.write_all(&with(DONE, 20, 2)).unwrap();
        (first, second)
    });
    let mut systemd = peer.connect(LONG).unwrap();
    systemd.control_group("init.scope").unwrap();
    let (cpus, nodes) = ("0,8-9".parse().unwrap(), "0".parse().unwrap());
    let both = Restriction { memory_nodes: Some(&nodes), ..to(&cpus) };
    systemd.restrict_scope("init.scope", both).unwrap();
    let (first, second) = peer.thread.join().unwrap();
    assert_eq!((first, second), (GET.to_vec(), with(SET, 8, 2)));
}

fn start_scope(answer: Vec<u8>) -> (Result<(), Error>, Vec<u8>) {
    let peer = answering(answer);
    let mut systemd = peer.connect(SHORT * 4).unwrap();
    let (name, description, slice) = ("x.scope", "a test", "user-0.slice");
    let started = systemd.start_scope(&NewScope { name, description, slice, pid: 4711 });
    drop(systemd);
    (started, peer.thread.join().unwrap())
}

#[test]
fn a_scope_is_there_when_its_job_has_ended_and_not_before() {
    let done = [UNIT_NEW, JOB, OTHER_JOB_DONE, UNIT_NEW, JOB_DONE].concat();
    let (started, sent) = start_scope(done);
    started.unwrap();
    assert_eq!(sent, START);
    let (started, _) = start_scope([JOB, OTHER_JOB_DONE].concat());
    assert!(matches!(started, Err(Error::Timeout { .. })), "{started:?}");
    let (started, _) = start_scope([JOB, JOB_FAILED].concat());
    let error = started.unwrap_err().to_string();
    assert!(
        error.starts_with("systemd did not start x.scope: its job ended as 'failed'"),
        "{error}"
    );
    let (started, _) = start_scope(NO_SUCH_UNIT.to_vec());
    assert!(matches!(started, Err(Error::Refused { .. })), "{started:?}");
    let (started, _) = start_scope(DONE.to_vec());
    assert!(matches!(started, Err(Error::Malformed { cause: Malformed::Type, .. })), "{started:?}");
}

#[test]
fn what_is_delegated_is_told_and_a_unit_that_is_not_there_is_not() {
    let is_delegated = |answer: &[u8], unit| {
        answering(answer.to_vec()).connect(LONG).unwrap().is_delegated(unit).unwrap()
    };
    assert!(is_delegated(DELEGATED, "x.service") && is_delegated(DELEGATED, "x.scope"));
    assert!(!is_delegated(NO_SUCH_UNIT, "x.service"));
    // Not even asked.
    for other in ["x.slice", "a b.service", ".service", "service"] {
        assert!(!is_delegated(b"garbage", other), "{other}");
    }
}

#[test]
fn an_answer_may_come_byte_by_byte() {
    let peer = Peer::new(|listener| {
        let mut stream = log_in(listener);
        call(&mut stream);
        for byte in [UNIT_NEW, GROUP].concat() {
            stream.write_all(&[byte]).unwrap();
        }
    });
    let group = peer.connect(LONG).unwrap().control_group("init.scope");
    assert_eq!(group.unwrap().as_deref(), Some("/init.scope"));
}

#[test]
fn an_error_of_systemd_is_shown_on_one_line() {
    let cpus = "3".parse().unwrap();
    for (answer, shown) in [
        (NO_SUCH_UNIT, "org.freedesktop.systemd1.NoSuchUnit: Unit cri-nope.scope not found"),
        (BIG_NO_TEXT, "a.B c.D: no reason given"),
    ] {
        let peer = answering(answer.to_vec());
        let error = peer.connect(LONG).unwrap().restrict_scope("x.scope", to(&cpus));
        let error = error.unwrap_err().to_string();
        let expected = format!("systemd refused SetUnitProperties for x.scope: {shown}: see 's");
        assert!(error.starts_with(&expected), "{error}");
    }
}

#[test]
fn what_is_no_answer_is_refused() {
    for (answer, expected) in [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), Malformed::ByteOrder(b'H')),
        (with(GROUP, 7, 0x10), Malformed::TooLarge(0x1000_005c)),
        (with(UNIT_NEW, 15, 0x10), Malformed::TooLarge(0x1000_0098 + 16 + 0x4a)),
        (with(GROUP, 29, 0xff), Malformed::Truncated),
        (DONE.to_vec(), Malformed::Type),
    ] {
        match control_group(answer, LONG) {
            Err(Error::Malformed { cause, .. }) => assert_eq!(cause, expected),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn names_and_sets_that_systemd_would_misread_are_not_sent() {
    let (none, one) = (CpuSet::new(), "1".parse::<CpuSet>().unwrap());
    let peer = Peer::new(|listener| log_in(listener).read(&mut [0]).unwrap());
    let mut systemd = peer.connect(LONG).unwrap();
    assert!(matches!(systemd.restrict_scope("a.service", to(&one)), Err(Error::ScopeName(_))));
    for name in ["", ".scope", "a.slice", "a b.scope", "a/b.scope", "a\0.scope", "é.scope"] {
        assert_eq!(systemd.control_group(name).unwrap(), None);
        let error = systemd.restrict_scope(name, to(&one));
        assert!(matches!(error, Err(Error::ScopeName(_))), "{name:?}");
    }
    for (cpus, nodes) in [(&none, None), (&none, Some(&one)), (&one, Some(&none))] {
        let error =
            systemd.restrict_scope("a.scope", Restriction { memory_nodes: nodes, ..to(cpus) });
        assert!(matches!(error, Err(Error::EmptySet { .. })));
    }
    drop(systemd);
    assert_eq!(peer.thread.join().unwrap(), 0, "something was sent");
}

#[test]
fn object_paths_are_escaped_as_systemd_does_it() {
    for (unit, escaped) in [
        ("init.scope", "init_2escope"),
        ("9a9.scope", "_39a9_2escope"),
        ("cri-containerd-0f_1.scope", "cri_2dcontainerd_2d0f_5f1_2escope"),
        ("a\\x2d@:.scope", "a_5cx2d_40_3a_2escope"),
    ] {
        assert_eq!(unit_path(unit), format!("/org/freedesktop/systemd1/unit/{escaped}"));
    }
}

mod failures;
mod units;
