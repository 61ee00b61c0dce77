//! gRPC, passed through as TCP to a ready node. Its TLS is between the two ends.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;

use super::balance::Load;
use super::balance::Run;
use super::front::Front;
use super::message::Node;
use super::pool;
use super::tunnel;

/// Passes one connection through.
pub(super) async fn pass(front: Arc<Front>, client: TcpStream) {
    let limits = front.feed().limits.clone();
    let within = Duration::from_millis(limits.connect_ms);
    let Some((node, server)) = reach_one(&front, within).await else {
        // Closed without a word, as a port behind which nobody listens.
        return;
    };
    let _lease = front.lease(&node, Load::Tunnel);
    let idle = Duration::from_millis(limits.tunnel_idle_ms);
    tunnel::carry(client, server, idle, front.stage()).await;
}

/// A connection to one of the nodes that are ready.
async fn reach_one(front: &Arc<Front>, limit: Duration) -> Option<(Arc<Node>, TcpStream)> {
    let mut tried = Vec::new();
    loop {
        let node = front.nodes().pick(&tried, |node| node.grpc.is_some())?;
        if let Ok(stream) = pool::tcp(node.grpc?, limit).await {
            return Some((node, stream));
        }
        tried.push(Run::of(&node));
    }
}
