//! The doors: octo-local's, nginx and haproxy, each with the same two nodes behind it and the same
//! certificate, each on one core. What starts them waits until they answer, and ends them when dropped.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::net::TcpStream;
use std::path::Path;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;

use octo_local::web::limits::Limits;
use octo_local::web::link::Link;
use octo_local::web::message::Feed;
use octo_local::web::message::Listener;
use octo_local::web::message::Node;
use octo_local::web::message::NodeState;
use octo_local::web::message::Purpose;
use octo_local::web::message::Tls;
use tokio::time::Instant;

use crate::nodes::Nodes;

/// The program whose front door is measured, where it is not this build's.
const OTHER_PROGRAM: &str = "OCTO_BENCH_PROGRAM";
const PROGRAM: &str = env!("CARGO_BIN_EXE_octo-local");
/// Connections from one address: all come from loopback here.
const CONNECTIONS: usize = 16_384;
/// No door takes a tenth of this to open.
const OPENS_WITHIN: Duration = Duration::from_secs(20);

/// How often it is looked whether one is open, or ended.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// One of them, open.
pub(crate) struct Door {
    pub(crate) name: &'static str,
    process: Child,
    http: u16,
    https: u16,
    /// Who feeds it, where it is fed: without one it looks for itself how nodes are.
    _fed: Option<(tokio::runtime::Runtime, Link)>,
}

impl Door {
    /// The address of something behind it.
    pub(crate) fn url(&self, path: &str, tls: bool) -> String {
        let (scheme, port) = if tls {
            ("https", self.https)
        } else {
            ("http", self.http)
        };
        format!("{scheme}://127.0.0.1:{port}{path}")
    }

