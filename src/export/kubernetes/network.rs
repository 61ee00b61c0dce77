//! How the nodes are reached, and by whom SQL Server is.

use super::cluster::Cluster;
use super::cluster::GRPC;
use super::cluster::MSSQL;
use super::cluster::NODES;
use super::cluster::OCTOPUS;
use super::cluster::POLLING;
use super::cluster::TDS_PORT;
use super::cluster::WEB;
use super::options::Polling;
use crate::config::vendor::POLLING_PORT;
use crate::config::vendor::WEB_PORT;
use crate::export::network_object::Allowed;
use crate::export::network_object::Backend;
use crate::export::network_object::BackendService;
use crate::export::network_object::Ingress;
use crate::export::network_object::IngressPath;
use crate::export::network_object::IngressPaths;
use crate::export::network_object::IngressRule;
use crate::export::network_object::IngressTls;
use crate::export::network_object::NetworkPolicy;
use crate::export::network_object::Peer;
use crate::export::network_object::PolicyPort;
use crate::export::network_object::PortName;
use crate::export::object::Object;
use crate::export::object::Selector;
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

fn port(name: &'static str, port: u16, target_port: u16) -> ServicePort {
    ServicePort {
        name,
        port,
        target_port,
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
            port(WEB, WEB_PORT, WEB_PORT),
            port(GRPC, cluster.grpc_port, cluster.grpc_port),
            port(POLLING, POLLING_PORT, POLLING_PORT),
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
        ports: vec![
            port(WEB, 80, WEB_PORT),
            port(GRPC, cluster.grpc_port, cluster.grpc_port),
        ],
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
        ports: vec![port(POLLING, POLLING_PORT, POLLING_PORT)],
    };
    service(cluster, &format!("{OCTOPUS}-{number}-tentacle"), spec)
}

/// The portal by its host name over TLS, and gRPC beside it, whose TLS ends in Octopus Server.
pub fn ingresses(cluster: &Cluster<'_>, host: &str) -> Vec<Object<Ingress>> {
    let pass_through = [
        ("nginx.ingress.kubernetes.io/ssl-passthrough", "true"),
        ("nginx.ingress.kubernetes.io/backend-protocol", "GRPCS"),
    ];
    let tls = |host: &str, secret_name: Option<String>| IngressTls {
        hosts: vec![host.to_owned()],
        secret_name,
    };
    let portal = tls(host, cluster.options.tls_secret.clone());
    let grpc = tls(&format!("grpc.{host}"), None);
    let secure = [("nginx.ingress.kubernetes.io/force-ssl-redirect", "true")];
    let annotations = [&UPLOADS[..], &secure].concat();
    vec![
        ingress(cluster, (OCTOPUS, WEB), portal, &annotations),
        ingress(cluster, ("octopus-grpc", GRPC), grpc, &pass_through),
    ]
}

fn ingress(
    cluster: &Cluster<'_>,
    (name, port): (&str, &'static str),
    tls: IngressTls,
    annotations: &[(&str, &str)],
) -> Object<Ingress> {
    let mut metadata = cluster.metadata(OCTOPUS, name);
    metadata.annotations = annotations
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect();
    let path = IngressPath {
        path: "/",
        path_type: "Prefix",
        backend: Backend {
            service: BackendService {
                name: OCTOPUS,
                port: PortName { name: port },
            },
        },
    };
    Object {
        api_version: "networking.k8s.io/v1",
        kind: "Ingress",
        metadata,
        spec: Some(Ingress {
            ingress_class_name: cluster.options.ingress_class.clone(),
            rules: vec![IngressRule {
                host: tls.hosts[0].clone(),
                http: IngressPaths { paths: vec![path] },
            }],
            tls: vec![tls],
        }),
    }
}

/// Who may connect to whom: to SQL Server only the nodes, to the nodes everybody, at their three
/// ports.
pub fn policies(cluster: &Cluster<'_>) -> Vec<Object<NetworkPolicy>> {
    let port = |port| PolicyPort {
        protocol: "TCP",
        port,
    };
    let from_everybody = Allowed {
        from: Vec::new(),
        ports: [WEB_PORT, cluster.grpc_port, POLLING_PORT]
            .map(port)
            .to_vec(),
    };
    let mut all = vec![policy(cluster, OCTOPUS, from_everybody)];
    if cluster.sql.is_some() {
        let nodes = Peer {
            pod_selector: Selector {
                match_labels: cluster.selector(OCTOPUS),
            },
        };
        let from_nodes = Allowed {
            from: vec![nodes],
            ports: vec![port(TDS_PORT)],
        };
        all.push(policy(cluster, MSSQL, from_nodes));
    }
    all
}

fn policy(cluster: &Cluster<'_>, name: &str, allowed: Allowed) -> Object<NetworkPolicy> {
    Object {
        api_version: "networking.k8s.io/v1",
        kind: "NetworkPolicy",
        metadata: cluster.metadata(name, name),
        spec: Some(NetworkPolicy {
            pod_selector: Selector {
                match_labels: cluster.selector(name),
            },
            policy_types: vec!["Ingress"],
            ingress: vec![allowed],
        }),
    }
}
