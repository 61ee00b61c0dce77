//! What this host has: the configuration that a cluster is held against, and the stack that is handed
//! over.

use std::collections::BTreeMap;

use serde_json::Value;
use serde_json::json;

use crate::cli::context::Context;
use crate::cli::daemon_client::request;
use crate::cli::exported;
use crate::cli::outcome::CONFIGURATION;
use crate::cli::outcome::Failure;
use crate::config::Config;
use crate::config::Secret;
use crate::daemon::store::Stored;
use crate::engine::observe::ObservationCache;
use crate::export::kubernetes::cluster::Cluster;
use crate::export::kubernetes::options::Options;
use crate::kubernetes::Seen;
use crate::kubernetes::handover::Here;
use crate::reconcile::observed::Run;
use crate::spec::StackSpec;

/// What the vendor's tags without a shell end in.
const HARDENED: &str = "-hardened";

/// The applied stack.
pub(super) struct Applied {
    pub(super) stored: Stored,
    pub(super) config: Config,
    pub(super) spec: StackSpec,
}

impl Applied {
    /// What was applied here; no demo, which only stand-ins read.
    pub(super) async fn of(context: &Context) -> Result<Self, Failure> {
        context.must_be_from_here().await?;
        let stored = context.applied().await.unwrap_or_default();
        let project = &context.project;
        let (Some(config), Some(spec)) = (stored.config.clone(), stored.spec.clone()) else {
            let line =
                format!("{project} was never brought up here: there is nothing to hand over");
            return Err(Failure::new(CONFIGURATION, line));
        };
        if spec.demo {
            let line = "this project is a demo, whose data only stand-ins can open: there is nothing to hand over";
            return Err(Failure::new(CONFIGURATION, line));
        }
        Ok(Self {
            stored,
            config,
            spec,
        })
    }

    /// The version that runs, as a tag.
    pub(super) fn tag(&self, context: &Context) -> String {
        let (dir, no_key) = (&self.spec.working_dir, Secret::default());
        let source = exported::source(context, &self.config, &self.stored, dir, &no_key);
        source.tag().to_owned()
    }

    /// The names that the nodes have in the database.
    pub(super) fn node_names(&self) -> Vec<String> {
        let name = |node: &crate::spec::ContainerSpec| {
            let name = node.env.get("OCTOPUS_SERVER_NODE_NAME");
            name.map(|name| name.expose().to_owned())
        };
        self.spec.nodes.iter().filter_map(name).collect()
    }
}

/// What runs here of the stack.
pub(super) async fn here(context: &Context) -> Result<Here, Failure> {
    let engine = context.engine().await?;
    let seen = engine
        .observe(&context.project, &[], &mut ObservationCache::default())
        .await?;
    let runs = |run: &Run| matches!(run, Run::Running { .. } | Run::Paused { .. });
    Ok(Here {
        nodes_run: seen
            .containers
            .iter()
            .any(|one| one.unit.is_server() && runs(&one.run)),
        is_there: !seen.containers.is_empty(),
    })
}

/// Whether SQL Server runs here.
pub(super) async fn sql_runs(context: &Context) -> Result<bool, Failure> {
    let engine = context.engine().await?;
    let seen = engine
        .observe(&context.project, &[], &mut ObservationCache::default())
        .await?;
    let runs = |run: &Run| matches!(run, Run::Running { .. });
    Ok(seen
        .containers
        .iter()
        .any(|one| !one.unit.is_server() && runs(&one.run)))
}

/// What an export of the configuration here would have otherwise. Nothing where there is no
/// configuration that could be exported.
pub(super) async fn differences(context: &Context, seen: &Seen, has_sql: bool) -> Vec<String> {
    let Ok(resolved) = request::resolve(context, &request::Wish::default()).await else {
        return Vec::new();
    };
    let config = &resolved.config;
    let stored = context.applied().await.unwrap_or_default();
    let working_dir = context.files.directory.display().to_string();
    let no_key = Secret::default();
    let source = exported::source(context, config, &stored, &working_dir, &no_key);
    let there = by_name(&seen.set.env);
    let dind = there
        .get("DISABLE_DIND")
        .is_some_and(|it| it["value"] == "N");
    let is_hardened = seen.set.image.ends_with(HARDENED);
    let options = Options::of_cluster("any", has_sql, is_hardened, dind);
    let Ok(cluster) = Cluster::new(&source, &options) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    if cluster.image != seen.set.image {
        found.push(format!(
            "image: {} there, {} here",
            seen.set.image, cluster.image
        ));
    }
    if seen.set.wished != 0 && u32::from(cluster.nodes) != seen.set.wished {
        found.push(format!(
            "nodes: {} there, {} here",
            seen.set.wished, cluster.nodes
        ));
    }
    let env: Vec<Value> = cluster
        .octopus
        .variables
        .iter()
        .map(|one| json!(one))
        .collect();
    found.extend(of_environment(&there, &by_name(&env)));
    found
}

fn by_name(env: &[Value]) -> BTreeMap<&str, &Value> {
    let name = |one: &Value| one["name"].as_str().map(str::to_owned);
    env.iter()
        .filter(|one| name(one).is_some())
        .map(|one| (one["name"].as_str().unwrap_or_default(), one))
        .collect()
}

/// The names of variables that differ: where one of both sides is a secret, values are in the Secret
/// and are not looked at.
fn of_environment(there: &BTreeMap<&str, &Value>, here: &BTreeMap<&str, &Value>) -> Vec<String> {
    let mut found = Vec::new();
    for (name, value) in here {
        match there.get(name) {
            None => found.push(format!("{name}: only here")),
            Some(other) if other["value"] != value["value"] => {
                found.push(format!("{name}: another value"));
            }
            Some(_) => {}
        }
    }
    let only_there = there.keys().filter(|name| !here.contains_key(*name));
    found.extend(only_there.map(|name| format!("{name}: only there")));
    found
}