    /// Where it serves plain HTTP.
    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.http))
    }

    fn pids(&self) -> impl Iterator<Item = u32> {
        std::iter::once(self.process.id()).chain(children(self.process.id()))
    }

    /// Seconds that it and its children computed so far.
    pub(crate) fn computed(&self) -> f64 {
        let nanos = |pid: u32| -> f64 {
            let text = std::fs::read_to_string(format!("/proc/{pid}/schedstat"));
            let text = text.unwrap_or_default();
            let first = text.split(' ').next().and_then(|first| first.parse().ok());
            first.unwrap_or_default()
        };
        self.pids().map(nanos).sum::<f64>() / 1e9
    }

    /// What it and its children hold alone, in KiB.
    pub(crate) fn memory(&self) -> f64 {
        let kilobytes = |pid: u32| -> f64 {
            let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:"));
            let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
            number.unwrap_or_default()
        };
        self.pids().map(kilobytes).sum()
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        // Each ends its own children then; one that does not is made to.
        let pid = rustix::process::Pid::from_child(&self.process);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let give_up_at = Instant::now() + OPENS_WITHIN;
        while matches!(self.process.try_wait(), Ok(None)) {
            if Instant::now() > give_up_at {
                let _ = self.process.kill();
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

fn children(pid: u32) -> Vec<u32> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace()
        .filter_map(|one| one.parse().ok())
        .collect()
}

/// A certificate for all of them.
struct Certificate {
    chain: String,
    key: String,
}

/// The doors.
pub(crate) struct Doors {
    pub(crate) ours: Door,
    /// Those whose programs are there.
    pub(crate) peers: Vec<Door>,
}

/// Opens every door, on the core of the one who calls.
pub(crate) fn open_all(dir: &Path, nodes: &Nodes) -> Doors {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let certificate = Certificate {
        chain: made.cert.pem(),
        key: made.signing_key.serialize_pem(),
    };
    std::fs::write(dir.join("cert.pem"), &certificate.chain).unwrap();
    std::fs::write(dir.join("key.pem"), &certificate.key).unwrap();
    let both = format!("{}{}", certificate.chain, certificate.key);
    std::fs::write(dir.join("both.pem"), both).unwrap();
    let mut peers = Vec::new();
    for (name, package, peer) in [
        ("nginx", "nginx-light", nginx(dir, nodes)),
        ("haproxy", "haproxy", haproxy(dir, nodes)),
    ] {
        if peer.is_none() {
            eprintln!("peer: {name} is missing: apt-get install {package}");
        }
        peers.extend(peer);
    }
    Doors {
        ours: octo_local(dir, nodes, &certificate),
        peers,
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// Waits until somebody listens.
fn until_open(port: u16) {
    let give_up_at = Instant::now() + OPENS_WITHIN;
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(Instant::now() < give_up_at, "nobody listens on {port}");
        std::thread::sleep(LOOK_EVERY);
    }
}

fn octo_local(dir: &Path, nodes: &Nodes, certificate: &Certificate) -> Door {
    let (http, https) = (free_port(), free_port());
    let control = dir.join("web.sock");
    let program = std::env::var_os(OTHER_PROGRAM).unwrap_or_else(|| PROGRAM.into());
    let process = Command::new(program)
        .arg("web")
        .arg("--control")
        .arg(&control)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let listener = |port: u16, purpose| Listener {
        address: SocketAddr::from(([127, 0, 0, 1], port)),
        purpose,
    };
    let node = |(place, address): (usize, &SocketAddr)| Node {
        name: format!("node-{place}"),
        state: NodeState::Ready,
        run: 0,
        web: Some(*address),
        grpc: None,
    };
    let feed = Feed {
        listeners: vec![
            listener(http, Purpose::Http),
            listener(https, Purpose::Https),
        ],
        nodes: nodes.addresses.iter().enumerate().map(node).collect(),
        tls: Some(Tls {
            certificate: certificate.chain.clone(),
            key: certificate.key.clone(),
        }),
        limits: Limits {
            per_address: CONNECTIONS,
            connections: CONNECTIONS,
            ..Limits::default()
        },
        ..Feed::default()
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let link = runtime.block_on(async {
        let give_up_at = Instant::now() + OPENS_WITHIN;
        let mut link = loop {
            match Link::connect(&control).await {
                Ok(link) => break link,
                Err(error) => assert!(Instant::now() < give_up_at, "{error}"),
            }
            tokio::time::sleep(LOOK_EVERY).await;
        };
        link.feed(&feed).await.unwrap();
        link
    });
    until_open(http);
    Door {
        name: "octo-local",
        process,
        http,
        https,
        _fed: Some((runtime, link)),
    }
}

fn nginx(dir: &Path, nodes: &Nodes) -> Option<Door> {
    let (http, https) = (free_port(), free_port());
    let mut servers = String::new();
    for address in nodes.addresses {
        write!(servers, "server {address};").unwrap();
    }
    let here = dir.display();
    let text = format!(
        "daemon off; pid {here}/nginx.pid; error_log /dev/null; worker_processes 1;\n\
         events {{ worker_connections 16384; }}\n\
         http {{ access_log off; client_body_temp_path {here}; proxy_temp_path {here};\n\
         fastcgi_temp_path {here}; uwsgi_temp_path {here}; scgi_temp_path {here};\n\
         upstream nodes {{ least_conn; {servers} keepalive 256; }}\n\
         server {{ listen 127.0.0.1:{http}; listen 127.0.0.1:{https} ssl;\n\
         ssl_certificate {here}/cert.pem; ssl_certificate_key {here}/key.pem;\n\
         keepalive_requests 1000000;\n\
         location / {{ proxy_pass http://nodes; proxy_http_version 1.1;\n\
         proxy_max_temp_file_size 0; client_max_body_size 0; proxy_request_buffering off;\n\
         proxy_set_header Connection \"\"; proxy_set_header Host $http_host; }} }} }}\n"
    );
    let config = dir.join("nginx.conf");
    std::fs::write(&config, text).unwrap();
    let mut command = Command::new("nginx");
    command.arg("-p").arg(dir).arg("-c").arg(&config);
    open("nginx", &mut command, http, https)
}

fn haproxy(dir: &Path, nodes: &Nodes) -> Option<Door> {
    let (http, https) = (free_port(), free_port());
    let mut servers = String::new();
    for (place, address) in nodes.addresses.iter().enumerate() {
        writeln!(servers, "  server node-{place} {address}").unwrap();
    }
    let certificate = dir.join("both.pem");
    let text = format!(
        "global\n  nbthread 1\n  maxconn 8192\ndefaults\n  mode http\n  timeout connect 2s\n  timeout client 75s\n  \
         timeout server 15m\nfrontend door\n  bind 127.0.0.1:{http}\n  bind 127.0.0.1:{https} ssl crt {}\n  \
         default_backend nodes\nbackend nodes\n  balance leastconn\n  http-reuse always\n{servers}",
        certificate.display()
    );
    let config = dir.join("haproxy.cfg");
    std::fs::write(&config, text).unwrap();
    let mut command = Command::new("haproxy");
    command.arg("-db").arg("-f").arg(&config);
    open("haproxy", &mut command, http, https)
}

/// Starts it; none where there is no such program.
fn open(name: &'static str, command: &mut Command, http: u16, https: u16) -> Option<Door> {
    // What it says of a configuration that it does not take is shown.
    let process = command.stdout(Stdio::null()).spawn().ok()?;
    let door = Door {
        name,
        process,
        http,
        https,
        _fed: None,
    };
    until_open(http);
    Some(door)
}
