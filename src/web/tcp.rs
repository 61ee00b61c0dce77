//! Connections that are passed through as TCP: gRPC to a ready node, polling Tentacles and direct
//! web addresses to their own. Their TLS is between the two ends.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;

use super::balance::Load;
use super::balance::Run;
use super::front::Front;
use super::message::Node;
use super::message::Purpose;
use super::pool;
use super::tunnel;

/// Passes one connection through.
pub(super) async fn pass(front: Arc<Front>, client: TcpStream, purpose: Purpose) {
    let limits = front.feed().limits.clone();
    let Some((node, server)) = reach(&front, &purpose).await else {
        // Closed without a word, as a port behind which nobody listens.
        return;
    };
    let _lease = front.lease(&node, Load::Tunnel);
    let idle = Duration::from_millis(limits.tunnel_idle_ms);
    tunnel::carry(client, server, idle, front.stage()).await;
}

/// A connection to the node that the port is for, or to one of those that are ready.
async fn reach(front: &Arc<Front>, purpose: &Purpose) -> Option<(Node, TcpStream)> {
    let limit = Duration::from_millis(front.feed().limits.connect_ms);
    let named = |name: &str, address: fn(&Node) -> Option<SocketAddr>| {
        let node = front.nodes().named(name)?.clone();
        Some((address(&node)?, node))
    };
    let (address, node) = match purpose {
        Purpose::NodeWeb { node } => named(node, |node| node.web)?,
        Purpose::NodePolling { node } => named(node, |node| node.polling)?,
        Purpose::Grpc | Purpose::Http | Purpose::Https => return reach_any(front, limit).await,
    };
    Some((node, pool::tcp(address, limit).await.ok()?))
}

async fn reach_any(front: &Arc<Front>, limit: Duration) -> Option<(Node, TcpStream)> {
    let mut tried = Vec::new();
    loop {
        let node = front.nodes().pick(&tried, |node| node.grpc.is_some())?;
        if let Ok(stream) = pool::tcp(node.grpc?, limit).await {
            return Some((node, stream));
        }
        tried.push(Run::of(&node));
    }
}
