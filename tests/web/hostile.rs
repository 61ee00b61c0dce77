//! Malformed and hostile requests, each with the answer expected. Nothing that is refused reaches
//! the node.

use octo_local::web::limits::Limits;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::door::Door;
use super::door::get;
use super::door::rest;
use super::door::say;
use super::door::status;
use super::node::Node;

/// A body that a lenient server would take for a second request.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: octo\r\n\r\n";

/// What is said, and the status expected; 0 for a connection that is closed without an answer.
fn cases() -> Vec<(String, u16)> {
    let mut cases = Vec::new();
    cases.extend(lengths());
    cases.extend(lines());
    cases.extend(chunks());
    cases.extend(targets());
    cases.extend(hosts());
    cases.extend(bombs());
    cases.extend(upgrades());
    cases.extend(others());
    cases
}

fn post(fields: &str, body: &str) -> String {
    format!("POST /length HTTP/1.1\r\nHost: octo\r\n{fields}\r\n{body}")
}

fn chunked(body: &str) -> String {
    post("Transfer-Encoding: chunked\r\n", body)
}

/// Two readings of where a request ends.
fn lengths() -> Vec<(String, u16)> {
    let te = "Transfer-Encoding: chunked\r\n";
    let fields = [
        format!("Content-Length: 5\r\n{te}"),
        format!("{te}Content-Length: 5\r\n"),
        "Content-Length: 5\r\nContent-Length: 6\r\n".to_owned(),
        "Content-Length: 5\r\nContent-Length: 5\r\n".to_owned(),
        "Content-Length: 5, 5\r\n".to_owned(),
        "Content-Length: +5\r\n".to_owned(),
        "Content-Length: -5\r\n".to_owned(),
        "Content-Length: 0x5\r\n".to_owned(),
        "Content-Length: 5 5\r\n".to_owned(),
        "Content-Length: 5.0\r\n".to_owned(),
        "Content-Length: 1e1\r\n".to_owned(),
        "Content-Length:\r\n".to_owned(),
        "Content-Length: 99999999999999999999999\r\n".to_owned(),
        "Content-Length: 18446744073709551616\r\n".to_owned(),
        "Content-Length : 5\r\n".to_owned(),
        format!("{te}{te}"),
        "Transfer-Encoding: gzip, chunked\r\n".to_owned(),
        "Transfer-Encoding: chunked, identity\r\n".to_owned(),
        "Transfer-Encoding: chunked, chunked\r\n".to_owned(),
        "Transfer-Encoding: identity\r\n".to_owned(),
        "Transfer-Encoding: xchunked\r\n".to_owned(),
        "Transfer-Encoding: \"chunked\"\r\n".to_owned(),
        "Transfer-Encoding: \x0bchunked\r\n".to_owned(),
        "Transfer-Encoding:\r\n chunked\r\n".to_owned(),
        "Transfer-Encoding : chunked\r\n".to_owned(),
        "Transfer-Encoding\t: chunked\r\n".to_owned(),
        "Transfer-Encoding: chunked;q=1\r\n".to_owned(),
    ];
    let body = format!("0\r\n\r\n{SMUGGLED}");
    fields
        .iter()
        .map(|fields| (post(fields, &body), 400))
        .chain([(
            post(te, &body).replace("HTTP/1.1\r\nHost: octo\r\nT", "HTTP/1.0\r\nT"),
            400,
        )])
        .collect()
}

/// Lines that end or go on in more than one way.
fn lines() -> Vec<(String, u16)> {
    [
        "GET / HTTP/1.1\nHost: octo\n\n",
        "GET / HTTP/1.1\r\nHost: octo\n\r\n",
        "GET / HTTP/1.1\r\nHost: octo\r\n\n",
        "GET / HTTP/1.1\r\nHost: octo\r\nA: b\rX: c\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: octo\r\nA: b\r\n folded\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: octo\r\nA: b\r\n\tfolded\r\n\r\n",
        "GET / HTTP/1.1\r\n A: b\r\nHost: octo\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: octo\r\nno colon\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: octo\r\n: empty\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: octo\r\nA(b): c\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: octo\r\nA\u{e9}: c\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: octo\r\nA: \0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: octo\r\nA: \x7f\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: octo\r\nA: \x1b[2J\r\n\r\n",
        "\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: octo\r\n\r\n",
        " GET / HTTP/1.1\r\nHost: octo\r\n\r\n",
    ]
    .map(|text| (text.to_owned(), 400))
    .to_vec()
}

