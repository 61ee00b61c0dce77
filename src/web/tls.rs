//! The certificate: whether it fits its key, and what is served with it.

use std::fs;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;

use super::message::Tls;
use super::settings::CertificateFiles;

/// What is wrong with a certificate or its key. Tells nothing of the key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadCertificate {
    /// A file cannot be read.
    #[error("{path} cannot be read: {reason}")]
    Unreadable {
        /// The file.
        path: String,
        /// Why.
        reason: String,
    },
    /// No certificate in the certificate's file.
    #[error("there is no certificate in PEM (-----BEGIN CERTIFICATE-----)")]
    NoCertificate,
    /// No key in the key's file.
    #[error("there is no private key in PEM without a password (-----BEGIN PRIVATE KEY-----)")]
    NoKey,
    /// The key is of a kind that cannot be used.
    #[error("the private key is of a kind that cannot be used; use RSA, P-256, P-384 or Ed25519")]
    OtherKey,
    /// The key is another's.
    #[error("the certificate and the private key do not belong together")]
    Mismatch,
    /// The certificate cannot be read.
    #[error("the certificate is damaged: {0}")]
    Damaged(String),
}

/// Checks that a certificate and its key can be served. Reads nothing but what it is given.
pub fn check(tls: &Tls) -> Result<(), BadCertificate> {
    config(tls).map(|_| ())
}

