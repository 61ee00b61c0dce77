//! TLS, the redirect to it, what a node is told about the client, and the access log.

use std::net::SocketAddr;
use std::sync::Arc;

use octo_local::web::link;
use octo_local::web::link::Start;
use octo_local::web::message::Purpose;
use octo_local::web::message::Tls;
use octo_local::web::settings::CertificateFiles;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::ServerName;
use rustls::pki_types::pem::PemObject as _;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::door::Door;
use super::door::body;
use super::door::free_port;
use super::door::get;
use super::door::listener;
use super::door::say;
use super::door::status;
use super::node::Node;
use crate::kit::process::PROGRAM;
use crate::kit::process::wait_until;

pub(super) fn certificate() -> Tls {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    Tls {
        certificate: made.cert.pem(),
        key: made.signing_key.serialize_pem(),
    }
}

/// A client that trusts this certificate alone, and offers these protocols.
pub(super) async fn secure(
    address: SocketAddr,
    tls: &Tls,
    protocols: &[&[u8]],
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = rustls::RootCertStore::empty();
    let der = CertificateDer::from_pem_slice(tls.certificate.as_bytes()).unwrap();
    roots.add(der).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|one| one.to_vec()).collect();
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
}

async fn secure_get(address: SocketAddr, tls: &Tls) -> std::io::Result<String> {
    let mut stream = secure(address, tls, &[b"http/1.1"]).await?;
    let head = b"GET /head HTTP/1.1\r\nHost: octo\r\nConnection: close\r\n\r\n";
    stream.write_all(head).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

#[tokio::test]
async fn plain_http_is_redirected_and_tls_is_served() {
    let node = Node::new("a").await;
    let tls = certificate();
    let secure_port = free_port();
    let mut door = Door::with(&[node.fed()], |feed| {
        feed.listeners.push(listener(secure_port, Purpose::Https));
        feed.tls = Some(tls.clone());
        feed.redirect_to = Some(secure_port.port());
    })
    .await;
    let answer = get(door.address(), "/a?b").await;
    assert_eq!(status(&answer), 308);
    let location = format!("location: https://octo:{}/a?b\r\n", secure_port.port());
    assert!(answer.contains(&location), "{answer}");
    let answer = secure_get(secure_port, &tls).await.unwrap();
    assert!(
        body(&answer).contains("x-forwarded-proto: https"),
        "{answer}"
    );
    assert_eq!(node.requests(), 1);
    // A certificate that cannot be used is told, and the one before stays.
    door.feed.tls = Some(Tls {
        key: certificate().key,
        ..tls.clone()
    });
    let state = door.tell().await;
    assert!(
        state
            .certificate
            .unwrap()
            .contains("do not belong together")
    );
    assert!(secure_get(secure_port, &tls).await.is_ok());
    // Plain HTTP and silence on the port of TLS: closed.
    assert!(
        !say(secure_port, b"GET / HTTP/1.1\r\nHost: octo\r\n\r\n")
            .await
            .contains("HTTP")
    );
}

#[tokio::test]
async fn a_renewed_certificate_is_served_without_a_restart() {
    let node = Node::new("a").await;
    let dir = tempfile::tempdir().unwrap();
    let files = CertificateFiles {
        certificate: dir.path().join("cert.pem"),
        key: dir.path().join("key.pem"),
    };
    let write = |tls: &Tls| {
        std::fs::write(&files.certificate, &tls.certificate).unwrap();
        std::fs::write(&files.key, &tls.key).unwrap();
    };
    let (first, second) = (certificate(), certificate());
    write(&first);
    let port = free_port();
    let (wished, state) = (watch::Sender::default(), watch::Sender::default());
    let mut feed = octo_local::web::Feed::default();
    feed.listeners.push(listener(port, Purpose::Https));
    feed.nodes.push(node.fed());
    wished.send_replace(feed);
    let start = Start {
        program: PROGRAM.into(),
        built: 0,
        control: dir.path().join("web.sock"),
        log: dir.path().join("web.log"),
        access_log: dir.path().join("access").join("access.log"),
        user: None,
    };
    let mut states = state.subscribe();
    let control = start.control.clone();
    let keeping = link::keep(start, Some(files.clone()), wished.subscribe(), state);
    let keeping = tokio::spawn(keeping);
    states.wait_for(Option::is_some).await.unwrap();
    assert!(secure_get(port, &first).await.is_ok());
    assert!(secure_get(port, &second).await.is_err());
    write(&second);
    let served = async {
        while secure_get(port, &second).await.is_err() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(crate::kit::process::PATIENCE, served)
        .await
        .unwrap();
    keeping.abort();
    let mut last = super::door::linked(&control).await;
    last.end().await.unwrap();
    let pid = last.hello().pid;
    drop(last);
    wait_until("it ended", || {
        (!std::path::Path::new(&format!("/proc/{pid}/fd/0")).exists()).then_some(())
    });
}

#[tokio::test]
async fn a_node_is_told_who_asked_and_only_a_trusted_proxy_is_believed() {
    let node = Node::new("a").await;
    let mut door = Door::before(&[node.fed()]).await;
    let text = "GET /head HTTP/1.1\r\nHost: octo:80\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\n\
                X-Forwarded-For: 203.0.113.9\r\nX-Forwarded-Proto: https\r\nX-Real-IP: 1.2.3.4\r\n\
                Accept-Encoding: gzip\r\n\r\n";
    let answer = say(door.address(), text.as_bytes()).await;
    let seen = body(&answer).to_owned();
    for line in [
        "x-forwarded-for: 127.0.0.1\r\n",
        "x-forwarded-proto: http\r\n",
        "x-forwarded-host: octo:80\r\n",
        "host: octo:80\r\n",
        "accept-encoding: gzip\r\n",
        "via: 1.1 octo-local\r\n",
    ] {
        assert!(seen.contains(line), "{line:?} is not in {seen}");
    }
    assert!(
        !seen.contains("x-hop") && !seen.contains("1.2.3.4"),
        "{seen}"
    );
    door.feed.trusted = vec!["127.0.0.0/8".parse().unwrap()];
    door.tell().await;
    let answer = say(door.address(), text.as_bytes()).await;
    assert!(body(&answer).contains("x-forwarded-for: 203.0.113.9, 127.0.0.1\r\n"));
    assert!(body(&answer).contains("x-forwarded-proto: https\r\n"));
}

#[tokio::test]
async fn the_access_log_has_no_queries_and_the_client_that_a_proxy_names() {
    let node = Node::new("a").await;
    let mut door = Door::before(&[node.fed()]).await;
    let log = door.access_log();
    assert!(!log.exists(), "it is off");
    door.feed.writes_requests = true;
    assert_eq!(door.tell().await.access_log, None);
    get(door.address(), "/name?apiKey=API-SECRET").await;
    say(
        door.address(),
        b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n",
    )
    .await;
    door.feed.trusted = vec!["127.0.0.1".parse().unwrap()];
    door.tell().await;
    let text = "GET /name HTTP/1.1\r\nHost: octo\r\nConnection: close\r\n\
                X-Forwarded-For: 203.0.113.9\r\n\r\n";
    say(door.address(), text.as_bytes()).await;
    let text = wait_until("all are written", || {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        (text.lines().count() == 3).then_some(text)
    });
    for line in ["127.0.0.1 GET /name 200 1 ", "203.0.113.9 GET /name 200 1 "] {
        assert!(text.contains(line) && text.contains(" a\n"), "{text}");
    }
    assert!(
        text.contains("GET / 400 ") && !text.contains("SECRET"),
        "{text}"
    );
    door.feed.writes_requests = false;
    door.tell().await;
    std::fs::remove_file(&log).unwrap();
    std::fs::create_dir(&log).unwrap();
    door.feed.writes_requests = true;
    let told = door.tell().await.access_log.unwrap();
    assert!(told.starts_with(&format!("{}: ", log.display())), "{told}");
}