fn chunks() -> Vec<(String, u16)> {
    let bad = [
        "x\r\n",
        "0x3\r\nabc\r\n0\r\n\r\n",
        "-3\r\nabc\r\n0\r\n\r\n",
        "3 \r\nabc\r\n0\r\n\r\n",
        " 3\r\nabc\r\n0\r\n\r\n",
        "3\nabc\r\n0\r\n\r\n",
        "3\r\nabcd\r\n0\r\n\r\n",
        "3\r\nabc0\r\n\r\n",
        "3\r\nabc\n0\r\n\r\n",
        "\r\n",
        "ffffffffffffffff\r\nabc",
        "10000000000000000\r\nabc",
        "3;a\nb\r\nabc\r\n0\r\n\r\n",
        "0\r\nContent-Length: 5\r\n\r\n",
        "0\r\nTransfer-Encoding: chunked\r\n\r\n",
        "0\r\nHost: other\r\n\r\n",
        "0\r\n folded: x\r\n\r\n",
    ];
    let long = format!("3;{}\r\nabc\r\n0\r\n\r\n", "e".repeat(1000));
    bad.iter()
        .map(|body| (chunked(body), 400))
        .chain([(chunked(&long), 400)])
        .collect()
}

fn targets() -> Vec<(String, u16)> {
    let lines = [
        ("GET HTTP/1.1", 400),
        ("GET  / HTTP/1.1", 400),
        ("GET /  HTTP/1.1", 400),
        ("GET / x HTTP/1.1", 400),
        ("GET\t/\tHTTP/1.1", 400),
        ("GET /", 400),
        ("GET / HTTP/0.9", 400),
        ("GET / HTTP/1.2", 400),
        ("GET / HTTP/2.0", 400),
        ("GET / http/1.1", 400),
        ("GET / HTTP/11", 400),
        ("G(T / HTTP/1.1", 400),
        ("GET /#fragment HTTP/1.1", 400),
        ("GET /\u{e9} HTTP/1.1", 400),
        ("GET /\0 HTTP/1.1", 400),
        ("GET name HTTP/1.1", 400),
        ("GET * HTTP/1.1", 400),
        ("GET ftp://octo/ HTTP/1.1", 400),
        ("CONNECT octo:443 HTTP/1.1", 405),
        ("TRACE / HTTP/1.1", 405),
        ("PRI * HTTP/2.0", 400),
    ];
    lines
        .iter()
        .map(|(line, status)| (format!("{line}\r\nHost: octo\r\n\r\n"), *status))
        .collect()
}

fn hosts() -> Vec<(String, u16)> {
    [
        "",
        "Host:\r\n",
        "Host: a\r\nHost: b\r\n",
        "Host: a\r\nHost: a\r\n",
        "Host: a, b\r\n",
        "Host: user@octo\r\n",
        "Host: octo/path\r\n",
        "Host: octo:port\r\n",
        "Host: octo:99999\r\n",
        "Host: [::1\r\n",
        "Host: oc to\r\n",
    ]
    .map(|host| (format!("GET / HTTP/1.1\r\n{host}\r\n"), 400))
    .to_vec()
}

