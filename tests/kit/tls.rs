//! A client of the ports whose TLS is a node's own. It takes every certificate: a node makes its own.

use std::io::Read as _;
use std::io::Write as _;
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use rustls::DigitallySignedStruct;
use rustls::SignatureScheme;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::client::danger::ServerCertVerified;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::ServerName;
use rustls::pki_types::UnixTime;

/// No answer of a stand-in takes a tenth of this.
const PATIENCE: Duration = Duration::from_secs(20);

/// A connection on which a stand-in said who it is and gives every byte back.
pub(crate) struct Secure {
    stream: rustls::StreamOwned<rustls::ClientConnection, TcpStream>,
    /// Its first line.
    pub(crate) greeting: String,
}

impl Secure {
    /// Connects to a port of this host; none where nobody answers, or breaks off.
    pub(crate) fn connect(port: u16) -> Option<Self> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Any))
            .with_no_client_auth();
        let name = ServerName::try_from("octopus").unwrap();
        let client = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
        let tcp = TcpStream::connect(("127.0.0.1", port)).ok()?;
        tcp.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut secure = Self {
            stream: rustls::StreamOwned::new(client, tcp),
            greeting: String::new(),
        };
        secure.greeting = secure.line()?;
        Some(secure)
    }

    /// Whether a line that is sent comes back.
    pub(crate) fn echoes(&mut self, line: &str) -> bool {
        let sent = self.stream.write_all(format!("{line}\n").as_bytes());
        sent.is_ok() && self.line().as_deref() == Some(line)
    }

    fn line(&mut self) -> Option<String> {
        let mut line = Vec::new();
        let mut byte = [0];
        loop {
            self.stream.read_exact(&mut byte).ok()?;
            if byte[0] == b'\n' {
                return String::from_utf8(line).ok();
            }
            line.push(byte[0]);
        }
    }
}

#[derive(Debug)]
struct Any;

impl ServerCertVerifier for Any {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::aws_lc_rs::default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}
