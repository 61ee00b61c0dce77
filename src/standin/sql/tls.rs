//! TLS inside TDS: the handshake's records travel in PRELOGIN packets, what follows goes bare.

use std::fs;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::packet::{HEADER, kind};

/// A connection whose TLS handshake is wrapped in packets.
pub(super) struct Wrapped {
    tcp: TcpStream,
    handshake: bool,
    header: Vec<u8>,
    left: usize,
    out: Vec<u8>,
}

/// Takes the client's handshake. Afterwards the stream is plain TLS.
pub(super) async fn accept(
    acceptor: &TlsAcceptor,
    tcp: TcpStream,
) -> io::Result<TlsStream<Wrapped>> {
    let wrapped = Wrapped {
        tcp,
        handshake: true,
        header: Vec::new(),
        left: 0,
        out: Vec::new(),
    };
    let mut stream = acceptor.accept(wrapped).await?;
    stream.get_mut().0.handshake = false;
    Ok(stream)
}

/// The bare connection again, for clients that encrypt the login only.
pub(super) fn unwrap(stream: TlsStream<Wrapped>) -> TcpStream {
    stream.into_inner().0.tcp
}

/// The self-signed certificate in `secrets`, made at the first start. TLS 1.2 only, as SQL Server
/// on Linux.
pub(super) fn acceptor(secrets: &Path) -> io::Result<TlsAcceptor> {
    fs::create_dir_all(secrets)?;
    let (cert, key) = (
        secrets.join("standin-cert.pem"),
        secrets.join("standin-key.pem"),
    );
    if !cert.exists() || !key.exists() {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned(), "db".to_owned()])
            .map_err(io::Error::other)?;
        fs::write(&key, made.signing_key.serialize_pem())?;
        fs::write(&cert, made.cert.pem())?;
    }
    let chain = CertificateDer::pem_file_iter(&cert)
        .and_then(Iterator::collect)
        .map_err(io::Error::other)?;
    let key = PrivateKeyDer::from_pem_file(&key).map_err(io::Error::other)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS12])
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(io::Error::other)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

impl Wrapped {
    /// Reads the header of the next packet of the handshake.
    fn poll_header(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        while self.header.len() < HEADER {
            let mut bytes = [0; HEADER];
            let mut buf = ReadBuf::new(&mut bytes[self.header.len()..]);
            ready!(Pin::new(&mut self.tcp).poll_read(cx, &mut buf))?;
            if buf.filled().is_empty() {
                return Poll::Ready(Ok(false));
            }
            self.header.extend_from_slice(buf.filled());
        }
        if self.header[0] != kind::PRELOGIN {
            return Poll::Ready(Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "no PRELOGIN packet in the TLS handshake",
            )));
        }
        self.left = usize::from(u16::from_be_bytes([self.header[2], self.header[3]]))
            .saturating_sub(HEADER);
        self.header.clear();
        Poll::Ready(Ok(true))
    }
}

impl AsyncRead for Wrapped {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.handshake {
            return Pin::new(&mut this.tcp).poll_read(cx, buf);
        }
        while this.left == 0 {
            if !ready!(this.poll_header(cx))? {
                return Poll::Ready(Ok(()));
            }
        }
        let mut part = vec![0; this.left.min(buf.remaining())];
        let mut inner = ReadBuf::new(&mut part);
        ready!(Pin::new(&mut this.tcp).poll_read(cx, &mut inner))?;
        this.left -= inner.filled().len();
        buf.put_slice(inner.filled());
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wrapped {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if !this.handshake {
            return Pin::new(&mut this.tcp).poll_write(cx, buf);
        }
        if this.out.is_empty() {
            this.out.resize(HEADER, 0);
        }
        this.out.extend_from_slice(buf);
        Poll::Ready(Ok(buf.len()))
    }

    /// A flight of the handshake is far below a packet's limit; it goes as one packet, whose header
    /// is written last.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.handshake && this.out.first() == Some(&0) {
            let length = u16::try_from(this.out.len())
                .map_err(io::Error::other)?
                .to_be_bytes();
            this.out[..HEADER].copy_from_slice(&[
                kind::PRELOGIN,
                1,
                length[0],
                length[1],
                0,
                0,
                0,
                0,
            ]);
        }
        while !this.out.is_empty() {
            let written = ready!(Pin::new(&mut this.tcp).poll_write(cx, &this.out))?;
            this.out.drain(..written);
        }
        Pin::new(&mut this.tcp).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().tcp).poll_shutdown(cx)
    }
}
