//! Clients of a web address that ask without a pause: what a person must not notice, they would.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

use http_body_util::Empty;
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http2;
use hyper_util::rt::TokioExecutor;
use hyper_util::rt::TokioIo;

use super::http;

/// How many ask at the same time over HTTP/1.1, each request on a connection of its own.
const CLIENTS: usize = 4;
/// Requests at once on the connection of h2.
const STREAMS: usize = 4;
/// Fewer requests than that prove nothing.
const ENOUGH: usize = 100;
/// Bytes of a body: more than any buffer on the way.
const BODY: usize = 200_000;

/// What became of the requests of one client.
#[derive(Debug, Default)]
struct Told {
    asked: usize,
    failed: Vec<String>,
}

impl Told {
    fn take(&mut self, what: &str, status: &Result<u16, String>) {
        self.asked += 1;
        if *status != Ok(200) {
            self.failed
                .push(format!("{what} {}: {status:?}", self.asked));
        }
    }
}

/// Clients that ask until they are told to stop: some for a page and with a body in turn, one over
/// h2 on one connection all the while.
pub(crate) struct Clients {
    stop: Arc<AtomicBool>,
    asking: Vec<JoinHandle<Told>>,
}

impl Clients {
    /// Of the web address on this port.
    pub(crate) fn of(port: u16) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let one = |stop: Arc<AtomicBool>| std::thread::spawn(move || ask(port, &stop));
        let mut asking: Vec<_> = (0..CLIENTS).map(|_| one(stop.clone())).collect();
        let told_to_stop = stop.clone();
        asking.push(std::thread::spawn(move || ask_over_h2(port, &told_to_stop)));
        Self { stop, asking }
    }

    /// Lets them end; none of their requests may have failed.
    #[track_caller]
    pub(crate) fn end(self) {
        self.stop.store(true, Ordering::SeqCst);
        for client in self.asking {
            let Told { asked, failed } = client.join().unwrap();
            let some: Vec<&String> = failed.iter().take(3).collect();
            let count = failed.len();
            assert!(failed.is_empty(), "{count} of {asked} failed: {some:?}");
            assert!(asked > ENOUGH, "only {asked} requests");
        }
    }
}

fn ask(port: u16, stop: &AtomicBool) -> Told {
    let mut told = Told::default();
    let body = "x".repeat(BODY);
    let status = |answer: Option<(u16, String)>, says: &str| match answer {
        Some((status, text)) if text.contains(says) => Ok(status),
        other => Err(format!("{other:?}")),
    };
    let counted = format!("\"Bytes\":{BODY}");
    while !stop.load(Ordering::SeqCst) {
        told.take("GET", &status(http::get(port, "/api", ""), "IsStandIn"));
        let answer = http::post(port, "/api/standin/upload", "", &body);
        told.take("POST", &status(answer, &counted));
    }
    told
}

fn ask_over_h2(port: u16, stop: &AtomicBool) -> Told {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut told = Told::default();
        let tcp = tokio::net::TcpStream::connect(("127.0.0.1", port)).await;
        let made = http2::handshake(TokioExecutor::new(), TokioIo::new(tcp.unwrap())).await;
        let (sender, connection) = made.unwrap();
        let connection = tokio::spawn(connection);
        while !stop.load(Ordering::SeqCst) {
            let ask = || {
                let mut sender: http2::SendRequest<Empty<Bytes>> = sender.clone();
                let uri = format!("http://127.0.0.1:{port}/api");
                let request = Request::get(uri).body(Empty::new()).unwrap();
                async move {
                    let answer = sender.send_request(request).await;
                    answer
                        .map(|answer| answer.status().as_u16())
                        .map_err(|error| error.to_string())
                }
            };
            for status in futures_util::future::join_all((0..STREAMS).map(|_| ask())).await {
                told.take("h2", &status);
            }
        }
        connection.abort();
        told
    })
}
