//! Looks before anything is touched: what is there, whether it can be adopted, the master key; and
//! makes the backup.

use std::collections::BTreeSet;
use std::time::Duration;

use time::OffsetDateTime;
use tokio::sync::watch;

use crate::adopt::Found;
use crate::adopt::Record;
use crate::adopt::Seen;
use crate::adopt::Stage;
use crate::adopt::found;
use crate::adopt::record::OldNetwork;
use crate::adopt::variables;
use crate::adopt::variables::Variables;
use crate::backup::Directory;
use crate::backup::Progress;
use crate::backup::run;
use crate::backup::run::Source;
use crate::backup::run::Wanted;
use crate::cli::args::Overrides;
use crate::cli::commands::backup::create;
use crate::cli::context::Context;
use crate::cli::daemon_client::daemon_process;
use crate::cli::daemon_client::request;
use crate::cli::node_key;
use crate::cli::outcome::CONFIGURATION;
use crate::cli::outcome::FAILED;
use crate::cli::outcome::Failure;
use crate::cli::outcome::Outcome;
use crate::cli::terminal::print;
use crate::config::Config;
use crate::config::Problem;
use crate::config::Secret;
use crate::daemon::back_up::DEFAULT;
use crate::daemon::message::GivingWay;
use crate::engine::Engine;
use crate::octopus::master_key;
use crate::reconcile::Observed;
use crate::reconcile::observed::Container;
use crate::reconcile::observed::Run;
use crate::spec::Digest;
use crate::spec::StackSpec;
use crate::spec::UnitId;
use crate::spec::build::BuildInput;
use crate::spec::build::build;
use crate::sql;

/// How long SQL Server gets to say what it thinks of a password.
const LOGIN_LIMIT: Duration = Duration::from_secs(10);

/// What was found, and is fit to be adopted.
pub(super) struct Looked {
    pub(super) found: Found,
    /// What counts beside the `.env`.
    pub(super) variables: Variables,
    /// The old network whose name is needed.
    pub(super) network: Option<OldNetwork>,
    config: Config,
    spec: StackSpec,
    master_key: Secret,
}

/// Looks, and refuses what cannot be adopted with all the reasons.
pub(super) async fn look(
    context: &Context,
    engine: &Engine,
    from: Option<&str>,
) -> Result<Looked, Failure> {
    must_be_new(context, engine).await?;
    let from = from.unwrap_or(context.project.as_str());
    let members = engine.of_compose(from).await?;
    let found = found::find(from, &members).map_err(|problems| refused(&problems))?;
    let given = context.variables()?.vars;
    let mut told = variables::told(&found);
    let master_key = key_of(engine, &found).await?;
    if let Some(key) = &master_key {
        told.insert("MASTER_KEY".to_owned(), key.clone());
    }
    let mut problems = variables::conflicts(&found, &told, &given);
    let own = given.get("MASTER_KEY").filter(|key| !key.is_empty());
    if master_key.is_none() && own.is_none() {
        problems.push(unknown_key(&found));
    }
    images(engine, &found, &mut problems).await?;
    let network = network(context, engine, &found, &mut problems).await?;
    copies(context, engine, &found, &mut problems).await?;
    if !problems.is_empty() {
        return Err(refused(&problems));
    }
    let variables = variables::missing(&told, &given);
    let (config, spec) = admitted(context, &found, &variables, network.as_ref()).await?;
    password(engine, &found, &config).await?;
    let own = own.map(Secret::new);
    Ok(Looked {
        found,
        variables,
        network,
        config,
        spec,
        master_key: master_key.or(own).unwrap_or_default(),
    })
}

/// A stack of octo-local's is what an adoption makes: it is not there yet.
async fn must_be_new(context: &Context, engine: &Engine) -> Outcome {
    let applied = context.applied().await.unwrap_or_default();
    if !applied.is_up() && engine.origin(&context.project).await?.is_none() {
        return Ok(());
    }
    let project = &context.project;
    let line = format!(
        "{project} is a stack of octo-local's already; adopt into a project of another name: `octo-local -p NEW adopt --from {project}`"
    );
    Err(Failure::new(CONFIGURATION, line))
}

fn refused(problems: &[Problem]) -> Failure {
    let mut failure = Failure::problems(problems);
    if let Some(first) = failure.lines.first_mut() {
        "it cannot be adopted as it is, and nothing was touched:".clone_into(first);
    }
    failure
}

