//! The configurations that exports are tried with, and what of an export can be read again.

use std::collections::BTreeMap;

use clap::Parser as _;
use octo_local::config::Config;
use octo_local::config::Secret;
use octo_local::config::project::ProjectName;
use octo_local::config::read::Input;
use octo_local::config::read::read;
use octo_local::export::File;
use octo_local::export::Source;
use octo_local::export::kubernetes;
use octo_local::export::kubernetes::options::Options;
use octo_local::export::source::Ran;
use serde_json::Value;

pub(super) const KEY: &str = "bWFya2VyLW1hcmtlci1tYQ==";
/// What every `.env` must say. Each secret has a word in it that nothing else has.
const NEEDED: [(&str, &str); 7] = [
    ("ACCEPT_EULA", "Y"),
    ("ACCEPT_OCTOPUS_EULA", "Y"),
    ("SA_PASSWORD", "Str0ng-m4rker-sa"),
    ("ADMIN_PASSWORD", "Adm1n-m4rker-$(HOME)$$x"),
    ("ADMIN_API_KEY", "API-M4RKERABCDEFGHIJKLMNOPQ"),
    ("HTTP_PROXY", "http://me:m4rker-proxy@proxy:3128"),
    ("OCTOPUS_SERVER_TAG", "2026.2.7"),
];

/// A configuration of these variables.
pub(super) fn config(more: &[(&str, &str)]) -> Config {
    let vars: BTreeMap<String, String> = NEEDED
        .iter()
        .chain(more)
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect();
    let origins = vars.keys().map(|key| (key.clone(), ".env:1".to_owned()));
    read(&Input {
        origins: origins.collect(),
        vars: vars.clone(),
        ..Input::default()
    })
    .unwrap()
    .config
}

/// The choices that these words of the command line mean.
pub(super) fn options(words: &str) -> Options {
    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }
    Line::parse_from(["octo-local"].into_iter().chain(words.split_whitespace())).options
}

/// Calls with what an export is made from.
pub(super) fn with_source<T>(config: &Config, does: impl FnOnce(&Source<'_>) -> T) -> T {
    let project = ProjectName::given("my_shop").unwrap();
    does(&Source {
        config,
        project: &project,
        working_dir: "/",
        master_key: &Secret::new(KEY),
        ran: Some(Ran {
            image: "octopusdeploy/octopusdeploy:latest",
            version: "2026.2.7",
        }),
        has_data: true,
    })
}

/// One export.
pub(super) struct Tried {
    pub(super) name: String,
    pub(super) config: Config,
    pub(super) options: Options,
    pub(super) files: BTreeMap<String, File>,
}

impl Tried {
    pub(super) fn new(config: Config, words: &str) -> Self {
        let options = options(words);
        let export = with_source(&config, |source| kubernetes::export(source, &options));
        let export = export.unwrap_or_else(|problems| panic!("{words}: {problems:?}"));
        let files = export
            .files
            .into_iter()
            .map(|file| (file.path.clone(), file));
        let nodes = config.octopus.nodes;
        Self {
            name: format!("{nodes} nodes, {words}"),
            files: files.collect(),
            config,
            options,
        }
    }

    pub(super) fn text(&self, path: &str) -> &str {
        let file = self.files.get(path);
        file.unwrap_or_else(|| panic!("{}: no {path}", self.name))
            .contents
            .expose()
    }

    /// All objects of the manifests, without kustomize's own file and Helm's.
    pub(super) fn objects(&self) -> Vec<Value> {
        let is_manifest = |path: &&String| {
            has_ending(path, "yaml")
                && !path.ends_with("kustomization.yaml")
                && !path.starts_with("post-render/")
                && *path != "values.yaml"
        };
        let paths = self.files.keys().filter(is_manifest);
        paths.flat_map(|path| documents(self.text(path))).collect()
    }

    /// The object of this kind and name.
    pub(super) fn object(&self, kind: &str, name: &str) -> Option<Value> {
        self.objects()
            .into_iter()
            .find(|object| object["kind"] == kind && object["metadata"]["name"] == name)
    }
}

/// Whether a file is of this kind.
pub(super) fn has_ending(path: &str, ending: &str) -> bool {
    std::path::Path::new(path)
        .extension()
        .is_some_and(|found| found == ending)
}

/// The documents of a file.
pub(super) fn documents(text: &str) -> Vec<Value> {
    text.split("---\n")
        .map(|document| serde_saphyr::from_str(document).unwrap())
        .collect()
}

/// Where the database is, in a configuration and in words.
const DATABASES: [(&str, &[(&str, &str)]); 3] = [
    ("", &[]),
    (
        "",
        &[
            ("SQL_IMAGE", ""),
            (
                "DB_CONNECTION_STRING",
                "Server=sql.example.com;Database=O;User=octo;Password=m4rker-db",
            ),
        ],
    ),
    ("--sql external --sql-server other.example.com,1434", &[]),
];

/// More than forty, of every choice each value with each of the database and of the number of nodes.
pub(super) fn all() -> Vec<Tried> {
    let choices = [
        "",
        "--image-flavour hardened",
        "--dind",
        "--expose-polling loadbalancer --ingress octopus.example.com --tls-secret web",
        "--expose-polling nodeport --ingress o.example.com --ingress-class nginx --namespace elsewhere",
        "--drain-wait 1 --priority-class high --sql-storage-class fast",
        "--format yaml",
        "--format helm-values",
        "--format helm-values --image-flavour hardened --ingress octopus.example.com --tls-secret web",
    ];
    let mut all = Vec::new();
    for (database, variables) in DATABASES {
        for nodes in ["1", "2", "16"] {
            for choice in choices {
                let class = if nodes == "1" {
                    ""
                } else {
                    "--storage-class files"
                };
                let more = [variables, &[("OCTOPUS_NODES", nodes)]].concat();
                all.push(Tried::new(
                    config(&more),
                    &format!("{choice} {database} {class}"),
                ));
            }
        }
    }
    let every_variable = [
        ("TASK_CAP", "7"),
        ("CLUSTER_SHARED_MODE", "CLUSTER_SHARED"),
        ("USE_EXECUTIONS_CLUSTER_SHARED", "Y"),
        ("OCTOPUS_GRPC_SERVICES_PORT", "8444"),
        ("MSSQL_COLLATION", "Latin1_General_CI_AS"),
        ("TZ", "Europe/Berlin"),
        ("NODE_START_LIMIT", "2h"),
        ("NODE_STOP_GRACE", "5m"),
        ("SQL_MEMORY_LIMIT_MB", "8192"),
        (
            "OCTOPUS_SERVER_TAG",
            "2026.2.7@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
        ),
    ];
    all.push(Tried::new(config(&every_variable), ""));
    all.push(Tried::new(config(&every_variable), "--format helm-values"));
    assert!(all.len() > 40);
    all
}
