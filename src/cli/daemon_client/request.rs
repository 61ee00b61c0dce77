//! From the variables to what is asked of the daemon: everything that can be said without it.

use crate::cli::args::Overrides;
use crate::cli::context::Context;
use crate::cli::demo;
use crate::cli::outcome::Failure;
use crate::cli::passwords::api_key;
use crate::cli::passwords::strong_password;
use crate::cli::terminal::print;
use crate::cli::variables::Variables;
use crate::config::Config;
use crate::config::Problem;
use crate::config::Pull;
use crate::config::Secret;
use crate::config::read::Demo;
use crate::config::read::Input;
use crate::config::read::Read;
use crate::config::read::read;
use crate::daemon::message::UpRequest;
use crate::daemon::store::Stored;
use crate::dotenv::Vars;

/// The variable that names the version of Octopus Server.
pub const TAG: &str = "OCTOPUS_SERVER_TAG";

/// The variable with the first user's API key.
const API_KEY: &str = "ADMIN_API_KEY";

/// What the arguments say besides the variables.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    /// `--demo`.
    pub demo: bool,
    /// `--nodes`.
    pub nodes: Option<u8>,
    /// `--tentacles`: a demo is to have Tentacles, which register with an API key.
    pub tentacles: bool,
    /// `--pull`.
    pub pull: Option<Pull>,
    /// The version, in the place of what the variables say.
    pub tag: Option<String>,
}

impl From<&Overrides> for Wish {
    fn from(flags: &Overrides) -> Self {
        Self {
            demo: flags.demo,
            nodes: flags.nodes,
            tentacles: false,
            pull: flags.pull,
            tag: flags.tag.clone(),
        }
    }
}

/// A configuration and all that comes with it.
#[derive(Debug)]
pub struct Resolved {
    /// The configuration.
    pub config: Config,
    /// What is not wrong, but will hurt.
    pub warnings: Vec<Problem>,
    /// What is said of values that use names that nothing sets.
    pub blanks: Vec<String>,
    /// The demo's images.
    pub demo: Option<Demo>,
    /// The demo's passwords: sa, then the first user.
    generated: Option<(Secret, Secret)>,
}

/// Resolves the configuration, or says everything that is wrong with it.
pub async fn resolve(context: &Context, wish: &Wish) -> Result<Resolved, Failure> {
    let variables = context.variables()?;
    let blanks = variables.blanks.clone();
    let (input, generated) = input(context, variables, wish).await;
    let Read {
        config,
        mut warnings,
        warnings_if_new,
    } = read(&input).map_err(|problems| refused(context, &problems))?;
    if !warnings_if_new.is_empty() && !has_been_up(context).await {
        warnings.extend(warnings_if_new);
    }
    Ok(Resolved {
        config,
        warnings,
        blanks,
        demo: input.demo,
        generated,
    })
}

/// Whether this project's data may exist, which is bound to its password and key.
async fn has_been_up(context: &Context) -> bool {
    let applied = context.applied().await;
    applied.is_some_and(|stored| {
        stored.is_up() || stored.config.is_some() || stored.master_key().is_some()
    })
}

/// What a configuration is read from, and the passwords made for a demo.
pub async fn input(
    context: &Context,
    variables: Variables,
    wish: &Wish,
) -> (Input, Option<(Secret, Secret)>) {
    let applied = if wish.demo {
        context.applied().await.unwrap_or_default()
    } else {
        Stored::default()
    };
    let generated = wish.demo.then(|| passwords(&applied));
    let demo = generated
        .as_ref()
        .map(|passwords| demo::demo(&demo_tag(&applied), passwords));
    let (mut vars, mut origins) = (variables.vars, variables.origins);
    if let Some(tag) = &wish.tag {
        vars.insert(TAG.to_owned(), tag.clone());
        origins.remove(TAG);
    }
    if wish.demo && !vars.contains_key(API_KEY) {
        let key = demo_key(&applied).or_else(|| wish.tentacles.then(api_key));
        vars.extend(key.map(|key| (API_KEY.to_owned(), key.expose().to_owned())));
    }
    let nodes = wish.nodes.or_else(|| demo_nodes(&applied, &vars));
    (
        Input {
            vars,
            origins,
            demo,
            nodes,
            pull: wish.pull,
            today: Some(time::OffsetDateTime::now_utc().date()),
        },
        generated,
    )
}

/// Says what should be known about a configuration that can be applied.
pub fn tell_warnings(resolved: &Resolved) {
    for warning in &resolved.warnings {
        print::tell(format_args!("warning: {warning}"));
    }
    for blank in &resolved.blanks {
        print::tell(format_args!("warning: {blank}"));
    }
}

impl Resolved {
    /// What the daemon is sent.
    pub fn into_request(self, context: &Context, flags: &Overrides) -> UpRequest {
        UpRequest {
            config: self.config,
            working_dir: context.files.directory.display().to_string(),
            name_on_purpose: context.name_on_purpose,
            generated: self.generated,
            endpoint: Some(context.endpoint()),
            fresh: flags.fresh,
            no_backup: flags.no_backup,
            giving_way: None,
        }
    }
}

fn refused(context: &Context, problems: &[Problem]) -> Failure {
    let mut failure = Failure::problems(problems);
    if context.files.are_missing() {
        let directory = context.files.directory.display();
        let missing = format!(
            "there is no .env in {directory}: `octo-local init` writes one; to try octo-local without, `octo-local up --demo`"
        );
        // First: the problems follow from it.
        failure.lines.insert(0, missing);
    }
    failure
}

/// A demo that is up keeps its images: a newer octo-local recreates nothing.
fn demo_tag(applied: &Stored) -> String {
    let config = applied
        .config
        .as_ref()
        .filter(|config| config.demo && applied.is_up());
    config.map_or_else(demo::own_tag, |config| config.octopus.tag.clone())
}

/// A demo that is up keeps its nodes where no variable says how many: it has no `.env` that
/// somebody could write that into.
fn demo_nodes(applied: &Stored, vars: &Vars) -> Option<u8> {
    let config = applied
        .config
        .as_ref()
        .filter(|config| config.demo && applied.is_up() && !vars.contains_key("OCTOPUS_NODES"));
    config.map(|config| config.octopus.nodes)
}

/// A demo that has an API key keeps it: its Tentacles know it.
fn demo_key(applied: &Stored) -> Option<Secret> {
    let config = applied.config.as_ref().filter(|config| config.demo);
    config.and_then(|config| config.octopus.admin_api_key.clone())
}

/// The passwords of this project's demo: those made before, else new ones.
fn passwords(applied: &Stored) -> (Secret, Secret) {
    applied
        .demo
        .generated
        .clone()
        .unwrap_or_else(|| (strong_password(), strong_password()))
}