/// What an `https` listener serves with. Offers h2 before HTTP/1.1.
pub fn config(tls: &Tls) -> Result<Arc<ServerConfig>, BadCertificate> {
    let chain = CertificateDer::pem_slice_iter(tls.certificate.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| BadCertificate::NoCertificate)?;
    if chain.is_empty() {
        return Err(BadCertificate::NoCertificate);
    }
    let key =
        PrivateKeyDer::from_pem_slice(tls.key.as_bytes()).map_err(|_| BadCertificate::NoKey)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    provider
        .key_provider
        .load_private_key(key.clone_key())
        .map_err(|_| BadCertificate::OtherKey)?;
    let damaged = |error: rustls::Error| match error {
        rustls::Error::InconsistentKeys(_) => BadCertificate::Mismatch,
        other => BadCertificate::Damaged(other.to_string()),
    };
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(damaged)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// The two files, read again when they change.
#[derive(Debug)]
pub struct Files {
    paths: CertificateFiles,
    seen: Option<Seen>,
    current: Option<Tls>,
}

/// What tells a changed file.
type Seen = [(u64, Option<SystemTime>, u64); 2];

impl Files {
    /// These files, not read yet.
    pub fn at(paths: CertificateFiles) -> Self {
        Self {
            paths,
            seen: None,
            current: None,
        }
    }

    /// What the files hold, if they changed since the last look and belong together. While they are
    /// being replaced one after the other they do not: that is told, what was read before stays
    /// [`Files::current`], and the next look reads again.
    pub fn look(&mut self) -> Result<Option<&Tls>, BadCertificate> {
        let seen = self.seen()?;
        if self.seen == Some(seen) {
            return Ok(None);
        }
        let tls = read(&self.paths)?;
        check(&tls)?;
        self.seen = Some(seen);
        if self.current.as_ref() == Some(&tls) {
            return Ok(None);
        }
        self.current = Some(tls);
        Ok(self.current.as_ref())
    }

    /// What was last read and belongs together.
    pub fn current(&self) -> Option<&Tls> {
        self.current.as_ref()
    }

    fn seen(&self) -> Result<Seen, BadCertificate> {
        use std::os::unix::fs::MetadataExt as _;
        let look = |path: &std::path::Path| match fs::metadata(path) {
            Ok(file) => Ok((file.len(), file.modified().ok(), file.ino())),
            Err(error) => Err(unreadable(path, &error)),
        };
        Ok([look(&self.paths.certificate)?, look(&self.paths.key)?])
    }
}

/// Reads both files.
pub fn read(paths: &CertificateFiles) -> Result<Tls, BadCertificate> {
    let text = |path: &std::path::Path| text(path).map_err(|error| unreadable(path, &error));
    Ok(Tls {
        certificate: text(&paths.certificate)?,
        key: text(&paths.key)?,
    })
}

/// Chains of certificates have some kilobytes; what is larger is none.
const FILE_LIMIT: u64 = 1024 * 1024;

/// A small regular file: a pipe or a device would keep whoever reads it waiting, or never end.
fn text(path: &std::path::Path) -> std::io::Result<String> {
    use std::io::Read as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = fs::File::options();
    let not_waiting = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = options.read(true).custom_flags(not_waiting).open(path)?;
    let kind = file.metadata()?;
    if !kind.is_file() || kind.len() > FILE_LIMIT {
        let why = format!("it is no regular file of at most {} KiB", FILE_LIMIT / 1024);
        return Err(std::io::Error::other(why));
    }
    let mut text = String::new();
    file.take(FILE_LIMIT).read_to_string(&mut text)?;
    Ok(text)
}

fn unreadable(path: &std::path::Path, error: &std::io::Error) -> BadCertificate {
    BadCertificate::Unreadable {
        path: path.display().to_string(),
        reason: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made() -> Tls {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        Tls {
            certificate: made.cert.pem(),
            key: made.signing_key.serialize_pem(),
        }
    }

    #[test]
    fn only_a_small_regular_file_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let (pipe, fine) = (dir.path().join("pipe"), dir.path().join("fine"));
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR).unwrap();
        fs::write(&fine, "x").unwrap();
        for path in [
            pipe.as_path(),
            std::path::Path::new("/dev/zero"),
            dir.path(),
        ] {
            let told = text(path).unwrap_err().to_string();
            assert!(told.contains("no regular file"), "{told}");
        }
        assert_eq!(text(&fine).unwrap(), "x");
    }

    #[test]
    fn a_certificate_must_fit_its_key() {
        let (one, other) = (made(), made());
        assert_eq!(check(&one), Ok(()));
        let mixed = Tls {
            certificate: one.certificate.clone(),
            key: other.key,
        };
        assert_eq!(check(&mixed), Err(BadCertificate::Mismatch));
        let swapped = Tls {
            certificate: one.key.clone(),
            key: one.certificate.clone(),
        };
        assert_eq!(check(&swapped), Err(BadCertificate::NoCertificate));
        let empty = |certificate: &str, key: &str| {
            check(&Tls {
                certificate: certificate.to_owned(),
                key: key.to_owned(),
            })
        };
        assert_eq!(empty("", &one.key), Err(BadCertificate::NoCertificate));
        assert_eq!(empty(&one.certificate, "x"), Err(BadCertificate::NoKey));
        let cut = one.certificate.replace("MII", "MIJ");
        assert!(empty(&cut, &one.key).is_err());
    }

    #[test]
    fn changed_files_are_read_again_and_half_changed_ones_keep_the_old() {
        let dir = tempfile::tempdir().unwrap();
        let paths = CertificateFiles {
            certificate: dir.path().join("cert.pem"),
            key: dir.path().join("key.pem"),
        };
        let mut files = Files::at(paths.clone());
        assert!(matches!(
            files.look(),
            Err(BadCertificate::Unreadable { .. })
        ));
        let (first, second) = (made(), made());
        fs::write(&paths.certificate, &first.certificate).unwrap();
        fs::write(&paths.key, &first.key).unwrap();
        assert_eq!(files.look().unwrap(), Some(&first));
        assert_eq!(files.look().unwrap(), None);
        let replace = |path: &std::path::Path, text: &str| {
            fs::write(dir.path().join("new"), text).unwrap();
            fs::rename(dir.path().join("new"), path).unwrap();
        };
        replace(&paths.certificate, &second.certificate);
        assert_eq!(files.look(), Err(BadCertificate::Mismatch));
        assert_eq!(files.current(), Some(&first));
        replace(&paths.key, &second.key);
        assert_eq!(files.look().unwrap(), Some(&second));
    }
}
