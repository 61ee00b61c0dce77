//! The ports beside the web port: for Tentacles that poll, and for gRPC. The vendor's server speaks
//! TLS of its own on both; so does this one, says which node it is, and gives every byte back.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::fatal::Fatal;
use super::log;
use super::node::Node;

/// How long a client may take for its handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// The pause after a connection could not be accepted.
const SHORTAGE: Duration = Duration::from_millis(100);

/// Opens them and serves for as long as the process lives.
pub(super) async fn begin(node: &Node) -> Result<(), Fatal> {
    let acceptor = acceptor(&node.settings.node)
        .map_err(|error| Fatal::Setting(format!("no certificate: {error}")))?;
    for port in &node.settings.direct_ports {
        let address = SocketAddr::new(node.settings.address.ip(), *port);
        let failed = |why| Fatal::Port {
            address: address.to_string(),
            why,
        };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let words = format!("stand-in {} on {port}\n", node.settings.node);
        log::line(format_args!("Listening for TLS on {address}"));
        tokio::spawn(serve(listener, acceptor.clone(), words));
    }
    Ok(())
}

/// With a certificate of its own, made at each start.
fn acceptor(name: &str) -> io::Result<TlsAcceptor> {
    let made = rcgen::generate_simple_self_signed([name.to_owned()]).map_err(io::Error::other)?;
    let key = made.signing_key.serialize_pem();
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(io::Error::other)?;
    let chain = vec![CertificateDer::from(made.cert)];
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(io::Error::other)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor, words: String) {
    loop {
        match listener.accept().await {
            Ok((tcp, _)) => {
                let (acceptor, words) = (acceptor.clone(), words.clone());
                // One that breaks off is its client's affair.
                tokio::spawn(async move { drop(echo(tcp, &acceptor, &words).await) });
            }
            Err(_) => tokio::time::sleep(SHORTAGE).await,
        }
    }
}

async fn echo(tcp: TcpStream, acceptor: &TlsAcceptor, words: &str) -> io::Result<()> {
    let mut stream = tokio::time::timeout(HANDSHAKE, acceptor.accept(tcp)).await??;
    stream.write_all(words.as_bytes()).await?;
    stream.flush().await?;
    let mut piece = [0; 4096];
    loop {
        let count = stream.read(&mut piece).await?;
        if count == 0 {
            return stream.shutdown().await;
        }
        stream.write_all(&piece[..count]).await?;
        stream.flush().await?;
    }
}
