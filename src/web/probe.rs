//! Looks at nodes that a failed connection took out, and, while nobody feeds the front door, at
//! all: then it is the only one to notice a drain.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use hyper::Request;
use hyper::StatusCode;
use hyper::header;

use super::balance::Probed;
use super::balance::Run;
use super::front::Front;
use super::message::Node;
use super::pool;
use super::pool::Upload;

/// Octopus' word on whether a node takes requests: 200, or 418 while it drains.
const PING: &str = "/api/octopusservernodes/ping";
/// How long an answer may take.
const WITHIN: Duration = Duration::from_secs(2);
/// Without a feeder every so many turns all nodes are looked at.
const ALL_EVERY: u32 = 8;

/// Probes for ever.
pub(super) async fn run(front: Arc<Front>) {
    let under_way = Arc::new(Mutex::new(HashSet::<String>::new()));
    let mut turn = 0_u32;
    loop {
        let every = Duration::from_millis(front.feed().limits.probe_ms.max(10));
        tokio::time::sleep(every).await;
        turn = turn.wrapping_add(1);
        front.pools.sweep();
        let alone = front.is_alone();
        let nodes = front
            .nodes()
            .to_probe(alone && turn.is_multiple_of(ALL_EVERY));
        for node in nodes {
            let begun = under_way
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(node.name.clone());
            if begun {
                tokio::spawn(one(front.clone(), node, alone, under_way.clone()));
            }
        }
    }
}

async fn one(
    front: Arc<Front>,
    node: Arc<Node>,
    alone: bool,
    under_way: Arc<Mutex<HashSet<String>>>,
) {
    let found = probe(&node).await;
    take(&front, &node, found, alone);
    under_way
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .remove(&node.name);
}

fn take(front: &Front, node: &Node, found: Probed, alone: bool) {
    let back = front.nodes().probed(&Run::of(node), found, alone);
    if back {
        tracing::info!(node = node.name, "the node is back");
        front.tell_news();
    }
}

/// A node did not answer a request that it took: looks whether it is there at all.
pub(super) async fn suspect(front: Arc<Front>, node: Arc<Node>) {
    if probe(&node).await == Probed::Bad {
        front.failed(&Run::of(&node), "it broke off and does not answer");
    }
}

/// Asks one node.
async fn probe(node: &Node) -> Probed {
    let Some(address) = node.web else {
        return Probed::Bad;
    };
    let asking = async {
        let mut sender = pool::connect(address, WITHIN).await.ok()?;
        let request = Request::builder()
            .uri(PING)
            .header(header::HOST, address.to_string())
            .header(header::CONNECTION, "close")
            .body(Upload::default())
            .ok()?;
        Some(sender.send_request(request).await.ok()?.status())
    };
    match tokio::time::timeout(WITHIN, asking).await {
        Ok(Some(StatusCode::OK)) => Probed::Ready,
        Ok(Some(StatusCode::IM_A_TEAPOT)) => Probed::Draining,
        _ => Probed::Bad,
    }
}