fn bombs() -> Vec<(String, u16)> {
    let get = |fields: &str| format!("GET / HTTP/1.1\r\nHost: octo\r\n{fields}\r\n");
    vec![
        (get(&"A: b\r\n".repeat(200)), 431),
        (get(&format!("A: {}\r\n", "b".repeat(100_000))), 431),
        (get(&format!("{}: b\r\n", "a".repeat(100_000))), 431),
        (get(&format!("A: b{}\r\n", "\t".repeat(100_000))), 431),
        (
            format!(
                "GET /{} HTTP/1.1\r\nHost: octo\r\n\r\n",
                "a".repeat(100_000)
            ),
            431,
        ),
        (format!("{} / HTTP/1.1\r\n\r\n", "G".repeat(10_000)), 400),
        (
            chunked(&format!("0\r\nA: {}\r\n\r\n", "b".repeat(20_000))),
            400,
        ),
    ]
}

fn upgrades() -> Vec<(String, u16)> {
    let get = |fields: &str| {
        format!("GET /switch HTTP/1.1\r\nHost: octo\r\nConnection: upgrade\r\n{fields}\r\n")
    };
    vec![
        (get("Upgrade: websocket, other\r\n"), 400),
        (get("Upgrade: websocket\r\nUpgrade: websocket\r\n"), 400),
        (
            get("Upgrade: websocket\r\nContent-Length: 3\r\n") + "abc",
            400,
        ),
        (
            get("Upgrade: websocket\r\nTransfer-Encoding: chunked\r\n") + "0\r\n\r\n",
            400,
        ),
    ]
}

fn others() -> Vec<(String, u16)> {
    let expect =
        "PUT /length HTTP/1.1\r\nHost: octo\r\nExpect: 200-maybe\r\nContent-Length: 3\r\n\r\n";
    vec![
        (expect.to_owned(), 417),
        ("\x16\x03\x01\x02\x00\x01\x00\x01\u{fc}".to_owned(), 400),
        ("SSH-2.0-OpenSSH_9.2\r\n".to_owned(), 400),
        ("EHLO octo\r\n".to_owned(), 400),
        ("\0\0\0\0".to_owned(), 400),
    ]
}

#[tokio::test]
async fn malformed_requests_are_refused_and_reach_no_node() {
    let node = Node::new("a").await;
    let door = Door::before(&[node.fed()]).await;
    let cases = cases();
    assert!(cases.len() >= 80, "{}", cases.len());
    for (text, expected) in cases {
        let answer = say(door.address(), text.as_bytes()).await;
        let shown: String = text.chars().take(120).collect();
        assert_eq!(status(&answer), expected, "{shown:?}\n{answer}");
        assert!(
            answer.matches("HTTP/1.").count() == 1,
            "one answer: {shown:?}\n{answer}"
        );
    }
    let lines = node.shared.lines.lock().unwrap().clone();
    let heads: Vec<&String> = lines
        .iter()
        .filter(|line| !line.starts_with("POST /length"))
        .collect();
    assert!(heads.is_empty(), "{heads:?}");
    assert_eq!(status(&get(door.address(), "/name").await), 200);
}

/// A client that closes its side in the middle: what it did not say to the end is no request, and
/// no answer of success comes of it.
#[tokio::test]
async fn requests_that_end_early_are_none() {
    let node = Node::new("a").await;
    let mut door = Door::before(&[node.fed()]).await;
    let whole = chunked("3\r\nabc\r\n0\r\nA: b\r\n\r\n");
    let length = post("Content-Length: 9\r\n", "abcdefgh");
    let upgrade = "GET /switch HTTP/1.1\r\nHost: octo\r\nConnection: upgrade\r\nUpgrade: x\r\n";
    let cut = (1..whole.len()).map(|end| &whole[..end]);
    for text in cut.chain([length.as_str(), upgrade, "PRI * HTTP/2.0\r\n\r\nSM"]) {
        let mut stream = TcpStream::connect(door.address()).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let answer = rest(&mut stream).await;
        let told = status(&answer);
        assert!(matches!(told, 0 | 400), "{text:?}\n{answer}");
    }
    let state = door.until("all is over", |state| {
        state.connections == 0 && state.nodes[0].requests == 0
    });
    assert!(state.await.nodes[0].serves, "no client takes a node out");
    assert_eq!(status(&get(door.address(), "/name").await), 200);
}

