//! Whether a configuration may be applied to what is there: everything that would destroy or strand
//! data is refused, with the way out, before any container is touched. Pure: the facts are gathered
//! by `requests`.

use crate::config::Config;
use crate::config::Problem;
use crate::config::Secret;

use super::store::Stored;

/// What was found out about the host and the data before anything is touched.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The project's own SQL volume exists.
    pub has_data: bool,
    /// The external database exists; none when it could not be asked.
    pub external_database: Option<bool>,
    /// The directory of the stack that runs under this name, when it is another.
    pub other_dir: Option<String>,
    /// Whether existing containers or volumes belong to a demo.
    pub is_demo: Option<bool>,
    /// What the running SQL Server says of the configured password; none when it could not be
    /// asked.
    pub password_accepted: Option<bool>,
    /// The master key in an existing node's environment.
    pub running_master_key: Option<Secret>,
    /// Containers that have our names and not our labels.
    pub foreign: Vec<String>,
    /// Containers of others that use our SQL volume.
    pub volume_users: Vec<String>,
    /// Ports that are taken: key, port, holder.
    pub taken: Vec<(String, u16, String)>,
    /// The engine that what is kept is about, and this one, where they differ.
    pub elsewhere: Option<(String, String)>,
    /// Memory of the engine's host, in bytes, and its processor.
    pub host: Option<(u64, String)>,
}

/// Where the master key comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum MasterKey {
    /// The person's, or the one kept for this data.
    Known(Secret),
    /// A new database: one is made before the first node starts.
    Generate,
}

