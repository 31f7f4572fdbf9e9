//! A plain WebSocket client, written from RFC 6455: one frame a message, as they come.

use super::http::Answer;
use serde_json::Value;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// A frame from the server.
#[derive(Debug, PartialEq)]
pub enum Message {
    Text(String),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    /// With its code.
    Close(u16),
}

/// A connection.
pub struct WebSocket {
    connection: TcpStream,
    bytes: Vec<u8>,
}

impl WebSocket {
    /// Asks for a WebSocket; gives the refusal if there is one.
    pub fn try_open(port: u16, path: &str, headers: &str) -> Result<Self, Answer> {
        let mut connection = TcpStream::connect(("127.0.0.1", port)).unwrap();
        connection.set_read_timeout(Some(Duration::from_secs(40))).unwrap();
        write!(
            connection,
            "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
        )
        .unwrap();
        let mut socket = Self { connection, bytes: Vec::new() };
        loop {
            if let Some((mut answer, rest)) = Answer::parse(&socket.bytes) {
                if answer.status == 101 {
                    // The answer that RFC 6455 works out for this key.
                    let accept = answer.header("sec-websocket-accept");
                    assert_eq!(accept, Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
                    assert_eq!(answer.header("sec-websocket-extensions"), None);
                    socket.bytes = rest.to_vec();
                    return Ok(socket);
                }
                let length: usize = answer.header("content-length").unwrap().parse().unwrap();
                if rest.len() >= length {
                    answer.body = rest.to_vec();
                    return Err(answer);
                }
            }
            socket.more();
        }
    }

    #[track_caller]
    pub fn open(port: u16, path: &str) -> Self {
        match Self::try_open(port, path, "") {
            Ok(socket) => socket,
            Err(answer) => panic!("{} {}", answer.status, answer.text()),
        }
    }

    #[track_caller]
    fn more(&mut self) {
        let mut piece = [0; 16 << 10];
        let count = self.connection.read(&mut piece).unwrap();
        assert!(count > 0, "the connection ended");
        self.bytes.extend_from_slice(&piece[..count]);
    }

    /// The next message.
    #[track_caller]
    pub fn next(&mut self) -> Message {
        loop {
            if let Some((message, length)) = parse(&self.bytes) {
                self.bytes.drain(..length);
                return message;
            }
            self.more();
        }
    }

    /// The next text message, as JSON; pings are answered.
    #[track_caller]
    pub fn json(&mut self) -> Value {
        loop {
            match self.next() {
                Message::Text(text) => return serde_json::from_str(&text).unwrap(),
                Message::Ping(bytes) => self.send(10, &bytes),
                other => panic!("{other:?}"),
            }
        }
    }

    /// The sequences of the next events.
    #[track_caller]
    pub fn sequences(&mut self, count: usize) -> Vec<u64> {
        (0..count).map(|_| self.json()["sequence"].as_u64().unwrap()).collect()
    }

    /// Sends one whole masked frame.
    pub fn send(&mut self, opcode: u8, payload: &[u8]) {
        self.send_raw(0x80 | opcode, true, payload);
    }

    /// Sends bytes as they are.
    pub fn send_bytes(&mut self, bytes: &[u8]) {
        drop(self.connection.write_all(bytes));
    }

    /// Sends a frame with this first byte, masked or not.
    pub fn send_raw(&mut self, first: u8, masked: bool, payload: &[u8]) {
        let mut frame = vec![first];
        let mask_bit = if masked { 0x80 } else { 0 };
        match payload.len() {
            short @ 0..126 => frame.push(mask_bit | u8::try_from(short).unwrap()),
            medium @ 126..65536 => {
                frame.push(mask_bit | 126);
                frame.extend_from_slice(&u16::try_from(medium).unwrap().to_be_bytes());
            }
            long => {
                frame.push(mask_bit | 127);
                frame.extend_from_slice(&(long as u64).to_be_bytes());
            }
        }
        let mask = [7, 1, 9, 4];
        if masked {
            frame.extend_from_slice(&mask);
        }
        let masks = mask.iter().cycle();
        frame.extend(payload.iter().zip(masks).map(|(b, m)| if masked { b ^ m } else { *b }));
        // The server may have had enough and closed.
        drop(self.connection.write_all(&frame));
    }
}

fn parse(bytes: &[u8]) -> Option<(Message, usize)> {
    let (&first, rest) = bytes.split_first()?;
    let (&second, rest) = rest.split_first()?;
    assert_eq!(first & 0xf0, 0x80, "whole frames without extensions");
    assert_eq!(second & 0x80, 0, "a server does not mask");
    let (length, rest) = match second & 0x7f {
        126 => {
            let (length, rest) = rest.split_first_chunk::<2>()?;
            (usize::from(u16::from_be_bytes(*length)), rest)
        }
        127 => {
            let (length, rest) = rest.split_first_chunk::<8>()?;
            (usize::try_from(u64::from_be_bytes(*length)).unwrap(), rest)
        }
        short => (usize::from(short), rest),
    };
    let payload = rest.get(..length)?;
    let message = match first & 0x0f {
        1 => Message::Text(String::from_utf8(payload.to_vec()).unwrap()),
        8 => Message::Close(u16::from_be_bytes([payload[0], payload[1]])),
        9 => Message::Ping(payload.to_vec()),
        10 => Message::Pong(payload.to_vec()),
        other => panic!("opcode {other}"),
    };
    Some((message, bytes.len() - rest.len() + length))
}
