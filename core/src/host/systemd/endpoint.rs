//! The socket, and one time limit over everything that is done with it.

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::sockopt::SendTimeout;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, setsockopt, socket};
use nix::sys::time::TimeVal;

use super::error::{Error, printable};
use super::wire::Malformed;

/// How long to wait for systemd to listen again while it executes itself anew.
const RETRY: Duration = Duration::from_millis(20);

/// What a call is given at the least.
const SHORTEST: Duration = Duration::from_millis(1);

/// Where systemd listens, and how long it may take.
#[derive(Clone, Debug)]
pub(super) struct Endpoint {
    socket: PathBuf,
    limit: Duration,
    /// What was left of the limit when it last began to run.
    left: Duration,
    since: Instant,
    /// When whoever asks has no more time, whatever is left.
    deadline: Option<Instant>,
}

impl Endpoint {
    /// The time runs from now on.
    pub(super) fn new(socket: PathBuf, limit: Duration) -> Self {
        Self { socket, limit, left: limit, since: Instant::now(), deadline: None }
    }

    /// Nothing that begins from now on takes longer than until then.
    pub(super) fn until(&mut self, deadline: Instant) {
        self.deadline = Some(deadline);
    }

    /// Stops the time: what kcm does between two calls does not count against systemd.
    pub(super) fn pause(&mut self) {
        self.left = self.left.saturating_sub(self.since.elapsed());
    }

    /// Lets the time run on.
    pub(super) fn resume(&mut self) {
        self.since = Instant::now();
        let until = self.deadline.map(|deadline| deadline.saturating_duration_since(self.since));
        if let Some(until) = until.filter(|until| *until < self.left) {
            // Never none, which nobody can answer in.
            self.left = until.max(SHORTEST);
            self.limit = self.left;
        }
    }

    /// The time that is left; an error instead of zero.
    pub(super) fn remaining(&self) -> Result<Duration, Error> {
        match self.left.saturating_sub(self.since.elapsed()) {
            Duration::ZERO => Err(self.timeout()),
            left => Ok(left),
        }
    }

    fn timeout(&self) -> Error {
        Error::Timeout { socket: self.socket.clone(), limit: self.limit }
    }

    pub(super) fn closed(&self) -> Error {
        Error::Closed { socket: self.socket.clone() }
    }

    pub(super) fn malformed(&self, cause: Malformed) -> Error {
        Error::Malformed { socket: self.socket.clone(), cause }
    }

    pub(super) fn no_login(&self, answer: &str) -> Error {
        Error::Login { socket: self.socket.clone(), answer: printable(answer) }
    }

    pub(super) fn failed(&self, cause: io::Error) -> Error {
        match cause.kind() {
            // SO_RCVTIMEO and SO_SNDTIMEO end in EAGAIN (socket(7)).
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => self.timeout(),
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => self.closed(),
            _ => Error::Io { socket: self.socket.clone(), cause },
        }
    }

    /// A connected socket, or `None` where the socket does not exist.
    ///
    /// Waits while connections are refused: at `systemctl daemon-reexec` the socket has no
    /// listener for a moment. `SO_SNDTIMEO` is set before, because `connect(2)` blocks while the
    /// queue of a PID 1 that no longer accepts is full (unix(7)).
    pub(super) fn connect(&self) -> Result<Option<UnixStream>, Error> {
        let failed =
            |cause: Errno| Error::Connect { socket: self.socket.clone(), cause: cause.into() };
        let address = UnixAddr::new(&self.socket).map_err(failed)?;
        let mut left = self.remaining()?;
        loop {
            let fd = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)
                .map_err(failed)?;
            // A limit of zero would mean none.
            let micros = left.subsec_micros().max(1).into();
            let limit = TimeVal::new(left.as_secs() as _, micros);
            setsockopt(&fd, SendTimeout, &limit).map_err(failed)?;
            match connect(fd.as_raw_fd(), &address) {
                Ok(()) => return Ok(Some(UnixStream::from(fd))),
                Err(Errno::ENOENT) => return Ok(None),
                Err(Errno::EAGAIN) => return Err(self.timeout()),
                Err(refused @ Errno::ECONNREFUSED) => {
                    sleep(RETRY);
                    left = self.remaining().map_err(|_| failed(refused))?;
                }
                Err(Errno::EINTR) => left = self.remaining()?,
                Err(cause) => return Err(failed(cause)),
            }
        }
    }
}
