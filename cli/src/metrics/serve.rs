//! A small HTTP server on one thread of its own.
//!
//! What a client can hold is limited: a connection is for one request, lives [`LIMIT`], and reads
//! [`LARGEST_HEAD`] at the most; of more than [`MOST_CONNECTIONS`] the oldest is closed, so that
//! however many others hang on, the next request is answered.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use nix::sys::signal::{SigSet, SigmaskHow};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::answer::answer;
use super::board::Board;

/// How long a connection lives, whatever its client does.
const LIMIT: Duration = Duration::from_secs(10);

/// Bytes of request line and headers.
const LARGEST_HEAD: usize = 8 << 10;

const MOST_CONNECTIONS: usize = 32;

/// Bytes of the thread's stack: it does little, and nothing that goes deep.
const STACK: usize = 512 << 10;

/// Listens at this address, and answers from what is on the board until the process ends. Gives the
/// address, with the port that the kernel chose where it says 0.
pub(super) fn start(address: SocketAddr, board: Arc<Board>) -> anyhow::Result<SocketAddr> {
    let (listener, address) = listen(address)
        .map_err(|e| anyhow::anyhow!("cannot listen on {address} for metrics: {}", explain(&e)))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build();
    let runtime = runtime.context("cannot serve metrics")?;
    let serving = move || {
        runtime.block_on(async {
            match TcpListener::from_std(listener) {
                Ok(listener) => accept(listener, board).await,
                Err(e) => log::error!("cannot serve metrics: {e}"),
            }
        });
    };
    // A thread begins with the mask of the one that starts it. Signals must go on reaching the main
    // thread alone: they end its rounds, and interrupt its waits for the lock.
    let mask = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK)?;
    let thread = std::thread::Builder::new().name("metrics".into()).stack_size(STACK);
    let started = thread.spawn(serving);
    mask.thread_set_mask()?;
    started.context("cannot start a thread that serves metrics")?;
    Ok(address)
}

fn listen(address: SocketAddr) -> io::Result<(std::net::TcpListener, SocketAddr)> {
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

fn explain(error: &io::Error) -> String {
    let remedy = match error.kind() {
        io::ErrorKind::AddrInUse => "end what listens there, or give --metrics-addr another port",
        io::ErrorKind::AddrNotAvailable => "give --metrics-addr an address of this machine",
        io::ErrorKind::PermissionDenied => "give --metrics-addr a port above 1023",
        _ => "give --metrics-addr another address",
    };
    format!("{error}; {remedy}")
}

async fn accept(listener: TcpListener, board: Arc<Board>) {
    let mut open: VecDeque<JoinHandle<()>> = VecDeque::with_capacity(MOST_CONNECTIONS);
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                open.retain(|connection| !connection.is_finished());
                if open.len() == MOST_CONNECTIONS
                    && let Some(oldest) = open.pop_front()
                {
                    oldest.abort();
                }
                open.push_back(tokio::spawn(serve(stream, Arc::clone(&board))));
            }
            // The client has gone, or descriptors are used up.
            Err(e) => {
                log::debug!("cannot accept a connection to the metrics: {e}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn serve(stream: TcpStream, board: Arc<Board>) {
    let service = service_fn(|request: hyper::Request<hyper::body::Incoming>| {
        let answer = answer(request.method(), request.uri().path(), &board);
        async { Ok::<_, Infallible>(answer) }
    });
    let mut http = http1::Builder::new();
    http.keep_alive(false).max_buf_size(LARGEST_HEAD).header_read_timeout(None);
    let connection = http.serve_connection(TokioIo::new(stream), service);
    match tokio::time::timeout(LIMIT, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(e)) => log::debug!("a request for metrics was not answered: {e}"),
        Err(_) => log::debug!("a request for metrics took longer than {LIMIT:?}"),
    }
}
