//! A TCP proxy that breaks connections in the ways networks do.

use parking_lot::Mutex;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;

/// A proxy to one address; ends with the test's process.
pub struct Proxy {
    pub port: u16,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// What new connections meet.
    refuse: AtomicBool,
    drop_replies: AtomicBool,
    black_hole: AtomicBool,
    hold: AtomicBool,
    /// Bytes after which they are cut; 0 for never.
    cut_requests: AtomicI64,
    cut_replies: AtomicI64,
    /// What all connections meet.
    latency_ms: AtomicUsize,
    bytes_per_second: AtomicUsize,
    opened: AtomicUsize,
    connections: Mutex<Vec<Arc<Connection>>>,
}

struct Connection {
    client: TcpStream,
    server: TcpStream,
    /// Nothing goes through any more, and nobody is told.
    black_hole: AtomicBool,
    drop_replies: AtomicBool,
    /// Bytes that may still pass, by direction.
    requests_left: AtomicI64,
    replies_left: AtomicI64,
    held: Mutex<Held>,
}

/// Requests that wait for their release.
#[derive(Default)]
struct Held {
    on: bool,
    bytes: Vec<u8>,
    /// The client is gone; the server learns it behind the last request.
    over: bool,
}

const NEVER: i64 = i64::MAX;

/// A slow connection gets what it may carry in so many pieces a second.
const PIECES_A_SECOND: usize = 20;

impl Proxy {
    pub fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = Self { port: listener.local_addr().unwrap().port(), shared: Arc::default() };
        let shared = Arc::clone(&proxy.shared);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if shared.refuse.load(Ordering::Acquire) {
                    reset(&client);
                    continue;
                }
                let Ok(server) = TcpStream::connect(("127.0.0.1", port)) else { continue };
                shared.opened.fetch_add(1, Ordering::AcqRel);
                carry(&shared, client, server);
            }
        });
        proxy
    }

    /// Connections opened so far.
    pub fn opened(&self) -> usize {
        self.shared.opened.load(Ordering::Acquire)
    }

    /// New connections are reset at once, or not any more.
    pub fn refuse(&self, refuse: bool) {
        self.shared.refuse.store(refuse, Ordering::Release);
    }

    /// Whatever the server says is swallowed, on all connections; or not any more, on new ones.
    pub fn drop_replies(&self, drop: bool) {
        self.shared.drop_replies.store(drop, Ordering::Release);
        if drop {
            for connection in self.shared.connections.lock().iter() {
                connection.drop_replies.store(true, Ordering::Release);
            }
        }
    }

    /// What the server says comes this much later.
    pub fn delay(&self, latency: Duration) {
        let ms = usize::try_from(latency.as_millis()).unwrap();
        self.shared.latency_ms.store(ms, Ordering::Release);
    }

    /// Each connection carries only so many bytes a second in each direction, or again what it can.
    pub fn throttle(&self, bytes_per_second: Option<usize>) {
        self.shared.bytes_per_second.store(bytes_per_second.unwrap_or(0), Ordering::Release);
    }

    /// The connections there are carry nothing any more, in either direction; new ones do.
    pub fn black_hole_existing(&self) {
        for connection in self.shared.connections.lock().drain(..) {
            connection.black_hole.store(true, Ordering::Release);
        }
    }

    /// The connections there are, and all that are opened, carry nothing; later on new ones do again.
    pub fn black_hole_all(&self, black_hole: bool) {
        self.shared.black_hole.store(black_hole, Ordering::Release);
        if black_hole {
            self.black_hole_existing();
        }
    }

    /// The connections there are are reset.
    pub fn reset_existing(&self) {
        for connection in self.shared.connections.lock().drain(..) {
            reset(&connection.client);
            drop(connection.server.shutdown(Shutdown::Both));
        }
    }

    /// What clients ask is held; or what was held is released, in order, even if its client has gone away
    /// meanwhile.
    pub fn hold(&self, hold: bool) {
        self.shared.hold.store(hold, Ordering::Release);
        for connection in self.shared.connections.lock().iter() {
            match hold {
                true => connection.held.lock().on = true,
                false => connection.release(),
            }
        }
    }

    /// From now on each connection is cut once it has carried this many more bytes of requests; or none is.
    pub fn cut_requests_after(&self, bytes: Option<u32>) {
        self.shared.cut_requests.store(bytes.unwrap_or(0).into(), Ordering::Release);
        for connection in self.shared.connections.lock().iter() {
            connection.requests_left.store(allowance(bytes), Ordering::Release);
        }
    }

    /// From now on each connection is cut once it has carried this many more bytes of replies; or none is.
    pub fn cut_replies_after(&self, bytes: Option<u32>) {
        self.shared.cut_replies.store(bytes.unwrap_or(0).into(), Ordering::Release);
        for connection in self.shared.connections.lock().iter() {
            connection.replies_left.store(allowance(bytes), Ordering::Release);
        }
    }
}

