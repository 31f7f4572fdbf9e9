//! A TCP proxy that breaks connections in the ways networks do.

use parking_lot::Mutex;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
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
    latency_ms: AtomicUsize,
    opened: AtomicUsize,
    connections: Mutex<Vec<Arc<Connection>>>,
}

struct Connection {
    client: TcpStream,
    server: TcpStream,
    /// Nothing goes through any more, and nobody is told.
    black_hole: AtomicBool,
    drop_replies: AtomicBool,
}

impl Proxy {
    pub fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = Self { port: listener.local_addr().unwrap().port(), shared: Arc::default() };
        let shared = Arc::clone(&proxy.shared);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if shared.refuse.load(Ordering::Acquire) {
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

    /// New connections are closed at once, or not any more.
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

    /// The connections there are carry nothing any more, in either direction; new ones do.
    pub fn black_hole_existing(&self) {
        for connection in self.shared.connections.lock().drain(..) {
            connection.black_hole.store(true, Ordering::Release);
        }
    }

    /// The connections there are are reset.
    pub fn reset_existing(&self) {
        for connection in self.shared.connections.lock().drain(..) {
            let linger = Some(Duration::ZERO);
            drop(socket2::SockRef::from(&connection.client).set_linger(linger));
            drop(connection.client.shutdown(Shutdown::Both));
            drop(connection.server.shutdown(Shutdown::Both));
        }
    }
}

fn carry(shared: &Arc<Shared>, client: TcpStream, server: TcpStream) {
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let connection = Arc::new(Connection {
        client,
        server,
        black_hole: AtomicBool::new(false),
        drop_replies: AtomicBool::new(shared.drop_replies.load(Ordering::Acquire)),
    });
    shared.connections.lock().push(Arc::clone(&connection));
    for replies in [false, true] {
        let (shared, connection) = (Arc::clone(shared), Arc::clone(&connection));
        std::thread::spawn(move || {
            let (mut from, mut to) = match replies {
                false => (&connection.client, &connection.server),
                true => (&connection.server, &connection.client),
            };
            let mut buffer = vec![0; 64 << 10];
            while let Ok(count) = from.read(&mut buffer) {
                if connection.black_hole.load(Ordering::Acquire) {
                    // Swallowed, the end too: the other side is left waiting.
                    match count {
                        0 => return,
                        _ => continue,
                    }
                }
                if count == 0 {
                    break;
                }
                if replies {
                    let latency = shared.latency_ms.load(Ordering::Acquire);
                    std::thread::sleep(Duration::from_millis(latency as u64));
                    if connection.drop_replies.load(Ordering::Acquire) {
                        continue;
                    }
                }
                if to.write_all(&buffer[..count]).is_err() {
                    break;
                }
            }
            let _ = (to.shutdown(Shutdown::Both), from.shutdown(Shutdown::Both));
        });
    }
}