/// Every reason not to apply the configuration, or where its master key comes from.
pub fn admit(config: &Config, stored: &Stored, facts: &Facts) -> Result<MasterKey, Vec<Problem>> {
    let mut problems = Vec::new();
    place(config, stored, facts, &mut problems);
    origin(config, facts, &mut problems);
    password(config, stored, facts, &mut problems);
    versions(config, stored, facts, &mut problems);
    host(config, facts, &mut problems);
    let key = master_key(config, stored, facts, &mut problems);
    match key {
        Some(key) if problems.is_empty() => Ok(key),
        Some(_) | None => Err(problems),
    }
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

/// What is asked for elsewhere must not be done here.
pub fn another_engine(ours: &str, asked: &str) -> Problem {
    let why = format!(
        "this project's daemon works on the Docker Engine at {ours}, and this is asked of the one at {asked}"
    );
    let fix = format!(
        "ask with DOCKER_HOST={ours}; or take the stack down there, end a daemon that stays, and ask again for a new one"
    );
    problem("DOCKER_HOST", why, fix)
}

/// What is kept is about another engine: nothing of it is done here.
pub fn moved(there: &str, here: &str) -> Problem {
    let fix = format!(
        "ask with DOCKER_HOST={there}; where it is one engine with a new address, `octo-local up` first"
    );
    problem("DOCKER_HOST", kept_elsewhere(there, here), fix)
}

fn kept_elsewhere(there: &str, here: &str) -> String {
    format!(
        "what is kept of this project is about the Docker Engine at {there}, and this is asked of the one at {here}"
    )
}

/// A new stack here would take the place of what is kept of the data there, its master key too. An
/// engine that has the data is the same one with a new address.
fn place(config: &Config, stored: &Stored, facts: &Facts, problems: &mut Vec<Problem>) {
    let has_more = stored.is_up() || stored.master_key().is_some();
    if let Some((there, here)) = facts
        .elsewhere
        .as_ref()
        .filter(|_| config.sql.is_some() && !facts.has_data && has_more)
    {
        let fix = format!("ask with DOCKER_HOST={there}; or use another project name with -p");
        problems.push(problem("DOCKER_HOST", kept_elsewhere(there, here), fix));
    }
}

fn origin(config: &Config, facts: &Facts, problems: &mut Vec<Problem>) {
    if let Some(dir) = &facts.other_dir {
        let why = format!("a stack of this name was made from {dir}");
        problems.push(problem(
            "project name",
            why,
            "go there, or give another name with -p, or this one on purpose with -p",
        ));
    }
    match facts.is_demo {
        Some(true) if !config.demo => problems.push(problem(
            "--demo",
            "this project holds a demo's data, which a real server must not open",
            "use another name with -p, or remove the demo with `octo-local down --volumes --yes`",
        )),
        Some(false) if config.demo => problems.push(problem(
            "--demo",
            "this project holds a real stack's data, which a stand-in must not open",
            "use another name with -p",
        )),
        Some(_) | None => {}
    }
}

fn password(config: &Config, stored: &Stored, facts: &Facts, problems: &mut Vec<Problem>) {
    let Some(sql) = &config.sql else { return };
    let differs = stored
        .sa_password
        .as_ref()
        .is_some_and(|applied| *applied != sql.sa_password);
    if facts.has_data
        && facts
            .password_accepted
            .map_or(differs, |accepted| !accepted)
    {
        problems.push(problem(
            "SA_PASSWORD",
            "it differs from the one that the data was made with, and SQL Server ignores a new one",
            "set it back; to change it, run ALTER LOGIN sa WITH PASSWORD in the running server first",
        ));
    }
}

fn versions(config: &Config, stored: &Stored, facts: &Facts, problems: &mut Vec<Problem>) {
    if config.demo || !(facts.has_data || config.sql.is_none()) {
        return;
    }
    let Some(ran) = stored.ran.last() else { return };
    let tag = ran.image.rsplit(':').next().unwrap_or_default();
    let ran = if ran.version.is_empty() {
        tag
    } else {
        ran.version.as_str()
    };
    if let (Some(before), Some(wanted)) = (version_of(ran), version_of(&config.octopus.tag))
        && is_lower(&wanted, &before)
    {
        let why = format!(
            "{} is older than {ran}, which last ran on this database; a database cannot go back",
            config.octopus.tag
        );
        problems.push(problem(
            "OCTOPUS_SERVER_TAG",
            why,
            format!("use {ran} or newer, or restore a backup into a new project"),
        ));
    }
}

/// The numbers a tag begins with.
fn version_of(tag: &str) -> Option<Vec<u32>> {
    let numbers = tag
        .split(['-', '+'])
        .next()?
        .split('.')
        .map(str::parse)
        .collect::<Result<Vec<u32>, _>>();
    numbers.ok().filter(|numbers| !numbers.is_empty())
}

/// Whether one version is lower. Only as many numbers as both have are compared: `2026.2` is
/// whatever 2026.2 is newest.
fn is_lower(wanted: &[u32], before: &[u32]) -> bool {
    let common = wanted.len().min(before.len());
    wanted[..common] < before[..common]
}

fn host(config: &Config, facts: &Facts, problems: &mut Vec<Problem>) {
    for name in &facts.foreign {
        problems.push(problem(
            name,
            "a container of this name exists that is not ours",
            "rename or remove it, or use another project name with -p",
        ));
    }
    for name in &facts.volume_users {
        problems.push(problem(
            name,
            "this container uses the SQL data volume; two servers on one volume destroy it",
            "remove it first",
        ));
    }
    for (key, port, holder) in &facts.taken {
        problems.push(problem(
            key,
            format!("port {port} is taken by {holder}"),
            "stop that, or choose another port",
        ));
    }
    let Some((memory, architecture)) = &facts.host else {
        return;
    };
    if config.demo {
        return;
    }
    if config.sql.is_some() && *memory < 2_000_000_000 {
        let megabytes = memory / 1_000_000;
        problems.push(problem(
            "memory",
            format!("the Docker host has {megabytes} MB; SQL Server needs 2000 MB"),
            "give it more memory",
        ));
    }
    if !architecture.is_empty() && architecture != "x86_64" && architecture != "amd64" {
        problems.push(problem(
            "processor",
            format!("the Docker host is {architecture}; both images are for x86-64 only"),
            "use an x86-64 host",
        ));
    }
}

fn master_key(
    config: &Config,
    stored: &Stored,
    facts: &Facts,
    problems: &mut Vec<Problem>,
) -> Option<MasterKey> {
    let kept = stored.master_key().or(facts.running_master_key.as_ref());
    let has_data = facts.has_data
        || facts.external_database == Some(true)
        || (config.sql.is_none() && kept.is_some());
    match (&config.octopus.master_key, kept) {
        (Some(given), Some(kept)) if has_data && given != kept => {
            problems.push(problem(
                "MASTER_KEY",
                "it differs from the one that the database was made with",
                "set it back or leave it out: octo-local keeps the right one",
            ));
            None
        }
        (Some(given), _) => Some(MasterKey::Known(given.clone())),
        (None, Some(kept)) => Some(MasterKey::Known(kept.clone())),
        (None, _) if has_data => {
            problems.push(problem(
                "MASTER_KEY",
                "there is a database, and nothing knows the key that it was encrypted with",
                "set MASTER_KEY from your backup, or remove the data with `octo-local down --volumes --yes`",
            ));
            None
        }
        (None, _) if config.sql.is_none() && facts.external_database.is_none() => {
            problems.push(problem(
                "MASTER_KEY",
                "the external database does not answer, so nobody can say whether it has a key already",
                "set MASTER_KEY, or start that server first",
            ));
            None
        }
        (None, _) => Some(MasterKey::Generate),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::read::Demo;
    use crate::config::read::Input;
    use crate::config::read::read;
    use crate::daemon::store::Data;
    use crate::daemon::store::Ran;

    fn config(more: &[(&str, &str)], demo: bool) -> Config {
        let good = [
            ("SA_PASSWORD", "Str0ng-enough"),
            ("ADMIN_PASSWORD", "x"),
            ("ACCEPT_EULA", "Y"),
            ("ACCEPT_OCTOPUS_EULA", "Y"),
        ];
        let vars = good
            .iter()
            .chain(more)
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        let demo = demo.then(|| Demo {
            sql_image: "s:1".into(),
            octopus_image: "o".into(),
            octopus_tag: "1".into(),
            sa_password: Secret::new("Aa1-aaaaaaa"),
            admin_password: Secret::new("Aa1-aaaaaaa"),
        });
        read(&Input {
            vars,
            demo,
            ..Input::default()
        })
        .unwrap()
        .config
    }

    fn keys(result: Result<MasterKey, Vec<Problem>>) -> Vec<String> {
        result
            .err()
            .unwrap_or_default()
            .into_iter()
            .map(|problem| problem.key)
            .collect()
    }

    const KEY: &str = "AAAAAAAAAAAAAAAAAAAAAA==";

    fn keyed() -> Stored {
        let mut stored = Stored::default();
        let data = Data::Volume("p_sql-data".to_owned());
        stored.keys.set(&Secret::new(KEY), true, &data);
        stored
    }

    #[test]
    fn a_new_database_gets_a_new_key_and_an_old_one_keeps_its_own() {
        let stored = keyed();
        let data = Facts {
            has_data: true,
            ..Facts::default()
        };
        assert_eq!(
            admit(&config(&[], false), &Stored::default(), &Facts::default()),
            Ok(MasterKey::Generate)
        );
        assert_eq!(
            admit(&config(&[], false), &stored, &data),
            Ok(MasterKey::Known(Secret::new(KEY)))
        );
        assert_eq!(
            keys(admit(&config(&[], false), &Stored::default(), &data)),
            ["MASTER_KEY"]
        );
        assert_eq!(
            keys(admit(
                &config(&[("MASTER_KEY", "other")], false),
                &stored,
                &data
            )),
            ["MASTER_KEY"]
        );
    }

    #[test]
    fn a_new_stack_elsewhere_does_not_take_the_place_of_a_key() {
        let stored = keyed();
        let elsewhere = Some(("unix:///a".to_owned(), "unix:///b".to_owned()));
        let nothing = Facts {
            elsewhere: elsewhere.clone(),
            ..Facts::default()
        };
        assert_eq!(
            keys(admit(&config(&[], false), &stored, &nothing)),
            ["DOCKER_HOST"]
        );
        assert_eq!(
            admit(&config(&[], false), &Stored::default(), &nothing),
            Ok(MasterKey::Generate)
        );
        let one_engine = Facts {
            elsewhere,
            has_data: true,
            ..Facts::default()
        };
        assert_eq!(
            admit(&config(&[], false), &stored, &one_engine),
            Ok(MasterKey::Known(Secret::new(KEY)))
        );
    }

    #[test]
    fn a_password_that_the_data_does_not_know_is_refused() {
        let stored = Stored {
            sa_password: Some(Secret::new("0ld-password")),
            ..keyed()
        };
        let data = Facts {
            has_data: true,
            ..Facts::default()
        };
        assert_eq!(
            keys(admit(&config(&[], false), &stored, &data)),
            ["SA_PASSWORD"]
        );
        assert!(keys(admit(&config(&[], false), &stored, &Facts::default())).is_empty());
    }

    #[test]
    fn a_demo_and_a_real_stack_never_share_data() {
        for (demo, there) in [(true, false), (false, true)] {
            let facts = Facts {
                is_demo: Some(there),
                ..Facts::default()
            };
            assert_eq!(
                keys(admit(&config(&[], demo), &Stored::default(), &facts)),
                ["--demo"]
            );
        }
    }

    #[test]
    fn an_older_tag_is_refused_and_a_moving_one_is_not_compared() {
        let facts = Facts {
            has_data: true,
            ..Facts::default()
        };
        let ran = |tag: &str| Stored {
            ran: vec![Ran {
                version: tag.to_owned(),
                ..Ran::default()
            }],
            ..keyed()
        };
        let cases = [
            ("2026.2.1", "2026.1.9", true),
            ("2026.2", "2026.2.7", false),
            ("2026.2.10", "2026.2.9", true),
            ("latest", "2020.1", false),
        ];
        for (before, wanted, refused) in cases {
            let keys = keys(admit(
                &config(&[("OCTOPUS_SERVER_TAG", wanted)], false),
                &ran(before),
                &facts,
            ));
            assert_eq!(!keys.is_empty(), refused, "{before} to {wanted}");
        }
    }

    #[test]
    fn an_external_database_that_cannot_be_asked_needs_a_key() {
        let more = [
            ("SQL_IMAGE", ""),
            (
                "DB_CONNECTION_STRING",
                "Server=sql.example.com;Database=O;User=u;Password=p",
            ),
        ];
        assert_eq!(
            keys(admit(
                &config(&more, false),
                &Stored::default(),
                &Facts::default()
            )),
            ["MASTER_KEY"]
        );
        let empty = Facts {
            external_database: Some(false),
            ..Facts::default()
        };
        assert_eq!(
            admit(&config(&more, false), &Stored::default(), &empty),
            Ok(MasterKey::Generate)
        );
    }

    #[test]
    fn all_problems_of_the_host_come_at_once() {
        let facts = Facts {
            foreign: vec!["p-db-1".into()],
            taken: vec![("SQL_PORT".into(), 1401, "container other".into())],
            host: Some((1_000_000_000, "aarch64".into())),
            ..Facts::default()
        };
        assert_eq!(
            keys(admit(&config(&[], false), &Stored::default(), &facts)),
            ["p-db-1", "SQL_PORT", "memory", "processor"]
        );
    }
}
