//! What a person chooses about a cluster that a configuration for one host does not say.

use serde::Serialize;

use crate::config::Problem;

/// The choices.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// What the files are for: `kubectl apply -k`, `kubectl apply -f`, or the vendor's Helm chart
    #[arg(long, value_enum, default_value_t = Format::Kustomize)]
    pub format: Format,
    /// The namespace [default: the project's name]
    #[arg(long, value_name = "NAME")]
    pub namespace: Option<String>,
    /// The storage class of the files that nodes share; for more than one node it must allow
    /// ReadWriteMany [default: the cluster's, for one node]
    #[arg(long, value_name = "CLASS")]
    pub storage_class: Option<String>,
    /// The storage class of SQL Server's data [default: the cluster's]
    #[arg(long, value_name = "CLASS")]
    pub sql_storage_class: Option<String>,
    /// Whether SQL Server runs in the cluster [default: as the configuration has it]
    #[arg(long, value_enum)]
    pub sql: Option<Sql>,
    /// With `--sql external`: the SQL Server that takes the place of the stack's own
    #[arg(long, value_name = "HOST[,PORT]")]
    pub sql_server: Option<String>,
    /// The image: as it is, or the vendor's hardened one, which has no shell
    #[arg(long, value_enum, default_value_t = Flavour::Standard)]
    pub image_flavour: Flavour,
    /// Docker-in-Docker, and so privileged pods
    #[arg(long)]
    pub dind: bool,
    /// How polling Tentacles reach each node from outside the cluster
    #[arg(long, value_enum, default_value_t = Polling::None)]
    pub expose_polling: Polling,
    /// The host name of the portal, for an Ingress
    #[arg(long, value_name = "HOST")]
    pub ingress: Option<String>,
    /// The class of the Ingress [default: the cluster's]
    #[arg(long, value_name = "CLASS", requires = "ingress")]
    pub ingress_class: Option<String>,
    /// The Secret with the Ingress' certificate [default: the Ingress controller's own]
    #[arg(long, value_name = "NAME", requires = "ingress")]
    pub tls_secret: Option<String>,
    /// Seconds that the tasks of a node get to end before it stops
    #[arg(long, value_name = "SECONDS", default_value_t = 540, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub drain_wait: u32,
    /// Wish for no node yet: `octo-local kubernetes handover` brings the data, then the nodes
    #[arg(long)]
    pub for_handover: bool,
    /// The priority class of the pods [default: the cluster's]
    #[arg(long, value_name = "NAME")]
    pub priority_class: Option<String>,
}

/// What the files are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
pub enum Format {
    /// `kubectl apply -k`.
    Kustomize,
    /// `kubectl apply -f`.
    Yaml,
    /// The vendor's Helm chart, with a patch of what its values cannot say.
    HelmValues,
}

/// Where SQL Server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
pub enum Sql {
    /// In the cluster.
    Internal,
    /// Elsewhere.
    External,
}

/// Which image the vendor has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
pub enum Flavour {
    /// With a shell.
    Standard,
    /// Without one (octopus.com/docs, hardened image).
    Hardened,
}

/// How polling Tentacles reach each node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[value(rename_all = "lower")]
pub enum Polling {
    /// An address of the cloud's load balancer for each node.
    LoadBalancer,
    /// A port of every machine of the cluster for each node.
    NodePort,
    /// Only from inside.
    None,
}

/// The longest name of a namespace and of most other things (RFC 1123 label).
const MAX_LABEL: usize = 63;

/// Whether a text is a label by RFC 1123: lower-case letters, digits, `-` inside.
pub fn is_label(text: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=MAX_LABEL).contains(&text.len())
        && text.bytes().all(is_inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// Whether a text is labels with dots between them, as names of classes, Secrets and hosts are.
pub fn is_dotted(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_label)
}

/// A project's name as a label: both have letters, digits and `-`, a project also `_`.
pub fn label_of(project: &str) -> String {
    let text: String = project.replace('_', "-").chars().take(MAX_LABEL).collect();
    text.trim_matches('-').to_owned()
}

impl Options {
    /// Choices that a cluster shows which has an export already, as far as they change what nodes are
    /// given.
    pub fn of_cluster(namespace: &str, has_sql: bool, is_hardened: bool, dind: bool) -> Self {
        Self {
            format: Format::Kustomize,
            namespace: Some(namespace.to_owned()),
            storage_class: Some("any".to_owned()),
            sql_storage_class: None,
            sql: Some(if has_sql {
                Sql::Internal
            } else {
                Sql::External
            }),
            sql_server: (!has_sql).then(|| "elsewhere".to_owned()),
            image_flavour: if is_hardened {
                Flavour::Hardened
            } else {
                Flavour::Standard
            },
            dind,
            expose_polling: Polling::None,
            ingress: None,
            ingress_class: None,
            tls_secret: None,
            drain_wait: 540,
            for_handover: false,
            priority_class: None,
        }
    }

    /// Names that the cluster would refuse.
    pub fn bad_names(&self) -> Vec<Problem> {
        let wanted = [
            ("--namespace", &self.namespace, is_label as fn(&str) -> bool),
            ("--storage-class", &self.storage_class, is_dotted),
            ("--sql-storage-class", &self.sql_storage_class, is_dotted),
            ("--ingress", &self.ingress, is_dotted),
            ("--ingress-class", &self.ingress_class, is_dotted),
            ("--tls-secret", &self.tls_secret, is_dotted),
            ("--priority-class", &self.priority_class, is_dotted),
        ];
        wanted
            .into_iter()
            .filter_map(|(flag, value, is_good)| {
                let value = value.as_ref().filter(|value| !is_good(value))?;
                Some(problem(
                    flag,
                    Some(value),
                    "names in a cluster have lower-case letters, digits and `-` inside",
                    "write it as the cluster has it",
                ))
            })
            .collect()
    }
}

/// Something wrong with a flag.
pub fn problem(flag: &str, value: Option<&str>, why: &str, fix: &str) -> Problem {
    Problem {
        key: flag.to_owned(),
        value: value.map(str::to_owned),
        why: why.to_owned(),
        fix: fix.to_owned(),
        origin: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_project_has_a_namespace() {
        for project in ["octo", "my_shop", "9x", "a-_", &"a".repeat(80)] {
            assert!(is_label(&label_of(project)), "{project}");
        }
        for text in ["", "-a", "a-", "A", "a_b", "a.b", &"a".repeat(64)] {
            assert!(!is_label(text), "{text}");
        }
        assert!(is_dotted("octopus.example.com") && !is_dotted("a..b") && !is_dotted(""));
    }
}
