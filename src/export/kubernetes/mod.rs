//! Manifests for Kubernetes, in which nothing is left to luck that an own deployment of Octopus
//! Server needs: one version at a time, drains that are over before a pod is, starts that take as
//! long as they take, no secret in a manifest, and nothing that more rights are needed for than the
//! strictest Pod Security Standard gives.

pub mod cluster;
pub mod guide;
pub mod helm;
pub mod kustomization;
pub mod mssql;
pub mod network;
pub mod octopus;
pub mod options;
pub mod policy;

use super::environment::env_file;
use super::file::File;
use super::source::Source;
use super::yaml::document;
use super::yaml::documents;
use crate::config::Problem;
use cluster::Cluster;
use options::Format;
use options::Options;

/// What stands in the first lines of the file with secrets.
const SECRETS_HEADING: &str = "# Everything secret of this export. Only its owner may read it, and git ignores it.\n\
     # One value a line: all after the first = as it is, without quotes.\n";
/// What git must never see.
const IGNORED: &str = "secrets.env\n";

/// Files, and what a person should know of them.
#[derive(Clone, Debug)]
pub struct Export {
    /// The files.
    pub files: Vec<File>,
    /// What is not wrong, but will hurt.
    pub warnings: Vec<Problem>,
}

/// All files of an export, or everything that is wrong.
pub fn export(source: &Source<'_>, options: &Options) -> Result<Export, Vec<Problem>> {
    let cluster = Cluster::new(source, options)?;
    let mut files = match options.format {
        Format::Kustomize => {
            let manifests = manifests(&cluster);
            let paths: Vec<&str> = manifests.iter().map(|file| file.path.as_str()).collect();
            let kustomization = kustomization::kustomization(&cluster, &paths);
            let own = File::open("kustomization.yaml", document(&kustomization));
            [vec![own], manifests].concat()
        }
        Format::Yaml => manifests(&cluster),
        Format::HelmValues => helm::files(&cluster),
    };
    let guard: Vec<String> = policy::upgrade_guard(&cluster)
        .iter()
        .map(document)
        .collect();
    files.extend([
        File::open("optional/upgrade-guard.yaml", documents(&guard)),
        File::secret("secrets.env", env_file(SECRETS_HEADING, &cluster.secrets())),
        File::open(".gitignore", IGNORED),
    ]);
    files.extend(guide::files(&cluster));
    Ok(Export {
        files,
        warnings: cluster.warnings,
    })
}

/// The manifests, in an order in which they can be applied.
fn manifests(cluster: &Cluster<'_>) -> Vec<File> {
    let mut files = vec![File::open(
        "namespace.yaml",
        document(&policy::namespace(cluster)),
    )];
    if let Some(database) = &cluster.sql {
        files.push(File::open("mssql.yaml", mssql_file(cluster, database)));
    }
    let all = |objects: &[String]| documents(objects);
    let services: Vec<String> = network::services(cluster).iter().map(document).collect();
    let policies: Vec<String> = network::policies(cluster).iter().map(document).collect();
    files.extend([
        File::open("storage.yaml", document(&octopus::claim(cluster))),
        File::open("octopus.yaml", document(&octopus::stateful_set(cluster))),
        File::open("services.yaml", all(&services)),
        File::open("networkpolicy.yaml", all(&policies)),
        File::open("pdb.yaml", document(&policy::budget(cluster))),
    ]);
    if let Some(host) = &cluster.options.ingress {
        let ingresses: Vec<String> = network::ingresses(cluster, host)
            .iter()
            .map(document)
            .collect();
        files.push(File::open("ingress.yaml", all(&ingresses)));
    }
    files
}

/// SQL Server's file.
fn mssql_file(cluster: &Cluster<'_>, database: &cluster::Database) -> String {
    documents(&[
        document(&mssql::service(cluster)),
        document(&mssql::stateful_set(cluster, database)),
    ])
}
