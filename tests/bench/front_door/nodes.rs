//! Two nodes that answer at once, in this process: whatever they cost, each door pays the same.

use std::net::SocketAddr;

use axum::Router;
use axum::routing::get;

/// Bytes of the large answer.
const LARGE: usize = 64 * 1024;

/// The nodes, for as long as the value lives.
pub(crate) struct Nodes {
    _runtime: tokio::runtime::Runtime,
    pub(crate) addresses: [SocketAddr; 2],
}

impl Nodes {
    /// Listens on two free ports.
    pub(crate) fn begin() -> Self {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let addresses = [(); 2].map(|()| runtime.block_on(node()));
        Self {
            _runtime: runtime,
            addresses,
        }
    }
}

async fn node() -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new()
        .route("/small", get(|| async { "small" }))
        .route("/large", get(|| async { "x".repeat(LARGE) }))
        .route("/api/octopusservernodes/ping", get(|| async { "{}" }));
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}
