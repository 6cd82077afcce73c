//! A client that speaks HTTP as plainly as can be.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// The longest that a test waits for an answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

/// A connection on which nothing was said yet.
pub(crate) fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Asks for a path.
pub(crate) fn ask(address: &str, method: &str, path: &str) -> Answer {
    let mut stream = connect(address);
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: kcm\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    parse(&text)
}

/// The answer in what a server said until it closed the connection.
pub(crate) fn parse(text: &str) -> Answer {
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{text:?}"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head: head.to_lowercase(), body: body.to_owned() }
}
