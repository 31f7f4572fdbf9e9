//! A client that keeps its connection, and tells exactly how a request that was not answered failed.

use crate::common::{Answer, Request};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// A client of one port.
pub struct Wire {
    port: u16,
    patience: Duration,
    connection: Option<TcpStream>,
}

/// Why there is no answer.
pub enum Lost {
    /// Nobody listens; nothing was sent.
    Unreached,
    /// It may have been heard.
    Unknown(String),
}

impl Wire {
    pub fn to(port: u16, patience: Duration) -> Self {
        Self { port, patience, connection: None }
    }

    /// Sends a request and reads its answer; what it sends next goes over the same connection.
    pub fn exchange(&mut self, request: &Request) -> Result<Answer, Lost> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => TcpStream::connect(("127.0.0.1", self.port)).map_err(|_| Lost::Unreached)?,
        };
        let unknown = |e: std::io::Error| Lost::Unknown(e.to_string());
        connection.set_read_timeout(Some(self.patience)).map_err(unknown)?;
        connection.set_nodelay(true).map_err(unknown)?;
        connection.write_all(&request.bytes()).map_err(unknown)?;
        let answer = read_answer(&mut connection).map_err(unknown)?;
        if answer.header("connection") != Some("close") {
            self.connection = Some(connection);
        }
        Ok(answer)
    }
}

fn read_answer(connection: &mut TcpStream) -> std::io::Result<Answer> {
    let (mut bytes, mut buffer) = (Vec::new(), [0; 16 << 10]);
    loop {
        if let Some((mut answer, body)) = Answer::parse(&bytes) {
            let length = answer.header("content-length").and_then(|length| length.parse().ok());
            let length: usize = length.ok_or_else(|| std::io::Error::other("no content-length"))?;
            if body.len() >= length {
                answer.body = body[..length].to_vec();
                return Ok(answer);
            }
        }
        match connection.read(&mut buffer)? {
            0 => return Err(std::io::Error::other(format!("the end after {} bytes", bytes.len()))),
            count => bytes.extend_from_slice(&buffer[..count]),
        }
    }
}
