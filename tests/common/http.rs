//! A plain HTTP/1.1 client: one request a connection, sent as it is written here.

use serde_json::Value;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// A request to be sent.
pub struct Request {
    method: String,
    path: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Request {
    pub fn new(method: &str, path: &str) -> Self {
        Self { method: method.into(), path: path.into(), headers: Vec::new(), body: Vec::new() }
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    pub fn json(self, body: impl Into<Vec<u8>>) -> Self {
        self.body("application/json", body)
    }

    pub fn body(mut self, kind: &str, body: impl Into<Vec<u8>>) -> Self {
        if !kind.is_empty() {
            self.headers.push(("content-type".into(), kind.into()));
        }
        self.body = body.into();
        self
    }

    /// Opens a connection and sends the request on it.
    pub fn open(&self, port: u16) -> TcpStream {
        self.try_open(port).unwrap()
    }

    /// The same, with a server that may be away.
    pub fn try_open(&self, port: u16) -> io::Result<TcpStream> {
        let mut connection = TcpStream::connect(("127.0.0.1", port))?;
        connection.set_read_timeout(Some(Duration::from_secs(30)))?;
        // The server may answer and close before it has read all: what it says then counts.
        drop(connection.write_all(&self.bytes()));
        Ok(connection)
    }

    /// The request as it is sent.
    pub fn bytes(&self) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\nhost: localhost\r\n", self.method, self.path);
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        if !self.body.is_empty() || self.method == "POST" || self.method == "PUT" {
            head += &format!("content-length: {}\r\n", self.body.len());
        }
        let mut bytes = (head + "\r\n").into_bytes();
        bytes.extend_from_slice(&self.body);
        bytes
    }

    #[track_caller]
    pub fn send(self, port: u16) -> Answer {
        self.try_send(port).unwrap()
    }

    /// The same to a server that may not answer.
    pub fn try_send(self, port: u16) -> io::Result<Answer> {
        let request = self.header("connection", "close");
        let head = request.method == "HEAD";
        let mut connection = request.try_open(port)?;
        let mut bytes = Vec::new();
        connection
            .read_to_end(&mut bytes)
            .map_err(|e| io::Error::new(e.kind(), format!("{e}, after {} bytes", bytes.len())))?;
        let (mut answer, body) =
            Answer::parse(&bytes).ok_or_else(|| io::Error::other("no whole head"))?;
        answer.body = match answer.header("transfer-encoding") {
            Some("chunked") if !head => dechunk(body).expect("a whole body"),
            _ => body.to_vec(),
        };
        Ok(answer)
    }
}

impl Answer {
    /// Parses a head; gives what follows it.
    pub fn parse(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let end = bytes.windows(4).position(|w| w == b"\r\n\r\n")?;
        let head = std::str::from_utf8(&bytes[..end]).unwrap();
        let mut lines = head.split("\r\n");
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let headers = lines.map(|line| {
            let (name, value) = line.split_once(':').unwrap();
            (name.to_ascii_lowercase(), value.trim().to_owned())
        });
        let answer = Self { status, headers: headers.collect(), body: Vec::new() };
        Some((answer, &bytes[end + 4..]))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {:?}", self.text()))
    }

    /// Checks that this is the contract's problem document with this status and code.
    #[track_caller]
    pub fn is_problem(&self, status: u16, code: &str) {
        assert_eq!(
            (self.status, self.json()["code"].as_str()),
            (status, Some(code)),
            "{}",
            self.text()
        );
        assert_eq!(self.header("content-type"), Some("application/problem+json"));
        assert!(self.header("x-request-id").is_some());
        let problem = self.json();
        assert_eq!(problem["status"], status);
        for key in ["type", "title", "detail"] {
            assert!(problem[key].as_str().is_some_and(|text| !text.is_empty()), "{problem}");
        }
        assert_eq!(self.header("retry-after").is_some(), status == 429 || status == 503);
    }
}

/// The content of a chunked body; none if its end is missing.
fn dechunk(mut body: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    loop {
        let line = body.windows(2).position(|w| w == b"\r\n")?;
        let size = usize::from_str_radix(std::str::from_utf8(&body[..line]).ok()?, 16).ok()?;
        let rest = &body[line + 2..];
        if size == 0 {
            return Some(out);
        }
        out.extend_from_slice(rest.get(..size)?);
        body = rest.get(size + 2..)?;
    }
}
