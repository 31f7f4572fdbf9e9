//! One connection of a publisher, or of who asks for history: requests out, whole answers in.

use crate::http::{Chunks, Framing, Head};
use crate::resp;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub struct Connection {
    stream: TcpStream,
    address: SocketAddr,
    redis: bool,
    /// What came and belongs to no answer yet.
    buffer: Vec<u8>,
}

impl Connection {
    pub async fn open(address: SocketAddr, redis: bool) -> Result<Self, String> {
        let stream = TcpStream::connect(address)
            .await
            .map_err(|e| format!("cannot connect to {address}: {e}"))?;
        stream.set_nodelay(true).map_err(|e| format!("{address}: {e}"))?;
        Ok(Self { stream, address, redis, buffer: Vec::with_capacity(64 * 1024) })
    }

    /// Sends requests that get so many answers; gives the last one's body.
    pub async fn ask(&mut self, requests: &[u8], answers: usize) -> Result<Vec<u8>, String> {
        let sent = self.stream.write_all(requests).await;
        sent.map_err(|e| format!("cannot send to {}: {e}", self.address))?;
        let mut body = Vec::new();
        for _ in 0..answers {
            body = if self.redis { self.reply().await? } else { self.response().await? };
        }
        Ok(body)
    }

    async fn more(&mut self) -> Result<(), String> {
        match self.stream.read_buf(&mut self.buffer).await {
            Ok(0) => Err(format!("{} closed the connection before it answered", self.address)),
            Ok(_) => Ok(()),
            Err(e) => Err(format!("cannot read from {}: {e}", self.address)),
        }
    }

    async fn reply(&mut self) -> Result<Vec<u8>, String> {
        loop {
            if let Some(length) = resp::reply_length(&self.buffer)? {
                return Ok(self.buffer.drain(..length).collect());
            }
            self.more().await?;
        }
    }

    async fn response(&mut self) -> Result<Vec<u8>, String> {
        let head = loop {
            match Head::parse(&self.buffer) {
                Some(head) => break head,
                None => self.more().await?,
            }
        };
        self.buffer.drain(..head.length);
        let body = match head.framing {
            Framing::Length(length) => {
                while self.buffer.len() < length {
                    self.more().await?;
                }
                self.buffer.drain(..length).collect()
            }
            Framing::Chunked => self.chunks().await?,
        };
        if (200..300).contains(&head.status) {
            return Ok(body);
        }
        Err(format!(
            "{} answered {}: {}",
            self.address,
            head.status,
            String::from_utf8_lossy(&body)
        ))
    }

    async fn chunks(&mut self) -> Result<Vec<u8>, String> {
        let (mut chunks, mut body) = (Chunks::default(), Vec::new());
        loop {
            let used = chunks.feed(&self.buffer, &mut |part| body.extend_from_slice(part))?;
            self.buffer.drain(..used);
            if chunks.ended {
                return Ok(body);
            }
            self.more().await?;
        }
    }
}