/// The master key of a running node, by its own command; else what its environment or its settings
/// say. A node that runs came up with its key: it is the data's.
async fn key_of(engine: &Engine, found: &Found) -> Result<Option<Secret>, Failure> {
    for node in found.nodes.iter().filter(|node| node.running) {
        if let Some(key) = node_key::of(engine, &node.id).await? {
            return Ok(Some(key));
        }
    }
    for node in &found.nodes {
        if let Some(key) = node.variable("MASTER_KEY") {
            return Ok(Some(key.clone()));
        }
        for path in master_key::FILES {
            let text = engine.small_file(&node.id, path).await?;
            if let Some(key) = text.as_deref().and_then(master_key::in_file) {
                return Ok(Some(key));
            }
        }
    }
    Ok(None)
}

fn problem(key: &str, why: impl Into<String>, fix: impl Into<String>) -> Problem {
    Problem {
        key: key.to_owned(),
        value: None,
        why: why.into(),
        fix: fix.into(),
        origin: None,
    }
}

fn unknown_key(found: &Found) -> Problem {
    let runs = found.nodes.iter().any(|node| node.running);
    let fix = if runs {
        "set it in .env, as `show-master-key` of Octopus Server tells it"
    } else {
        "start the old stack, which can tell it, or set it in .env"
    };
    problem(
        "MASTER_KEY",
        "nothing knows the key that the database is encrypted with",
        fix,
    )
}

/// A tag that moved since the containers were made would change the version with the adoption.
async fn images(
    engine: &Engine,
    found: &Found,
    problems: &mut Vec<Problem>,
) -> Result<(), Failure> {
    let mut told = BTreeSet::new();
    for one in found.containers() {
        let now = engine.image_id(&one.image).await?;
        let moved = now.is_none_or(|now| now != one.image_id);
        if moved && told.insert(&one.image) {
            problems.push(problem(
                &one.image,
                format!("{} was made of {}, and this reference stands for another image now, or for none", one.name, one.image_id),
                format!("`docker tag {} {}` makes it stand for that one again; take a newer one after the adoption", one.image_id, one.image),
            ));
        }
    }
    Ok(())
}

/// The network whose name ours is to have. One that something else runs on stays.
async fn network(
    context: &Context,
    engine: &Engine,
    found: &Found,
    problems: &mut Vec<Problem>,
) -> Result<Option<OldNetwork>, Failure> {
    let name = format!("{}_default", context.project);
    let Some((id, network)) = engine.their_network(&name).await? else {
        return Ok(None);
    };
    let is_old = |name: &String| found.containers().any(|one| one.name == *name);
    let mut others = engine.users_of_network(&id).await?;
    others.retain(|name| !is_old(name));
    if !others.is_empty() {
        problems.push(problem(
            &name,
            format!(
                "the network's name is needed, and {} runs on it",
                others.join(", ")
            ),
            format!(
                "stop that first, or take another project name: `octo-local -p NEW adopt --from {}`",
                found.from
            ),
        ));
    }
    Ok(Some(network))
}

/// What is copied must not meet other data.
async fn copies(
    context: &Context,
    engine: &Engine,
    found: &Found,
    problems: &mut Vec<Problem>,
) -> Result<(), Failure> {
    for (key, _, path) in found.inside() {
        let name = format!("{}_{key}", context.project);
        if engine.volume(&name).await?.is_some() {
            problems.push(problem(
                &name,
                format!("{path} would be copied into a volume of this name, and there is one already: it may hold data"),
                format!("take another project name: `octo-local -p NEW adopt --from {}`", found.from),
            ));
        }
    }
    Ok(())
}

/// Whether the daemon would take the configuration, once the old stack is out of the way.
async fn admitted(
    context: &Context,
    found: &Found,
    variables: &Variables,
    network: Option<&OldNetwork>,
) -> Result<(Config, StackSpec), Failure> {
    let mut context = context.clone();
    context.adopted = Ok(Some(Record {
        stage: Stage::Done,
        variables: variables.clone(),
        ..Record::default()
    }));
    let resolved = request::resolve(&context, &request::Wish::default()).await?;
    request::tell_warnings(&resolved);
    let config = resolved.config.clone();
    let mut request = resolved.into_request(&context, &Overrides::default());
    request.giving_way = Some(GivingWay {
        containers: found.containers().map(|one| one.name.clone()).collect(),
        network: network.map(|network| network.name.clone()),
    });
    let working_dir = request.working_dir.clone();
    daemon_process::preview(&context, request).await?;
    let spec = build(
        &config,
        &BuildInput {
            project: &context.project,
            working_dir: &working_dir,
            master_key: &Secret::default(),
            may_be_privileged: true,
        },
    );
    Ok((config, spec))
}

