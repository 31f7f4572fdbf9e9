//! The copier: a server that does nothing but hand the bytes of `POST /pub/{run}` to all who hold
//! `GET /sub/{run}`. It is what a hub's promises are measured against: nothing is stored, numbered, parsed, or
//! given to who comes late.

use crate::http::{Framing, Head};
use clap::Parser;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::Notify;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

const OPENED: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\n\r\n";
const TAKEN: &[u8] = b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n";

#[derive(Parser)]
struct Arguments {
    /// Where it listens: HOST:PORT.
    #[arg(long)]
    bind: SocketAddr,
}

struct Reader {
    stream: TcpStream,
    /// What its socket did not take yet.
    waiting: Mutex<Vec<u8>>,
    more: Notify,
}

/// What a hand does.
#[derive(Clone)]
enum Task {
    Admit(Arc<str>, Arc<Reader>),
    Copy(Arc<str>, Arc<[u8]>),
}

/// One hand a processor; each writes to some of the readers.
type Hands = Arc<[UnboundedSender<Task>]>;

pub fn run() -> ExitCode {
    let address = Arguments::parse_from(std::env::args().skip(1)).bind;
    if let Err(e) = rlimit::increase_nofile_limit(u64::MAX) {
        eprintln!("cannot raise the limit of open files: {e}");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let Err(e) = runtime.block_on(serve(address));
    eprintln!("cannot serve on {address}: {e}");
    ExitCode::from(2)
}

async fn serve(address: SocketAddr) -> std::io::Result<std::convert::Infallible> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    let listener = socket.listen(4096)?;
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let hand = |_| {
        let (sender, tasks) = unbounded_channel();
        tokio::spawn(copy(tasks));
        sender
    };
    let hands: Hands = (0..processors).map(hand).collect();
    let mut number = 0;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let hands = Arc::clone(&hands);
        tokio::spawn(async move { talk(stream, &hands, number).await });
        number += 1;
    }
}

/// Serves a publisher until it goes; makes a reader of who asks to be one.
async fn talk(mut stream: TcpStream, hands: &Hands, number: usize) -> std::io::Result<()> {
    let mut buffer = Vec::with_capacity(4096);
    loop {
        let request = Head::parse(&buffer).and_then(|head| {
            let Framing::Length(length) = head.framing else { return None };
            (buffer.len() >= head.length + length).then_some((head.length, length))
        });
        let Some((head, body)) = request else {
            if stream.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
            continue;
        };
        let line = String::from_utf8_lossy(&buffer[..head]);
        let path = line.split(' ').nth(1).unwrap_or_default();
        if let Some(run) = path.strip_prefix("/sub/") {
            let (waiting, more) = (Mutex::default(), Notify::new());
            let reader = Arc::new(Reader { stream, waiting, more });
            let task = Task::Admit(run.into(), Arc::clone(&reader));
            drop(hands[number % hands.len()].send(task));
            return reader.drain().await;
        }
        let run = path.trim_start_matches("/pub/").into();
        let task = Task::Copy(run, buffer[head..head + body].into());
        for hand in hands.iter() {
            drop(hand.send(task.clone()));
        }
        stream.write_all(TAKEN).await?;
        buffer.drain(..head + body);
    }
}

/// What has gathered for a run while others were served goes out in one piece.
async fn copy(mut tasks: UnboundedReceiver<Task>) {
    let mut readers: HashMap<Arc<str>, Vec<Arc<Reader>>> = HashMap::new();
    let (mut gathered, mut pieces) = (Vec::new(), HashMap::<Arc<str>, Vec<u8>>::new());
    while tasks.recv_many(&mut gathered, 256).await > 0 {
        for task in gathered.drain(..) {
            match task {
                Task::Admit(run, reader) => {
                    reader.give(OPENED);
                    readers.entry(run).or_default().push(reader);
                }
                Task::Copy(run, bytes) => pieces.entry(run).or_default().extend_from_slice(&bytes),
            }
        }
        for (run, bytes) in pieces.drain() {
            if let Some(readers) = readers.get_mut(&run) {
                readers.retain(|reader| reader.give(&bytes));
            }
        }
    }
}

impl Reader {
    /// Writes what the socket takes, and keeps the rest; false when the reader has gone.
    fn give(&self, bytes: &[u8]) -> bool {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = match self.stream.try_write(if waiting.is_empty() { bytes } else { &[] }) {
            Ok(taken) => taken,
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => 0,
            Err(_) => return false,
        };
        if taken < bytes.len() {
            waiting.extend_from_slice(&bytes[taken..]);
            self.more.notify_one();
        }
        true
    }

    /// Writes what waits whenever the socket has room again.
    async fn drain(&self) -> std::io::Result<()> {
        loop {
            self.more.notified().await;
            while !self.give_what_waits()? {
                self.stream.writable().await?;
            }
        }
    }

    /// Whether nothing waits any more.
    fn give_what_waits(&self) -> std::io::Result<bool> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        while !waiting.is_empty() {
            match self.stream.try_write(&waiting) {
                Ok(taken) => drop(waiting.drain(..taken)),
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => return Ok(false),
                Err(e) => return Err(e),
            }
        }
        Ok(true)
    }
}