fn allowance(bytes: Option<u32>) -> i64 {
    bytes.map_or(NEVER, i64::from)
}

/// The other side gets a reset instead of an end.
fn reset(stream: &TcpStream) {
    drop(socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO)));
    drop(stream.shutdown(Shutdown::Both));
}

fn carry(shared: &Arc<Shared>, client: TcpStream, server: TcpStream) {
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let left = |bytes: &AtomicI64| match bytes.load(Ordering::Acquire) {
        0 => AtomicI64::new(NEVER),
        bytes => AtomicI64::new(bytes),
    };
    // Under the lock, so that whoever changes a mode meets either the connection or a new one.
    let mut connections = shared.connections.lock();
    let connection = Arc::new(Connection {
        client,
        server,
        black_hole: AtomicBool::new(shared.black_hole.load(Ordering::Acquire)),
        drop_replies: AtomicBool::new(shared.drop_replies.load(Ordering::Acquire)),
        requests_left: left(&shared.cut_requests),
        replies_left: left(&shared.cut_replies),
        held: Mutex::new(Held { on: shared.hold.load(Ordering::Acquire), ..Held::default() }),
    });
    // Those whose threads have ended are held by this list alone.
    connections.retain(|connection| Arc::strong_count(connection) > 1);
    connections.push(Arc::clone(&connection));
    drop(connections);
    let (shared_too, connection_too) = (Arc::clone(shared), Arc::clone(&connection));
    let shared = Arc::clone(shared);
    std::thread::spawn(move || connection_too.carry_requests(&shared_too));
    std::thread::spawn(move || connection.carry_replies(&shared));
}

impl Connection {
    fn carry_requests(&self, shared: &Shared) {
        let mut buffer = vec![0; 64 << 10];
        loop {
            let count = read(&self.client, &mut buffer, shared);
            if self.black_hole.load(Ordering::Acquire) {
                // Swallowed, the end too: the other side is left waiting.
                match count {
                    0 => return,
                    _ => continue,
                }
            }
            // Locked while it writes, so that nothing overtakes what is being released.
            let mut held = self.held.lock();
            if held.on {
                held.bytes.extend_from_slice(&buffer[..count]);
                if count == 0 {
                    held.over = true;
                    return;
                }
                continue;
            }
            if count == 0 || !pass(&self.server, &buffer[..count], &self.requests_left) {
                break;
            }
        }
        self.end();
    }

    fn carry_replies(&self, shared: &Shared) {
        let mut buffer = vec![0; 64 << 10];
        loop {
            let count = read(&self.server, &mut buffer, shared);
            if count > 0 {
                let latency = shared.latency_ms.load(Ordering::Acquire);
                std::thread::sleep(Duration::from_millis(latency as u64));
            }
            if self.black_hole.load(Ordering::Acquire) {
                match count {
                    0 => return,
                    _ => continue,
                }
            }
            if count > 0 && self.drop_replies.load(Ordering::Acquire) {
                continue;
            }
            if count == 0 {
                break;
            }
            if !pass(&self.client, &buffer[..count], &self.replies_left) {
                // The server is still to get what is held of a client that is gone.
                if self.held.lock().on {
                    continue;
                }
                break;
            }
        }
        self.end();
    }

    fn release(&self) {
        let mut held = self.held.lock();
        held.on = false;
        let bytes = std::mem::take(&mut held.bytes);
        if !bytes.is_empty() {
            pass(&self.server, &bytes, &self.requests_left);
        }
        if held.over {
            // Its answers go nowhere; its end goes behind its requests.
            drop(self.server.shutdown(Shutdown::Write));
        }
    }

    fn end(&self) {
        let _ = (self.client.shutdown(Shutdown::Both), self.server.shutdown(Shutdown::Both));
    }
}

/// Reads what has come, at the speed that is set; 0 at the end, however it came about.
fn read(mut from: &TcpStream, buffer: &mut [u8], shared: &Shared) -> usize {
    let speed = shared.bytes_per_second.load(Ordering::Acquire);
    let most = match speed {
        0 => buffer.len(),
        speed => (speed / PIECES_A_SECOND).clamp(1, buffer.len()),
    };
    let count = from.read(&mut buffer[..most]).unwrap_or(0);
    if speed > 0 && count > 0 {
        std::thread::sleep(Duration::from_secs_f64(count as f64 / speed as f64));
    }
    count
}

/// Writes what the connection may still carry; false if that was its last.
fn pass(mut to: &TcpStream, bytes: &[u8], left: &AtomicI64) -> bool {
    let allowed = left.load(Ordering::Acquire);
    if allowed != NEVER {
        let count = i64::try_from(bytes.len()).unwrap();
        if count >= allowed {
            drop(to.write_all(&bytes[..usize::try_from(allowed.max(0)).unwrap()]));
            return false;
        }
        left.fetch_sub(count, Ordering::AcqRel);
    }
    to.write_all(bytes).is_ok()
}