/// Whether SQL Server takes the password that will count. One that does not run cannot be asked.
async fn password(engine: &Engine, found: &Found, config: &Config) -> Outcome {
    let (true, Some(wanted)) = (found.sql.running, &config.sql) else {
        return Ok(());
    };
    let Some(mut target) = engine.database_of(&found.sql.id).await else {
        return Ok(());
    };
    target.password = wanted.sa_password.clone();
    match sql::login(&target, "master", LOGIN_LIMIT).await {
        Err(sql::SqlError::Server {
            code: sql::LOGIN_FAILED,
            ..
        }) => Err(refused(&[problem(
            "SA_PASSWORD",
            format!("{} refuses it (error 18456)", found.sql.name),
            "set it to the password of sa that the running server takes",
        )])),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Makes a set of the old stack while it runs.
pub(super) async fn back_up(context: &Context, engine: &Engine, looked: &Looked) -> Outcome {
    let found = &looked.found;
    if !found.sql.running {
        let line = format!(
            "no backup was made, and nothing was touched: {} does not run, and only SQL Server can back up its database; start \
             the old stack, or say --no-backup",
            found.sql.name
        );
        return Err(Failure::new(FAILED, line));
    }
    let _alone = super::alone(context)?;
    let mut spec = looked.spec.clone();
    let node = found.nodes.first().ok_or_else(|| {
        let line = "no backup was made, and nothing was touched: the old stack has no node through which its files are read; \
                    say --no-backup";
        Failure::new(FAILED, line)
    })?;
    // Files that the old node does not have are in no set.
    let paths: Vec<String> = spec.nodes[0].mounts.keys().cloned().collect();
    for path in paths {
        if !engine.has_path(&node.id, &path).await? {
            spec.nodes[0].mounts.remove(&path);
        }
    }
    let observed = as_observed(found);
    let source = Source {
        engine,
        config: &looked.config,
        spec: &spec,
        observed: &observed,
        files: &node.id,
        master_key: Some(&looked.master_key),
        master_key_is_ours: false,
        octopus_version: None,
        sa_password: looked.config.sql.as_ref().map(|sql| &sql.sa_password),
    };
    let dir = match &looked.config.backup.dir {
        Some(dir) => context.files.directory.join(dir),
        None => context.paths.state.join(DEFAULT),
    };
    let wanted = Wanted {
        directory: Directory::at(dir),
        name: None,
        is_pinned: false,
        recipients: looked.config.backup.recipients.clone(),
        without_secrets: false,
        now: OffsetDateTime::now_utc(),
        drained: None,
    };
    let (sender, receiver) = watch::channel(Progress::default());
    let telling = tokio::spawn(create::tell(receiver));
    let made = run::run(&source, &wanted, &sender).await;
    telling.abort();
    let manifest = made.map_err(|error| {
        let line = format!(
            "no backup was made, and nothing was touched: {error}; --no-backup goes on without one"
        );
        Failure::new(FAILED, line)
    })?;
    print::tell(format_args!(
        "backup {} is made and checked, in {}",
        manifest.name,
        wanted.directory.path().display()
    ));
    Ok(())
}

/// The old containers as if they were a stack's own.
fn as_observed(found: &Found) -> Observed {
    let nodes = found.nodes.iter().zip(1..);
    let nodes = nodes.map(|(node, number)| container(node, UnitId::Node(number)));
    Observed {
        containers: std::iter::once(container(&found.sql, UnitId::Sql))
            .chain(nodes)
            .collect(),
        ..Observed::default()
    }
}

fn container(seen: &Seen, unit: UnitId) -> Container {
    let run = if seen.running {
        Run::Running {
            started_at: String::new(),
        }
    } else {
        Run::Created
    };
    Container {
        id: seen.id.clone(),
        name: seen.name.clone(),
        unit,
        digest: Digest(String::new()),
        image: seen.image.clone(),
        image_id: seen.image_id.clone(),
        run,
        networks: BTreeSet::new(),
        network_mode: String::new(),
        engine_restarts: false,
    }
}
