//! The proxy breaks connections in just the way each of its modes says: seen with a server that echoes.

use crate::common::proxy::Proxy;
use crate::common::until;
use parking_lot::Mutex;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Long enough for what comes to have come.
const SILENCE: Duration = Duration::from_millis(150);

/// A server that echoes and keeps what it was sent, and a proxy to it.
struct Echo {
    proxy: Proxy,
    heard: Arc<Mutex<Vec<u8>>>,
}

impl Echo {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = Proxy::to(listener.local_addr().unwrap().port());
        let heard: Arc<Mutex<Vec<u8>>> = Arc::default();
        let keep = Arc::clone(&heard);
        std::thread::spawn(move || {
            for connection in listener.incoming().map_while(Result::ok) {
                let keep = Arc::clone(&keep);
                std::thread::spawn(move || echo(connection, &keep));
            }
        });
        Self { proxy, heard }
    }

    fn connect(&self) -> TcpStream {
        let connection = TcpStream::connect(("127.0.0.1", self.proxy.port)).unwrap();
        connection.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        connection
    }

    fn until_heard(&self, wanted: &str) {
        until(wanted, || (*self.heard.lock() == wanted.as_bytes()).then_some(()));
    }
}

fn echo(mut connection: TcpStream, keep: &Mutex<Vec<u8>>) {
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = connection.read(&mut buffer) {
        keep.lock().extend_from_slice(&buffer[..count]);
        if connection.write_all(&buffer[..count]).is_err() {
            return;
        }
    }
}

fn says(mut connection: &TcpStream, words: &str) {
    connection.write_all(words.as_bytes()).unwrap();
}

#[track_caller]
fn hears(mut connection: &TcpStream, words: &str) {
    let mut buffer = vec![0; words.len()];
    connection.read_exact(&mut buffer).unwrap();
    assert_eq!(buffer, words.as_bytes());
}

#[track_caller]
fn hears_nothing(mut connection: &TcpStream) {
    connection.set_read_timeout(Some(SILENCE)).unwrap();
    let kind = connection.read(&mut [0]).unwrap_err().kind();
    assert!(matches!(kind, std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut));
    connection.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
}

#[track_caller]
fn is_over(mut connection: &TcpStream) {
    assert!(matches!(connection.read(&mut [0]), Ok(0) | Err(_)));
}

#[test]
fn it_carries() {
    let echo = Echo::start();
    let connection = echo.connect();
    says(&connection, "hello");
    hears(&connection, "hello");
}

#[test]
fn latency_and_throttling_take_time() {
    let echo = Echo::start();
    let connection = echo.connect();
    let timed = |words: &str| {
        let began = Instant::now();
        says(&connection, words);
        hears(&connection, words);
        began.elapsed()
    };
    echo.proxy.delay(Duration::from_millis(200));
    assert!(timed("late") >= Duration::from_millis(200));
    echo.proxy.delay(Duration::ZERO);
    echo.proxy.throttle(Some(1000));
    timed("the piece that was being read at full speed");
    assert!(timed(&"x".repeat(300)) >= Duration::from_millis(300));
    echo.proxy.throttle(None);
    timed("the piece that was being read slowly");
    assert!(timed(&"x".repeat(10_000)) < Duration::from_secs(5));
}

#[test]
fn refusing_and_resetting_end_connections() {
    let echo = Echo::start();
    let old = echo.connect();
    says(&old, "a");
    hears(&old, "a");
    echo.proxy.refuse(true);
    is_over(&echo.connect());
    says(&old, "b");
    hears(&old, "b");
    echo.proxy.reset_existing();
    is_over(&old);
    echo.proxy.refuse(false);
    let new = echo.connect();
    says(&new, "c");
    hears(&new, "c");
}

#[test]
fn black_holes_swallow_and_say_nothing() {
    let echo = Echo::start();
    let old = echo.connect();
    says(&old, "a");
    hears(&old, "a");
    echo.proxy.black_hole_existing();
    says(&old, "b");
    hears_nothing(&old);
    let new = echo.connect();
    says(&new, "c");
    hears(&new, "c");
    echo.proxy.black_hole_all(true);
    let late = echo.connect();
    for connection in [&new, &late] {
        says(connection, "d");
        hears_nothing(connection);
    }
    echo.proxy.black_hole_all(false);
    hears_nothing(&late);
    let healed = echo.connect();
    says(&healed, "e");
    hears(&healed, "e");
    echo.until_heard("ace");
}

#[test]
fn dropped_replies_have_been_heard() {
    let echo = Echo::start();
    let connection = echo.connect();
    echo.proxy.drop_replies(true);
    says(&connection, "a");
    echo.until_heard("a");
    hears_nothing(&connection);
    echo.proxy.drop_replies(false);
    let new = echo.connect();
    says(&new, "b");
    hears(&new, "b");
}

#[test]
fn what_is_held_arrives_later_though_its_client_is_gone() {
    let echo = Echo::start();
    let (stays, goes) = (echo.connect(), echo.connect());
    for connection in [&stays, &goes] {
        says(connection, "a");
        hears(connection, "a");
    }
    echo.proxy.hold(true);
    says(&goes, "b");
    says(&goes, "c");
    drop(goes);
    hears_nothing(&stays);
    echo.until_heard("aa");
    echo.proxy.hold(false);
    echo.until_heard("aabc");
    says(&stays, "d");
    hears(&stays, "d");
}

#[test]
fn a_connection_is_cut_within_what_it_carries() {
    let echo = Echo::start();
    let requests = echo.connect();
    echo.proxy.cut_requests_after(Some(3));
    says(&requests, "abcdef");
    echo.until_heard("abc");
    let replies = echo.connect();
    echo.proxy.cut_requests_after(None);
    echo.proxy.cut_replies_after(Some(2));
    says(&replies, "ghij");
    hears(&replies, "gh");
    is_over(&replies);
    echo.until_heard("abcghij");
    echo.proxy.cut_replies_after(None);
    let healed = echo.connect();
    says(&healed, "klmnop");
    hears(&healed, "klmnop");
}
