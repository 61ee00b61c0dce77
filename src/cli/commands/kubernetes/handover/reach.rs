//! The first node in the cluster, asked for its version and its list of nodes, and where polling
//! Tentacles reach each.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::io::AsyncBufReadExt as _;
use tokio::io::BufReader;

use super::super::kubectl::Kubectl;
use super::super::kubectl::KubectlError;
use super::super::look::unreadable;
use crate::cli::context::Context;
use crate::cli::outcome::FAILED;
use crate::cli::outcome::Failure;
use crate::cli::outcome::Outcome;
use crate::cli::terminal::print;
use crate::kubernetes::Seen;
use crate::kubernetes::handover::Handover;
use crate::octopus;
use crate::octopus::drain::Api;

/// How long a node gets for an answer through the cluster.
const ANSWER: Duration = Duration::from_secs(20);

/// Through a port of this host that kubectl hands on to the first node. Whoever may not do that,
/// or has no API key, does it in the portal.
pub(super) async fn remove_old_nodes(
    context: &Context,
    kubectl: &Kubectl,
    kept: &Handover,
    seen: &Seen,
) -> Outcome {
    let pod = format!("{}-0", seen.set.name);
    let by_hand = || {
        format!(
            "note: delete these in the portal under Configuration, Nodes, or they count against the licence: {}",
            kept.old_names.join(", ")
        )
    };
    let words = ["port-forward", &format!("pod/{pod}"), ":8080"];
    let forwarding = kubectl.start(&words, "reach the first node");
    let mut child = forwarding.map_err(Failure::from)?;
    let address = tokio::time::timeout(ANSWER, address_of(&mut child))
        .await
        .ok()
        .flatten();
    let Some(address) = address else {
        print::tell(
            "note: the first node cannot be asked through `kubectl port-forward`; its image is the right one",
        );
        print::tell(by_hand());
        return Ok(());
    };
    must_be_the_version(kept, address).await?;
    let key = api_key(context).await;
    let Some(key) = key else {
        print::tell("note: ADMIN_API_KEY is not set");
        print::tell(by_hand());
        return Ok(());
    };
    // One of the old names may be that of a pod: the one that runs stays.
    for name in kept.old_names.iter().filter(|name| **name != pod) {
        let api = Api {
            address,
            key: &key,
            name,
            limit: ANSWER,
        };
        match api.remove().await {
            Ok(()) => print::tell(format_args!("{name} is off the list of nodes")),
            Err(why) => {
                print::tell(format_args!(
                    "note: {name} cannot be taken off the list of nodes: {why}"
                ));
                print::tell(by_hand());
                break;
            }
        }
    }
    Ok(())
}

async fn api_key(context: &Context) -> Option<crate::config::Secret> {
    let stored = context.applied().await?;
    stored.config?.octopus.admin_api_key
}

/// What the first node says that it is.
async fn must_be_the_version(kept: &Handover, address: SocketAddr) -> Outcome {
    let Some(version) = octopus::version(address, ANSWER).await else {
        print::tell("note: the first node does not tell its version; its image is the right one");
        return Ok(());
    };
    let tag = kept.image.rsplit(':').next().unwrap_or_default();
    let tag = tag.strip_suffix("-hardened").unwrap_or(tag);
    let is_number = tag.starts_with(|letter: char| letter.is_ascii_digit());
    if is_number && !version.starts_with(tag) {
        let line = format!("the first node says that it is {version}, and not {tag}");
        return Err(Failure::new(FAILED, line));
    }
    print::tell(format_args!("the first node serves: version {version}"));
    Ok(())
}

/// `Forwarding from 127.0.0.1:40123 -> 8080`.
async fn address_of(child: &mut tokio::process::Child) -> Option<SocketAddr> {
    let mut lines = BufReader::new(child.stdout.take()?).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let address = line.strip_prefix("Forwarding from ");
        let address = address.and_then(|rest| rest.split(" -> ").next());
        if let Some(address) = address.and_then(|address| address.parse().ok()) {
            return Some(address);
        }
    }
    None
}

/// The address at which polling Tentacles reach each node: that of its Service, as far as the cloud
/// has given it one.
pub(super) async fn addresses(
    kubectl: &Kubectl,
    set: &str,
) -> Result<Vec<(String, String)>, KubectlError> {
    let what = "look for the nodes' Services";
    let said = kubectl
        .call(&["get", "services", "-o", "json"], what)
        .await?;
    let all: Value = serde_json::from_slice(&said).map_err(|error| unreadable(what, error))?;
    let items = all["items"].as_array().into_iter().flatten();
    let one = |service: &Value| {
        let selector = &service["spec"]["selector"]["statefulset.kubernetes.io/pod-name"];
        let is_of_node = selector
            .as_str()
            .is_some_and(|pod| pod.starts_with(&format!("{set}-")));
        let polling = service["spec"]["ports"]
            .as_array()?
            .iter()
            .find(|port| port["port"] == 10943)?;
        let name = service["metadata"]["name"].as_str()?;
        let given = &service["status"]["loadBalancer"]["ingress"][0];
        let host = given["ip"].as_str().or_else(|| given["hostname"].as_str());
        let address = match (host, polling["nodePort"].as_u64()) {
            (Some(host), _) => format!("{host}:10943"),
            (None, Some(port)) => format!("A-MACHINE-OF-THE-CLUSTER:{port}"),
            (None, None) => format!("{name}.{}.svc:10943", kubectl.namespace),
        };
        is_of_node.then(|| (name.to_owned(), address))
    };
    Ok(items.filter_map(one).collect())
}
