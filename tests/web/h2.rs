//! h2: by prior knowledge and by TLS, and what floods of it do.

use std::time::Duration;

use http_body_util::BodyExt as _;
use http_body_util::Full;
use hyper::Request;
use hyper::Version;
use hyper::body::Bytes;
use hyper::client::conn::http2;
use hyper_util::rt::TokioExecutor;
use hyper_util::rt::TokioIo;
use octo_local::web::message::Purpose;
use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWrite;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::door::Door;
use super::door::free_port;
use super::door::get;
use super::door::listener;
use super::door::status;
use super::node::Node;
use super::trust;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// GET, http, / and an authority `a`, in HPACK's static table and plain.
const HEADERS: &[u8] = b"\x82\x86\x84\x41\x01a";

async fn talk<S>(stream: S) -> http2::SendRequest<Full<Bytes>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let made = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
    let (sender, connection) = made.unwrap();
    tokio::spawn(connection);
    sender
}

async fn ask(
    sender: &mut http2::SendRequest<Full<Bytes>>,
    path: &str,
    body: &str,
) -> (u16, String) {
    let request = Request::builder()
        .uri(format!("http://octo{path}"))
        .method(if body.is_empty() { "GET" } else { "POST" })
        .version(Version::HTTP_2)
        .body(Full::new(Bytes::from(body.to_owned())))
        .unwrap();
    sender.ready().await.unwrap();
    let answer = sender.send_request(request).await.unwrap();
    let status = answer.status().as_u16();
    let bytes = answer.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8_lossy(&bytes).into_owned())
}

#[tokio::test]
async fn h2_is_served_by_prior_knowledge_and_by_tls() {
    let node = Node::new("a").await;
    let tls = trust::certificate();
    let port = free_port();
    let door = Door::with(&[node.fed()], |feed| {
        feed.listeners.push(listener(port, Purpose::Https));
        feed.tls = Some(tls.clone());
    })
    .await;
    let mut plain = talk(TcpStream::connect(door.address()).await.unwrap()).await;
    let stream = trust::secure(port, &tls, &[b"h2", b"http/1.1"])
        .await
        .unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let mut secure = talk(stream).await;
    for sender in [&mut plain, &mut secure] {
        assert_eq!(ask(sender, "/name", "").await, (200, "a".to_owned()));
        assert_eq!(ask(sender, "/length", "abc").await, (200, "3 ".to_owned()));
        let (_, head) = ask(sender, "/head", "").await;
        assert!(head.starts_with("GET /head HTTP/1.1\r\n"), "{head}");
        assert!(
            head.contains("host: octo\r\n") && head.contains("via: 2.0 octo-local"),
            "{head}"
        );
        // Many at once, on one connection.
        let all = (0..50).map(|_| {
            let mut sender = sender.clone();
            async move { ask(&mut sender, "/name", "").await.0 }
        });
        let all = futures_util::future::join_all(all).await;
        assert_eq!(all, [200; 50]);
    }
}

/// One frame of h2.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// Sends pieces until the connection is closed; how many were taken.
async fn flood(door: &Door, mut piece: impl FnMut(u32) -> Vec<u8>) -> u32 {
    let stream = TcpStream::connect(door.address()).await.unwrap();
    let (mut read, mut write) = stream.into_split();
    let mut begin = PREFACE.to_vec();
    begin.extend(frame(4, 0, 0, &[]));
    write.write_all(&begin).await.unwrap();
    let reading = tokio::spawn(async move {
        let mut bytes = vec![0; 65536];
        while let Ok(1..) = read.read(&mut bytes).await {}
    });
    let mut sent = 0;
    while sent < 200_000 && !reading.is_finished() {
        let bytes = piece(sent);
        let sending = write.write_all(&bytes);
        match tokio::time::timeout(Duration::from_secs(10), sending).await {
            Ok(Ok(())) => sent += 1,
            _ => break,
        }
        if sent % 100 == 0 {
            tokio::task::yield_now().await;
        }
    }
    sent
}

#[tokio::test]
async fn floods_of_h2_end_their_own_connection_and_nothing_else() {
    let node = Node::new("a").await;
    let mut door = Door::before(&[node.fed()]).await;
    get(door.address(), "/name").await;
    let before = door.memory();
    // Opened and reset at once, again and again.
    let resets = flood(&door, |count| {
        let stream = count * 2 + 1;
        let mut bytes = frame(1, 5, stream, HEADERS);
        bytes.extend(frame(3, 0, stream, &8_u32.to_be_bytes()));
        bytes
    })
    .await;
    // A head that never ends.
    let continued = flood(&door, |count| match count {
        0 => frame(1, 1, 1, HEADERS),
        _ => frame(9, 0, 1, &[0; 1000]),
    })
    .await;
    // Settings and pings that ask for answers nobody reads.
    let pings = flood(&door, |_| frame(6, 0, 1, &[0; 8])).await;
    for (what, taken) in [
        ("resets", resets),
        ("continued", continued),
        ("pings", pings),
    ] {
        assert!(taken < 200_000, "{what} went on");
    }
    assert_eq!(status(&get(door.address(), "/name").await), 200);
    let all_gone = |state: &octo_local::web::message::State| {
        state.connections == 0 && state.nodes[0].requests == 0
    };
    door.until("all is over", all_gone).await;
    let grown = door.memory().saturating_sub(before);
    assert!(grown < 16 << 20, "{grown}");
}

#[tokio::test]
async fn malformed_h2_is_refused_and_reaches_no_node() {
    let node = Node::new("a").await;
    let door = Door::before(&[node.fed()]).await;
    let heads: [(&str, &[u8]); 7] = [
        ("no method", b"\x86\x84\x41\x01a"),
        ("no path", b"\x82\x86\x41\x01a"),
        ("upper case", b"\x82\x86\x84\x41\x01a\x40\x01A\x01b"),
        (
            "connection field",
            b"\x82\x86\x84\x41\x01a\x40\x0aconnection\x05close",
        ),
        (
            "transfer-encoding",
            b"\x82\x86\x84\x41\x01a\x40\x11transfer-encoding\x07chunked",
        ),
        (
            "line feed in a value",
            b"\x82\x86\x84\x41\x01a\x40\x01x\x03a\nb",
        ),
        ("late pseudo", b"\x82\x86\x40\x01x\x01b\x84\x41\x01a"),
    ];
    for (what, head) in heads {
        let mut stream = TcpStream::connect(door.address()).await.unwrap();
        let mut bytes = PREFACE.to_vec();
        bytes.extend(frame(4, 0, 0, &[]));
        bytes.extend(frame(1, 5, 1, head));
        stream.write_all(&bytes).await.unwrap();
        let answer = async {
            loop {
                let mut head = [0; 9];
                stream.read_exact(&mut head).await.ok()?;
                let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
                let mut payload = vec![0; length as usize];
                stream.read_exact(&mut payload).await.ok()?;
                // RST_STREAM or GOAWAY refuse; HEADERS answer.
                match head[3] {
                    3 | 7 => return None,
                    1 => return Some(payload),
                    _ => {}
                }
            }
        };
        let answer: Option<Vec<u8>> = tokio::time::timeout(Duration::from_secs(30), answer)
            .await
            .unwrap_or_else(|_| panic!("{what}: no answer"));
        // 8c is :status 400 of HPACK's static table.
        assert!(answer.is_none_or(|head| head[0] == 0x8c), "{what}");
    }
    assert_eq!(node.requests(), 0);
}
