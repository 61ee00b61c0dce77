//! The objects of Kubernetes that say who reaches whom, with the fields that an export uses
//! (kubernetes.io, API reference, `networking.k8s.io/v1`).

use serde::Serialize;

use super::object::Selector;

/// The way from outside to a Service, by host name.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Ingress {
    /// Which controller; none is the cluster's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ingress_class_name: Option<String>,
    /// Certificates.
    pub tls: Vec<IngressTls>,
    /// Where what goes.
    pub rules: Vec<IngressRule>,
}

/// The certificate of hosts.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct IngressTls {
    /// Of these hosts.
    pub hosts: Vec<String>,
    /// In this Secret; none is the controller's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_name: Option<String>,
}

/// Where requests to a host go.
#[derive(Clone, Debug, Serialize)]
pub struct IngressRule {
    /// The host.
    pub host: String,
    /// By path.
    pub http: IngressPaths,
}

/// Where requests go, by path.
#[derive(Clone, Debug, Serialize)]
pub struct IngressPaths {
    /// The first that fits.
    pub paths: Vec<IngressPath>,
}

/// Where requests to a path go.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct IngressPath {
    /// The path.
    pub path: &'static str,
    /// `Prefix`.
    pub path_type: &'static str,
    /// Where to.
    pub backend: Backend,
}

/// Where requests go.
#[derive(Clone, Debug, Serialize)]
pub struct Backend {
    /// A Service.
    pub service: BackendService,
}

/// A Service, by name.
#[derive(Clone, Debug, Serialize)]
pub struct BackendService {
    /// Its name.
    pub name: &'static str,
    /// Its port.
    pub port: PortName,
}

/// A port, by name.
#[derive(Clone, Debug, Serialize)]
pub struct PortName {
    /// The name.
    pub name: &'static str,
}

/// Who may connect to pods.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NetworkPolicy {
    /// Which pods.
    pub pod_selector: Selector,
    /// `Ingress`: what comes in.
    pub policy_types: Vec<&'static str>,
    /// What may come in.
    pub ingress: Vec<Allowed>,
}

/// What may come in.
#[derive(Clone, Debug, Serialize)]
pub struct Allowed {
    /// From whom; none is from everybody.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub from: Vec<Peer>,
    /// To which ports.
    pub ports: Vec<PolicyPort>,
}

/// Who may connect.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Peer {
    /// Pods of the same namespace.
    pub pod_selector: Selector,
}

/// A port that may be connected to.
#[derive(Clone, Debug, Serialize)]
pub struct PolicyPort {
    /// `TCP`.
    pub protocol: &'static str,
    /// Its number.
    pub port: u16,
}
