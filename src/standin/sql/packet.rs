//! TDS packets: a message is one or more of them, each with a header of eight bytes, the last one
//! marked.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// Packets before the login is through have this size, whatever the client asks for.
pub(super) const LOGIN_PACKET: usize = 4096;
/// Largest packet size that is agreed to: the protocol's own limit.
pub(super) const MAX_PACKET: usize = 32_767;
/// Largest request taken, so that no client can fill the memory. Far above any real statement.
const MAX_MESSAGE: usize = 64 << 20;
pub(super) const HEADER: usize = 8;
const LAST: u8 = 1;
const IGNORE: u8 = 2;

pub(super) mod kind {
    //! Packet types.
    pub(in super::super) const BATCH: u8 = 0x01;
    pub(in super::super) const RPC: u8 = 0x03;
    pub(in super::super) const REPLY: u8 = 0x04;
    pub(in super::super) const ATTENTION: u8 = 0x06;
    pub(in super::super) const TRANSACTION: u8 = 0x0E;
    pub(in super::super) const LOGIN: u8 = 0x10;
    pub(in super::super) const PRELOGIN: u8 = 0x12;
}

/// One whole message, put together from its packets.
pub(super) struct Message {
    pub(super) kind: u8,
    pub(super) body: Vec<u8>,
}

/// The next message, `None` when the client has closed the connection between two messages.
pub(super) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Message>> {
    let mut body = Vec::new();
    loop {
        let mut header = [0; HEADER];
        match stream.read_exact(&mut header).await {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof && body.is_empty() => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        }
        let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
        let Some(payload) = length
            .checked_sub(HEADER)
            .filter(|payload| body.len() + payload <= MAX_MESSAGE)
        else {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "packet length out of bounds",
            ));
        };
        let start = body.len();
        body.resize(start + payload, 0);
        stream.read_exact(&mut body[start..]).await?;
        if header[1] & IGNORE != 0 {
            body.clear();
        } else if header[1] & LAST != 0 {
            return Ok(Some(Message {
                kind: header[0],
                body,
            }));
        }
    }
}

/// Writes one message and flushes once: clients want all of it in one TLS flight.
pub(super) async fn write(
    stream: &mut (impl AsyncWrite + Unpin),
    kind: u8,
    body: &[u8],
    packet: usize,
) -> io::Result<()> {
    stream.write_all(&framed(kind, body, packet)).await?;
    stream.flush().await
}

/// The packets of one message. An empty message is one empty packet.
fn framed(kind: u8, body: &[u8], packet: usize) -> Vec<u8> {
    let room = packet - HEADER;
    let count = body.len().div_ceil(room).max(1);
    let mut out = Vec::with_capacity(body.len() + count * HEADER);
    for number in 0..count {
        let payload = &body[number * room..body.len().min((number + 1) * room)];
        let length = u16::try_from(payload.len() + HEADER)
            .expect("a packet is at most 32767 bytes")
            .to_be_bytes();
        let status = u8::from(number + 1 == count) * LAST;
        out.extend([
            kind,
            status,
            length[0],
            length[1],
            0,
            0,
            (number + 1) as u8,
            0,
        ]);
        out.extend_from_slice(payload);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_message_of_several_packets_comes_back_whole() {
        let body: Vec<u8> = (0..10_000_u32).map(|n| n as u8).collect();
        let bytes = framed(kind::REPLY, &body, LOGIN_PACKET);
        assert_eq!(bytes.len(), 10_000 + 3 * HEADER);
        let message = read(&mut bytes.as_slice()).await.unwrap().unwrap();
        assert_eq!((message.kind, message.body), (kind::REPLY, body));
        assert!(read(&mut [].as_slice()).await.unwrap().is_none());
    }
}
