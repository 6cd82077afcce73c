//! The login, messages out and in.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::Instant;

use super::endpoint::Endpoint;
use super::error::Error;
use super::message::{Call, Message, PREFIX};

/// The longest line of the login that is read, in bytes.
const MAX_LINE: usize = 512;

/// A connection that is logged in.
#[derive(Debug)]
pub(super) struct Connection {
    endpoint: Endpoint,
    stream: UnixStream,
    /// What has arrived and is not used yet.
    received: Vec<u8>,
    serial: u32,
}

impl Connection {
    /// Connects and logs in; `None` where the socket does not exist.
    pub(super) fn open(endpoint: &Endpoint) -> Result<Option<Self>, Error> {
        let mut connection = Self::open_twice(endpoint)?;
        connection.iter_mut().for_each(|connection| connection.endpoint.pause());
        Ok(connection)
    }

    fn open_twice(endpoint: &Endpoint) -> Result<Option<Self>, Error> {
        match Self::open_once(endpoint) {
            // A daemon-reexec drops who waits to be accepted.
            Err(Error::Closed { .. }) => Self::open_once(endpoint),
            other => other,
        }
    }

    fn open_once(endpoint: &Endpoint) -> Result<Option<Self>, Error> {
        let Some(stream) = endpoint.connect()? else {
            return Ok(None);
        };
        let mut connection =
            Self { endpoint: endpoint.clone(), stream, received: Vec::new(), serial: 0 };
        connection.log_in()?;
        Ok(Some(connection))
    }

    /// No call takes longer than until then.
    pub(super) fn until(&mut self, deadline: Instant) {
        self.endpoint.until(deadline);
    }

    /// `AUTH EXTERNAL` with the user id's digits in hexadecimal; the kernel vouches for it
    /// (D-Bus specification, "Authentication Protocol").
    ///
    /// `BEGIN` goes out in the same write, as sd-bus itself does it: if systemd 252 reads it
    /// together with a first message, it leaves that message unread until something else arrives.
    fn log_in(&mut self) -> Result<(), Error> {
        let uid = nix::unistd::geteuid().to_string();
        let uid: String = uid.bytes().map(|digit| format!("{digit:02x}")).collect();
        self.send(format!("\0AUTH EXTERNAL {uid}\r\nBEGIN\r\n").as_bytes())?;
        let answer = self.line()?;
        match answer == "OK" || answer.starts_with("OK ") {
            true => Ok(()),
            false => Err(self.endpoint.no_login(&answer)),
        }
    }

    /// The answer to a call, a return or an error; the call may be made twice, because a
    /// connection that systemd drops (daemon-reexec) is opened once more.
    pub(super) fn call(&mut self, call: &Call<'_>) -> Result<Message, Error> {
        self.endpoint.resume();
        let answer = self.call_twice(call);
        self.endpoint.pause();
        answer
    }

    fn call_twice(&mut self, call: &Call<'_>) -> Result<Message, Error> {
        match self.call_once(call) {
            Err(Error::Closed { .. }) => {
                let _ = self.stream.shutdown(Shutdown::Both);
                *self = Self::open_twice(&self.endpoint)?.ok_or_else(|| self.endpoint.closed())?;
                self.call_once(call)
            }
            other => other,
        }
    }

    fn call_once(&mut self, call: &Call<'_>) -> Result<Message, Error> {
        let serial = self.send_call(call)?;
        self.wait_for(|message| message.answers(serial))
    }

    fn send_call(&mut self, call: &Call<'_>) -> Result<u32, Error> {
        self.serial += 1;
        let serial = self.serial;
        self.send(&call.encode(serial))?;
        Ok(serial)
    }

    /// Calls a method that starts a job, once, and waits for the job's end: how it ended. An error
    /// answer is given as it is. systemd sends its signals to every private connection, so that
    /// there is nothing to subscribe to.
    pub(super) fn call_and_wait(
        &mut self,
        call: &Call<'_>,
    ) -> Result<Result<String, Message>, Error> {
        self.endpoint.resume();
        let result = self.job_of(call);
        self.endpoint.pause();
        result
    }

    fn job_of(&mut self, call: &Call<'_>) -> Result<Result<String, Message>, Error> {
        let serial = self.send_call(call)?;
        let answer = self.wait_for(|message| message.answers(serial))?;
        if answer.error().is_some() {
            return Ok(Err(answer));
        }
        let job = answer.object().map_err(|cause| self.endpoint.malformed(cause))?;
        let is_ours = |message: &Message| message.job_removed().is_some_and(|end| end.job == job);
        let end = self.wait_for(is_ours)?;
        let result = end.job_removed().map(|end| end.result.to_owned()).unwrap_or_default();
        Ok(Ok(result))
    }

    /// The next message that is wanted; others are dropped.
    fn wait_for(&mut self, is_wanted: impl Fn(&Message) -> bool) -> Result<Message, Error> {
        loop {
            // systemd sends its signals to every private connection.
            let message = self.message()?;
            if is_wanted(&message) {
                return Ok(message);
            }
        }
    }

    fn message(&mut self) -> Result<Message, Error> {
        let prefix = loop {
            match self.received.first_chunk() {
                Some(prefix) => break *prefix,
                None => self.fill(PREFIX)?,
            }
        };
        let malformed = |cause| self.endpoint.malformed(cause);
        let length = Message::length(&prefix).map_err(malformed)?;
        self.fill(length)?;
        let bytes: Vec<u8> = self.received.drain(..length).collect();
        Message::decode(&bytes).map_err(|cause| self.endpoint.malformed(cause))
    }

    /// A line of the login, without its end.
    fn line(&mut self) -> Result<String, Error> {
        loop {
            let end = self.received.windows(2).position(|pair| pair == b"\r\n");
            if let Some(end) = end {
                let line: Vec<u8> = self.received.drain(..end + 2).collect();
                return Ok(String::from_utf8_lossy(&line[..end]).into_owned());
            }
            if self.received.len() > MAX_LINE {
                let answer = String::from_utf8_lossy(&self.received);
                return Err(self.endpoint.no_login(&answer));
            }
            self.fill(self.received.len() + 1)?;
        }
    }

    /// Reads until at least `length` bytes have been received and not used.
    fn fill(&mut self, length: usize) -> Result<(), Error> {
        let mut chunk = [0; 4096];
        while self.received.len() < length {
            let left = self.endpoint.remaining()?;
            let timed = self.stream.set_read_timeout(Some(left));
            match timed.and_then(|()| self.stream.read(&mut chunk)) {
                Ok(0) => return Err(self.endpoint.closed()),
                Ok(count) => self.received.extend_from_slice(&chunk[..count]),
                Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
                Err(cause) => return Err(self.endpoint.failed(cause)),
            }
        }
        Ok(())
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let left = self.endpoint.remaining()?;
        let timed = self.stream.set_write_timeout(Some(left));
        let written = timed.and_then(|()| self.stream.write_all(bytes));
        written.map_err(|cause| self.endpoint.failed(cause))
    }
}
