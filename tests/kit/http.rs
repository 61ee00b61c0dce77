//! A question to a node's web port, without the product's own client.

use std::io::BufRead as _;
use std::io::Read as _;
use std::io::Write as _;
use std::net::TcpStream;
use std::time::Duration;

/// No answer of a stand-in takes a tenth of this.
const PATIENCE: Duration = Duration::from_secs(20);
/// No answer of a stand-in is a tenth as long.
const LONGEST: u64 = 1 << 20;

/// `GET` on a port of this host: status and body, or none when nothing answers. `key` is the API
/// key, if one is needed.
pub(crate) fn get(port: u16, path: &str, key: &str) -> Option<(u16, String)> {
    get_from("127.0.0.1", port, path, key)
}

/// The same on another address of this host.
pub(crate) fn get_from(address: &str, port: u16, path: &str, key: &str) -> Option<(u16, String)> {
    let head = format!("GET {path} HTTP/1.1\r\nX-Octopus-ApiKey: {key}\r\n");
    exchange(address, port, &head, "")
}

/// The same as a proxy asks for this client.
pub(crate) fn get_as_proxy(port: u16, path: &str, client: &str) -> Option<(u16, String)> {
    let head = format!("GET {path} HTTP/1.1\r\nX-Forwarded-For: {client}\r\n");
    exchange("127.0.0.1", port, &head, "")
}

/// `POST` of a JSON body.
pub(crate) fn post(port: u16, path: &str, key: &str, body: &str) -> Option<(u16, String)> {
    let head = format!(
        "POST {path} HTTP/1.1\r\nX-Octopus-ApiKey: {key}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n",
        body.len()
    );
    exchange("127.0.0.1", port, &head, body)
}

/// A connection that was upgraded: the stand-in on its other end said who it is, and gives every
/// byte back.
pub(crate) struct Upgraded {
    stream: std::io::BufReader<TcpStream>,
    /// Who is on the other end.
    pub(crate) node: String,
}

impl Upgraded {
    /// Asks for one; none where it is refused.
    pub(crate) fn on(port: u16) -> Option<Self> {
        let tcp = TcpStream::connect(("127.0.0.1", port)).ok()?;
        tcp.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut upgraded = Self {
            stream: std::io::BufReader::new(tcp),
            node: String::new(),
        };
        let head = "GET /api/standin/socket HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\n\
                    Upgrade: websocket\r\n\r\n";
        upgraded.stream.get_mut().write_all(head.as_bytes()).ok()?;
        let status = upgraded.line()?;
        while !upgraded.line()?.is_empty() {}
        let greeting = status.contains(" 101 ").then(|| upgraded.line())??;
        greeting
            .strip_prefix("stand-in ")?
            .clone_into(&mut upgraded.node);
        Some(upgraded)
    }

    /// Whether a line that is sent comes back.
    pub(crate) fn echoes(&mut self, line: &str) -> bool {
        let sent = self
            .stream
            .get_mut()
            .write_all(format!("{line}\n").as_bytes());
        sent.is_ok() && self.line().as_deref() == Some(line)
    }

    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let count = self.stream.read_line(&mut line).ok()?;
        (count > 0).then(|| line.trim_end().to_owned())
    }
}

fn exchange(address: &str, port: u16, head: &str, body: &str) -> Option<(u16, String)> {
    let mut tcp = TcpStream::connect((address, port)).ok()?;
    tcp.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = format!("{head}Host: 127.0.0.1\r\nConnection: close\r\n\r\n{body}");
    tcp.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    tcp.take(LONGEST).read_to_string(&mut answer).ok()?;
    let status = answer.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some((status, answer.split_once("\r\n\r\n")?.1.to_owned()))
}