/// What the RFCs allow, also where few use it, comes through.
#[tokio::test]
async fn unusual_but_valid_requests_are_served() {
    let node = Node::new("a").await;
    let door = Door::before(&[node.fed()]).await;
    let close = "Connection: close\r\n";
    let cases = [
        (
            format!("\r\nGET /name HTTP/1.1\r\nHost: octo\r\n{close}\r\n"),
            "a",
        ),
        ("GET /name HTTP/1.0\r\n\r\n".to_owned(), "a"),
        (
            format!("GET http://octo/name HTTP/1.1\r\nHost: x\r\n{close}\r\n"),
            "a",
        ),
        (
            format!("GET /name?a={{b}}|c HTTP/1.1\r\nHost: octo\r\n{close}\r\n"),
            "a",
        ),
        (
            format!("OPTIONS * HTTP/1.1\r\nHost: octo\r\n{close}\r\n"),
            "a",
        ),
        (post(&format!("{close}Content-Length: 3 \r\n"), "abc"), "3 "),
        (
            post(
                &format!("{close}TRANSFER-ENCODING:\tChunked\r\n"),
                "3;x=\"y\"\r\nabc\r\n0\r\n\r\n",
            ),
            "3 ",
        ),
        (
            format!("GET /name HTTP/1.1\r\nHost: octo\r\nX-A: \u{e9}\r\n{close}\r\n"),
            "a",
        ),
        (
            "GET /switch HTTP/1.1\r\nHost: octo\r\nConnection: upgrade, close\r\nUpgrade: h2c\r\n\r\n"
                .to_owned(),
            "",
        ),
    ];
    for (text, expected) in cases {
        let answer = say(door.address(), text.as_bytes()).await;
        assert_eq!(super::door::body(&answer), expected, "{text:?}\n{answer}");
    }
}

#[tokio::test]
async fn slow_heads_idle_connections_and_crowds_are_bounded() {
    let node = Node::new("a").await;
    let door = Door::with(&[node.fed()], |feed| {
        feed.limits = Limits {
            head_ms: 300,
            idle_ms: 600,
            per_address: 20,
            ..Limits::default()
        };
    })
    .await;
    let address = door.address();
    // A head that never ends, one byte at a time: closed though something comes all the time.
    let slow = async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let began = tokio::time::Instant::now();
        while stream.write_all(b"G").await.is_ok() && began.elapsed().as_secs() < 60 {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            let mut byte = [0];
            if let Ok(0) | Err(_) = stream
                .try_read(&mut byte)
                .or_else(|error| match error.kind() {
                    std::io::ErrorKind::WouldBlock => Ok(1),
                    _ => Err(error),
                })
            {
                break;
            }
        }
        began.elapsed()
    };
    let half = async { say(address, b"GET / HTTP/1.1\r\nHost: oc").await };
    let preface = async { say(address, b"PRI * HTTP/2").await };
    let nothing = async { say(address, b"").await };
    let kept = async { say(address, b"GET /name HTTP/1.1\r\nHost: octo\r\n\r\n").await };
    let (slow, half, preface, nothing, kept) = tokio::join!(slow, half, preface, nothing, kept);
    assert!(slow.as_secs() < 30, "{slow:?}");
    assert_eq!((half.as_str(), nothing.as_str()), ("", ""));
    assert_eq!(
        preface.matches("HTTP/1.1 400").count(),
        preface.matches("HTTP").count()
    );
    assert_eq!(status(&kept), 200);

    let mut crowd = Vec::new();
    for _ in 0..20 {
        crowd.push(TcpStream::connect(address).await.unwrap());
    }
    let mut late = TcpStream::connect(address).await.unwrap();
    assert_eq!(rest(&mut late).await, "", "one too many is closed");
    drop(crowd);
    super::door::get(address, "/name").await;
}
