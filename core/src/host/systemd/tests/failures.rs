//! A peer that is absent, slow, hung, hostile or restarted.

use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket,
};

use super::*;

fn in_time<T>(limit: Duration, action: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = action();
    assert!(start.elapsed() < limit + LONG / 4, "took {:?}", start.elapsed());
    result
}

/// A socket that is bound and does not listen yet.
fn bound(directory: &Path) -> std::os::fd::OwnedFd {
    use std::os::fd::AsRawFd;
    let address = UnixAddr::new(&directory.join("private")).unwrap();
    let flags = SockFlag::SOCK_CLOEXEC;
    let fd = socket(AddressFamily::Unix, SockType::Stream, flags, None).unwrap();
    bind(fd.as_raw_fd(), &address).unwrap();
    fd
}

#[test]
fn without_the_socket_there_is_no_systemd() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("private");
    assert!(Systemd::connect(&socket, LONG).unwrap().is_none());
}

#[test]
fn a_socket_without_a_listener_is_an_error_after_the_limit() {
    let directory = tempfile::tempdir().unwrap();
    let _bound = bound(directory.path());
    let socket = directory.path().join("private");
    let error = in_time(SHORT, || Systemd::connect(&socket, SHORT).unwrap_err());
    assert!(matches!(error, Error::Connect { .. }), "{error}");
}

#[test]
fn a_call_ends_at_the_deadline_whatever_the_limit_leaves_it() {
    let peer = Peer::new(|listener| {
        let mut stream = log_in(listener);
        call(&mut stream);
        stream.write_all(GROUP).unwrap();
        stream.read_to_end(&mut Vec::new())
    });
    let mut systemd = peer.connect(LONG).unwrap();
    systemd.control_group("init.scope").unwrap();
    systemd.until(Instant::now() + SHORT);
    for _ in 0..2 {
        let error = in_time(SHORT, || systemd.control_group("init.scope").unwrap_err());
        assert!(matches!(error, Error::Timeout { limit, .. } if limit <= SHORT), "{error}");
    }
}

#[test]
fn a_socket_that_listens_a_little_later_is_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    let fd = bound(directory.path());
    let peer = thread::spawn(move || {
        thread::sleep(SHORT / 4);
        listen(&fd, Backlog::new(1).unwrap()).unwrap();
        log_in(&UnixListener::from(fd));
    });
    let socket = directory.path().join("private");
    assert!(Systemd::connect(&socket, LONG).unwrap().is_some());
    peer.join().unwrap();
}

#[test]
fn a_hung_systemd_is_an_error_within_the_limit() {
    let directory = tempfile::tempdir().unwrap();
    let fd = bound(directory.path());
    listen(&fd, Backlog::new(1).unwrap()).unwrap();
    let socket = directory.path().join("private");
    // The first two wait in the queue without an answer, the third for a place in it.
    let queued: Vec<_> = (0..2).map(|_| UnixStream::connect(&socket).unwrap()).collect();
    for _ in queued {
        let error = in_time(SHORT, || Systemd::connect(&socket, SHORT).unwrap_err());
        assert!(matches!(error, Error::Timeout { .. }), "{error}");
    }
}

#[test]
fn silence_and_chatter_after_the_login_end_with_the_limit() {
    for chatter in [&b""[..], UNIT_NEW] {
        let peer = Peer::new(move |listener| {
            let mut stream = log_in(listener);
            call(&mut stream);
            while !chatter.is_empty() && stream.write_all(chatter).is_ok() {
                thread::sleep(Duration::from_millis(1));
            }
            let _ = stream.read_to_end(&mut Vec::new());
        });
        let mut systemd = peer.connect(SHORT).unwrap();
        for _ in 0..2 {
            let error = in_time(SHORT, || systemd.control_group("x.scope").unwrap_err());
            let socket = peer.socket();
            let start = format!("systemd did not answer on {} within 0.5 s: ", socket.display());
            assert!(error.to_string().starts_with(&start), "{error}");
        }
    }
}

#[test]
fn what_kcm_does_between_two_calls_does_not_count() {
    let mut systemd = answering(GROUP.to_vec()).connect(SHORT).unwrap();
    thread::sleep(SHORT + SHORT / 4);
    let group = systemd.control_group("init.scope");
    assert_eq!(group.unwrap().as_deref(), Some("/init.scope"));
}

#[test]
fn a_refused_login_shows_the_answer() {
    for (answer, shown) in [
        (&b"REJECTED EXTERNAL\r\nERROR\r\n"[..], "'REJECTED EXTERNAL'"),
        (b"OKAY\x1b[31m\r\n", "'OKAY [31m'"),
        (b"\xff\r\n", "'\u{fffd}'"),
        (&[b'x'; 2000], "'xxx"),
    ] {
        let peer = Peer::new(move |listener| {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(answer).unwrap();
            let _ = stream.read_to_end(&mut Vec::new());
        });
        let error = peer.connect(LONG).unwrap_err();
        assert!(matches!(error, Error::Login { .. }), "{error}");
        assert!(error.to_string().contains(shown), "{error}");
    }
}

#[test]
fn a_connection_that_ends_is_opened_once_more() {
    let scripts: [fn(&UnixListener); 3] = [
        |listener| drop(listener.accept().unwrap()),
        |listener| drop(call(&mut log_in(listener))),
        |listener| {
            let mut stream = log_in(listener);
            call(&mut stream);
            stream.write_all(&GROUP[..40]).unwrap();
        },
    ];
    for interruption in scripts {
        let peer = Peer::new(move |listener| {
            interruption(listener);
            let mut stream = log_in(listener);
            call(&mut stream);
            stream.write_all(GROUP).unwrap();
        });
        let group = peer.connect(LONG).unwrap().control_group("init.scope");
        assert_eq!(group.unwrap().as_deref(), Some("/init.scope"));
    }
}

#[test]
fn a_connection_that_ends_twice_is_an_error() {
    let peer = Peer::new(|listener| {
        for _ in 0..2 {
            call(&mut log_in(listener));
        }
    });
    let error = peer.connect(LONG).unwrap().control_group("x.scope").unwrap_err();
    assert!(matches!(error, Error::Closed { .. }), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_a_peer_says_kcm_ends_with_an_error(
        login in any::<bool>(),
        bytes in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..20),
            proptest::collection::vec(any::<u8>(), 0..3000),
        ],
    ) {
        let peer = Peer::new(move |listener| {
            for _ in 0..2 {
                let mut stream = match login {
                    true => log_in(listener),
                    false => listener.accept().unwrap().0,
                };
                let _ = stream.write_all(&bytes);
                let _ = stream.shutdown(std::net::Shutdown::Write);
                let _ = stream.read_to_end(&mut Vec::new());
            }
        });
        let group = peer.connect(LONG).and_then(|mut systemd| systemd.control_group("x.scope"));
        let error = group.unwrap_err();
        prop_assert!(!matches!(error, Error::Timeout { .. }), "{}", error);
    }
}
