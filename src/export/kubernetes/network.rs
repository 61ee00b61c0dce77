//! How the nodes are reached, and by whom SQL Server is.

use std::collections::BTreeMap;

use serde_json::Value;
use serde_json::json;

use super::cluster::Cluster;
use super::cluster::GRPC;
use super::cluster::MSSQL;
use super::cluster::NODES;
use super::cluster::OCTOPUS;
use super::cluster::POLLING;
use super::cluster::TDS;
use super::cluster::WEB;
use super::options::Polling;
use crate::export::object::Object;
use crate::export::object::Service;
use crate::export::object::ServicePort;

/// The largest upload: packages of more than 1 GB are usual, so none is refused.
pub const UPLOADS: [(&str, &str); 4] = [
    ("nginx.ingress.kubernetes.io/proxy-body-size", "0"),
    ("nginx.ingress.kubernetes.io/proxy-request-buffering", "off"),
    ("nginx.ingress.kubernetes.io/proxy-read-timeout", "3600"),
    ("nginx.ingress.kubernetes.io/proxy-send-timeout", "3600"),
];

/// All Services of the nodes.
pub fn services(cluster: &Cluster<'_>) -> Vec<Object<Service>> {
    let tentacles = (0..cluster.nodes).map(|number| tentacle(cluster, number));
    [nodes(cluster), web(cluster)]
        .into_iter()
        .chain(tentacles)
        .collect()
}

/// A port of a Service with the same name as the container's.
fn port(name: &'static str, port: u16) -> ServicePort {
    ServicePort {
        name,
        port,
        target_port: name,
    }
}

fn service(cluster: &Cluster<'_>, name: &str, spec: Service) -> Object<Service> {
    Object {
        api_version: "v1",
        kind: "Service",
        metadata: cluster.metadata(OCTOPUS, name),
        spec: Some(spec),
    }
}

/// Each node by its own name, whether it serves or not.
pub fn nodes(cluster: &Cluster<'_>) -> Object<Service> {
    let spec = Service {
        kind: "ClusterIP",
        cluster_ip: Some("None"),
        publish_not_ready_addresses: true,
        selector: cluster.selector(OCTOPUS),
        ports: vec![
            port(WEB, 8080),
            port(GRPC, cluster.grpc_port),
            port(POLLING, 10943),
        ],
    };
    service(cluster, NODES, spec)
}

/// The portal and gRPC, of nodes that serve. Plain HTTP stays inside the cluster.
fn web(cluster: &Cluster<'_>) -> Object<Service> {
    let spec = Service {
        kind: "ClusterIP",
        cluster_ip: None,
        publish_not_ready_addresses: false,
        selector: cluster.selector(OCTOPUS),
        ports: vec![port(WEB, 80), port(GRPC, cluster.grpc_port)],
    };
    service(cluster, OCTOPUS, spec)
}

/// What polling Tentacles reach one node at: each polls every node (octopus.com/docs, polling
/// Tentacles with high availability). A node that drains keeps its Tentacles until its tasks are
/// over.
pub fn tentacle(cluster: &Cluster<'_>, number: u8) -> Object<Service> {
    let mut selector = cluster.selector(OCTOPUS);
    selector.insert(
        "statefulset.kubernetes.io/pod-name",
        format!("{OCTOPUS}-{number}"),
    );
    let spec = Service {
        kind: match cluster.options.expose_polling {
            Polling::LoadBalancer => "LoadBalancer",
            Polling::NodePort => "NodePort",
            Polling::None => "ClusterIP",
        },
        cluster_ip: None,
        publish_not_ready_addresses: true,
        selector,
        ports: vec![port(POLLING, 10943)],
    };
    service(cluster, &format!("{OCTOPUS}-{number}-tentacle"), spec)
}

/// The portal by its host name over TLS, and gRPC beside it, whose TLS ends in Octopus Server.
pub fn ingresses(cluster: &Cluster<'_>, host: &str) -> Vec<Object<Value>> {
    let pass_through = [
        ("nginx.ingress.kubernetes.io/ssl-passthrough", "true"),
        ("nginx.ingress.kubernetes.io/backend-protocol", "GRPCS"),
    ];
    let mut tls = json!({"hosts": [host]});
    if let Some(secret) = &cluster.options.tls_secret {
        tls["secretName"] = json!(secret);
    }
    let mut portal_annotations = UPLOADS.to_vec();
    portal_annotations.push(("nginx.ingress.kubernetes.io/force-ssl-redirect", "true"));
    let grpc_host = format!("grpc.{host}");
    let grpc_tls = json!({"hosts": [grpc_host]});
    vec![
        ingress(cluster, (OCTOPUS, WEB), host, &tls, &portal_annotations),
        ingress(
            cluster,
            ("octopus-grpc", GRPC),
            &grpc_host,
            &grpc_tls,
            &pass_through,
        ),
    ]
}

fn ingress(
    cluster: &Cluster<'_>,
    (name, port): (&str, &str),
    host: &str,
    tls: &Value,
    annotations: &[(&str, &str)],
) -> Object<Value> {
    let mut metadata = cluster.metadata(OCTOPUS, name);
    metadata.annotations = annotations
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect::<BTreeMap<_, _>>();
    let backend = json!({"service": {"name": OCTOPUS, "port": {"name": port}}});
    let mut spec = json!({
        "tls": [tls],
        "rules": [{"host": host, "http": {"paths": [
            {"path": "/", "pathType": "Prefix", "backend": backend},
        ]}}],
    });
    if let Some(class) = &cluster.options.ingress_class {
        spec["ingressClassName"] = json!(class);
    }
    Object {
        api_version: "networking.k8s.io/v1",
        kind: "Ingress",
        metadata,
        spec: Some(spec),
    }
}

/// Who may connect to whom: to SQL Server only the nodes, to the nodes everybody, at their three
/// ports.
pub fn policies(cluster: &Cluster<'_>) -> Vec<Object<Value>> {
    let ports = [WEB, GRPC, POLLING].map(|port| json!({"port": port, "protocol": "TCP"}));
    let mut all = vec![policy(cluster, OCTOPUS, &json!({"ports": ports}))];
    if cluster.sql.is_some() {
        let from = json!([{"podSelector": {"matchLabels": cluster.selector(OCTOPUS)}}]);
        let rule = json!({"from": from, "ports": [{"port": TDS, "protocol": "TCP"}]});
        all.push(policy(cluster, MSSQL, &rule));
    }
    all
}

fn policy(cluster: &Cluster<'_>, name: &str, rule: &Value) -> Object<Value> {
    Object {
        api_version: "networking.k8s.io/v1",
        kind: "NetworkPolicy",
        metadata: cluster.metadata(name, name),
        spec: Some(json!({
            "podSelector": {"matchLabels": cluster.selector(name)},
            "policyTypes": ["Ingress"],
            "ingress": [rule],
        })),
    }
}
