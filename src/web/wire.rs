//! Lines of JSON over a unix socket, and descriptors beside them (SCM_RIGHTS).

use std::collections::VecDeque;
use std::io;
use std::io::IoSlice;
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::AsFd as _;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;

use rustix::net::RecvAncillaryBuffer;
use rustix::net::RecvAncillaryMessage;
use rustix::net::RecvFlags;
use rustix::net::SendAncillaryBuffer;
use rustix::net::SendAncillaryMessage;
use rustix::net::SendFlags;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::AsyncWriteExt as _;
use tokio::io::Interest;
use tokio::net::UnixStream;

use super::message::LONGEST;
use super::message::MOST_SOCKETS;

/// Room for the descriptors of one message.
const SPACE: usize = rustix::cmsg_space!(ScmRights(MOST_SOCKETS));
/// Bytes that are read at once.
const PIECE: usize = 16 * 1024;

/// One connection.
#[derive(Debug)]
pub(super) struct Wire {
    stream: UnixStream,
    read: Vec<u8>,
    /// Descriptors that came and that no message took yet.
    sockets: VecDeque<OwnedFd>,
}

impl Wire {
    pub(super) fn new(stream: UnixStream) -> Self {
        Self {
            stream,
            read: Vec::new(),
            sockets: VecDeque::new(),
        }
    }

    /// Sends one message, and descriptors with its first byte.
    pub(super) async fn send(
        &mut self,
        message: &impl Serialize,
        sockets: &[BorrowedFd<'_>],
    ) -> io::Result<()> {
        let mut line = serde_json::to_vec(message)?;
        line.push(b'\n');
        let mut sent = 0;
        if !sockets.is_empty() {
            let sending = || send_with(&self.stream, &line, sockets);
            sent = self.stream.async_io(Interest::WRITABLE, sending).await?;
        }
        self.stream.write_all(&line[sent..]).await
    }

    /// The next message; none at the connection's end.
    pub(super) async fn receive<T: DeserializeOwned>(&mut self) -> io::Result<Option<T>> {
        let mut searched = 0;
        loop {
            let end = self.read[searched..].iter().position(|byte| *byte == b'\n');
            if let Some(end) = end {
                let rest = self.read.split_off(searched + end + 1);
                let line = std::mem::replace(&mut self.read, rest);
                return Ok(Some(serde_json::from_slice(&line)?));
            }
            searched = self.read.len();
            if searched > LONGEST {
                return Err(io::Error::other("a message is too long"));
            }
            if self.more().await? == 0 {
                return Ok(None);
            }
        }
    }

    /// Waits until the other side says something or is gone. Nothing is taken in.
    pub(super) async fn until_heard(&self) {
        let mut byte = [0_u8; 1];
        let peek = || {
            let heard = rustix::net::recv(&self.stream, &mut byte, RecvFlags::PEEK);
            heard.map(drop).map_err(io::Error::from)
        };
        // An error is found again by whoever uses it next.
        let _ = self.stream.async_io(Interest::READABLE, peek).await;
    }

    /// The descriptors that came with what was received so far.
    pub(super) fn take_sockets(&mut self) -> Vec<OwnedFd> {
        self.sockets.drain(..).collect()
    }

    async fn more(&mut self) -> io::Result<usize> {
        let mut piece = vec![0; PIECE];
        let mut came = Vec::new();
        let count = {
            let receiving = || receive_with(&self.stream, &mut piece, &mut came);
            self.stream.async_io(Interest::READABLE, receiving).await?
        };
        self.read.extend_from_slice(&piece[..count]);
        self.sockets.extend(came);
        if self.sockets.len() > MOST_SOCKETS {
            return Err(io::Error::other("too many descriptors came"));
        }
        Ok(count)
    }
}

fn send_with(stream: &UnixStream, line: &[u8], sockets: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); SPACE];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(sockets)) {
        return Err(io::Error::other("too many descriptors to send"));
    }
    let sent = rustix::net::sendmsg(
        stream.as_fd(),
        &[IoSlice::new(line)],
        &mut control,
        SendFlags::NOSIGNAL,
    )?;
    Ok(sent)
}

fn receive_with(
    stream: &UnixStream,
    piece: &mut [u8],
    came: &mut Vec<OwnedFd>,
) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); SPACE];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let message = rustix::net::recvmsg(
        stream.as_fd(),
        &mut [IoSliceMut::new(piece)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    for part in control.drain() {
        if let RecvAncillaryMessage::ScmRights(sockets) = part {
            came.extend(sockets);
        }
    }
    Ok(message.bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;
    use std::io::Read as _;

    #[tokio::test]
    async fn messages_and_descriptors_arrive_whole_and_in_order() {
        let (one, other) = UnixStream::pair().unwrap();
        let (mut one, mut other) = (Wire::new(one), Wire::new(other));
        let long = Value::String("x".repeat(300_000));
        let (mut near, far) = std::os::unix::net::UnixStream::pair().unwrap();
        let sending = async {
            one.send(&1, &[]).await.unwrap();
            one.send(&long, &[far.as_fd()]).await.unwrap();
            drop(far);
        };
        let receiving = async {
            let first: u32 = other.receive().await.unwrap().unwrap();
            let second: Value = other.receive().await.unwrap().unwrap();
            (first, second)
        };
        let ((), (first, second)) = tokio::join!(sending, receiving);
        assert_eq!((first, &second), (1, &long));
        let mut sockets = other.take_sockets();
        assert_eq!(sockets.len(), 1);
        let far = std::os::unix::net::UnixStream::from(sockets.remove(0));
        std::io::Write::write_all(&mut &far, b"hello").unwrap();
        drop(far);
        let mut text = String::new();
        near.read_to_string(&mut text).unwrap();
        assert_eq!(text, "hello");
        drop(one);
        assert!(other.receive::<Value>().await.unwrap().is_none());
    }
}
