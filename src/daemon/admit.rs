//! Whether a configuration may be applied to what is there: everything that would destroy or strand
//! data, or put somebody beside it, is refused with the way out, before anything is made. Pure: the
//! facts are gathered by `facts`. `plan` and `up` ask the same function.

mod claims;
mod host;
mod key;
mod owners;
mod places;
mod upgrade;
mod versions;

use std::net::IpAddr;

use crate::config::Config;
use crate::config::Problem;
use crate::config::Secret;
use crate::engine::Host;
use crate::spec::StackSpec;

use super::store::Data;
use super::store::Stored;
use super::store::Wish;

pub use claims::Claims;
pub use claims::Foreign;
pub use claims::Kinship;
pub(super) use claims::Known;
pub use claims::Sibling;
pub(super) use claims::foreign;
pub(super) use claims::has_directory;
pub(super) use claims::is_our_container;
pub(super) use claims::kinship;
pub(super) use claims::missing_networks;
pub(super) use claims::volume_users;
pub use owners::Directory;
pub use owners::Owners;
pub use places::Look;
pub use places::Runner;
pub use places::has_data;
pub use places::missing;
pub use places::unfit;
pub use upgrade::LastSet;
pub use upgrade::Online;
pub use upgrade::Saving;

/// What is asked to be applied.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The configuration.
    pub config: &'a Config,
    /// What it means here, its master key aside.
    pub spec: &'a StackSpec,
    /// A new, empty database is meant.
    pub fresh: bool,
    /// The project's name was given on purpose.
    pub name_on_purpose: bool,
    /// Another version is applied without a backup.
    pub no_backup: bool,
    /// The day, where it is known: licences end.
    pub today: Option<time::Date>,
}

/// What a database said of a login.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Login {
    /// It could not be asked, or does not take logins yet.
    #[default]
    Unknown,
    /// It let it in: this very user with this very password.
    Accepted,
    /// It refused it.
    Refused,
}

/// The master key that a node of the project has.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeKey {
    /// The key in its environment.
    pub key: Secret,
    /// The node serves, so it is the database's.
    pub serves: bool,
}

/// What an existing node shows.
#[derive(Clone, Debug, Default)]
pub struct NodeFacts {
    /// The master key in its environment.
    pub key: Option<NodeKey>,
    /// Whose its directories are, where nodes are to run as somebody.
    pub owners: Owners,
}

/// A port that something else holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// The key that chooses it.
    pub key: String,
    /// The address.
    pub ip: IpAddr,
    /// Its number.
    pub port: u16,
    /// Who holds it.
    pub holder: String,
}

/// What of the host's ports, addresses, certificates and places of data cannot be had.
#[derive(Clone, Debug, Default)]
pub struct Ports {
    /// Ports that are taken.
    pub taken: Vec<Taken>,
    /// Addresses that this host does not have, with the keys that choose them.
    pub no_such_address: Vec<(String, IpAddr)>,
    /// What is wrong with the front door's certificate, after the variable that it is about.
    pub certificate: Option<(String, String)>,
    /// What is wrong with the places that a person wants data to be in, and with the networks of
    /// others that nodes are to be on.
    pub places: Vec<Problem>,
}

/// What is known of versions of Octopus Server beside what is kept.
#[derive(Clone, Debug, Default)]
pub struct Versions {
    /// Of the wanted image, as its label says, where the engine has it and will use it.
    pub image: Option<String>,
    /// Of the image that an existing node was made of, as its label says.
    pub node: Option<String>,
    /// Those that were installed on the database last, as its own table says.
    pub database: Vec<String>,
    /// What the backup before an upgrade will need, where the configuration looks like one.
    pub saving: Option<Saving>,
    /// The nodes that Octopus Server says run, in the same case.
    pub online: Vec<Online>,
}

/// What was found out about the host and the data before anything is touched.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// A volume of the name of the project's SQL volume exists, or there is something in the place
    /// that a person chose for it.
    pub has_data: bool,
    /// The external database exists; none when it could not be asked.
    pub external_database: Option<bool>,
    /// What the external server says of the configured login.
    pub external_login: Login,
    /// The directory of the stack that runs under this name, when it is another.
    pub other_dir: Option<String>,
    /// Whether existing containers or volumes belong to a demo.
    pub is_demo: Option<bool>,
    /// What the running SQL Server says of the configured `sa` password.
    pub sa_login: Login,
    /// What an existing node shows.
    pub node: NodeFacts,
    /// What has a name that is to be ours, and belongs to somebody else.
    pub foreign: Vec<Foreign>,
    /// Running containers of others that use our SQL volume.
    pub volume_users: Vec<String>,
    /// What looks like this project's data and is not known to be.
    pub claims: Claims,
    /// Other projects of octo-local on this machine that have to do with this one.
    pub siblings: Vec<Sibling>,
    /// What of the host's ports and addresses cannot be had.
    pub ports: Ports,
    /// The engine that what is kept is about, and this one, where they differ.
    pub elsewhere: Option<(String, String)>,
    /// What the engine's host has.
    pub host: Option<Host>,
    /// What is known of versions of Octopus Server.
    pub versions: Versions,
}

impl Facts {
    /// Whether applying the configuration makes a new, empty database; none when nobody knows.
    pub fn makes_database(&self, config: &Config) -> Option<bool> {
        if config.sql.is_some() {
            return Some(!self.has_data);
        }
        self.external_database.map(|exists| !exists)
    }
}

/// Where the master key comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum MasterKey {
    /// The person's, or one that is kept.
    Known(Secret),
    /// A new database, and no key is kept: one is made before the first node starts.
    Generate,
}

/// A configuration that may be applied.
#[derive(Clone, Debug, PartialEq)]
pub struct Admitted {
    /// Where its master key comes from.
    pub key: MasterKey,
    /// What the person should know before.
    pub notes: Vec<String>,
}

/// Every reason not to apply the configuration, or what to apply it with.
pub fn admit(asked: &Asked<'_>, stored: &Stored, facts: &Facts) -> Result<Admitted, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut notes = Vec::new();
    place(asked, stored, facts, &mut problems);
    origin(asked, facts, &mut problems);
    claims::judge(asked, stored, facts, &mut problems, &mut notes);
    password(asked, stored, facts, &mut problems);
    versions::judge(asked, stored, facts, &mut problems, &mut notes);
    upgrade::judge(asked, stored, facts, &mut problems, &mut notes);
    host::judge(asked.config, facts, &mut problems, &mut notes);
    owners::judge(asked, facts, &mut problems);
    newness(asked, facts, &mut notes);
    let key = key::choose(asked, stored, facts, &mut problems);
    match key {
        Some(key) if problems.is_empty() => Ok(Admitted { key, notes }),
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

/// Whether a new stack here would take the place of what is kept of the data on another engine. An
/// engine that has the data is the same one with a new address.
fn would_displace<'a>(
    asked: &Asked<'_>,
    stored: &Stored,
    facts: &'a Facts,
) -> Option<&'a (String, String)> {
    let has_more = stored.is_up() || stored.master_key().is_some();
    let is_new = asked.config.sql.is_some() && !facts.has_data;
    facts.elsewhere.as_ref().filter(|_| is_new && has_more)
}

fn place(asked: &Asked<'_>, stored: &Stored, facts: &Facts, problems: &mut Vec<Problem>) {
    if let Some((there, here)) = would_displace(asked, stored, facts) {
        let fix = format!("ask with DOCKER_HOST={there}; or use another project name with -p");
        problems.push(problem("DOCKER_HOST", kept_elsewhere(there, here), fix));
        return;
    }
    let data = Data::of(asked.spec);
    // A `down --volumes` that was broken off took it away because that was asked for.
    let is_meant = asked.fresh || stored.wish == Wish::Down { volumes: true };
    if facts.has_data || !stored.had_data(&data) || is_meant {
        return;
    }
    match &data {
        Data::Volume(volume) => problems.push(problem(
            volume,
            "the volume with this project's database is gone from this Docker Engine, and `up` would make a new, empty \
             database in its place; the master key is still kept",
            "bring the volume back (is the engine's data directory mounted? is it the right engine?), restore a backup into \
             a volume of this name, or ask with --fresh if a new, empty database is meant",
        )),
        Data::Theirs(place) | Data::Directory(place) => problems.push(problem(
            place,
            "this project's database was here and is gone, and `up` would make a new, empty one in its place; the master \
             key is still kept",
            "bring it back (is the disk mounted?), or ask with --fresh if a new, empty database is meant",
        )),
        Data::External { .. } => {}
    }
}

fn origin(asked: &Asked<'_>, facts: &Facts, problems: &mut Vec<Problem>) {
    if let Some(dir) = &facts.other_dir {
        let why = format!("a stack of this name was made from {dir}");
        problems.push(problem(
            "project name",
            why,
            "go there, or give another name with -p, or this one on purpose with -p",
        ));
    }
    match facts.is_demo {
        Some(true) if !asked.config.demo => problems.push(problem(
            "--demo",
            "this project holds a demo's data, which a real server must not open",
            "use another name with -p",
        )),
        Some(false) if asked.config.demo => problems.push(problem(
            "--demo",
            "this project holds a real stack's data, which a stand-in must not open",
            "use another name with -p",
        )),
        Some(_) | None => {}
    }
}

/// A password that the data does not know would lock everybody out.
fn password(asked: &Asked<'_>, stored: &Stored, facts: &Facts, problems: &mut Vec<Problem>) {
    let Some(sql) = &asked.config.sql else {
        if facts.external_login == Login::Refused {
            let target = &asked.spec.database;
            problems.push(problem(
                "DB_CONNECTION_STRING",
                format!(
                    "SQL Server at {}:{} refuses its user or password (error 18456); nodes are left as they are",
                    target.host, target.port
                ),
                "correct User Id and Password in it, or set them in that server first",
            ));
        }
        return;
    };
    if !facts.has_data {
        return;
    }
    // It is the password of what was applied, which may be elsewhere.
    let data = Data::of(asked.spec);
    let of_this = |applied: &StackSpec| Data::of(applied) == data;
    let is_of_this = stored.spec.as_ref().is_none_or(of_this);
    let kept = stored.sa.known.as_ref().filter(|_| is_of_this);
    let why = match facts.sa_login {
        Login::Accepted => return,
        Login::Refused => {
            "the running SQL Server refuses it, and ignores a new one once it has data"
        }
        Login::Unknown if kept.is_some_and(|kept| *kept != sql.sa_password) => {
            "it differs from the one that this data last accepted, and SQL Server ignores a new one once it has data"
        }
        Login::Unknown => return,
    };
    let fix = if stored.sa.change.is_some() {
        "a change of it is not done: `octo-local sa-password rotate` goes on, and writes the new one where the variables are"
    } else {
        "set it back; to change it, `octo-local sa-password rotate`"
    };
    problems.push(problem("SA_PASSWORD", why, fix));
}

/// Nobody is to take a new, empty database for an old one.
fn newness(asked: &Asked<'_>, facts: &Facts, notes: &mut Vec<String>) {
    let data = Data::of(asked.spec);
    match facts.makes_database(asked.config) {
        Some(true) if !asked.config.demo => notes.push(format!(
            "the database is new and empty: there is none in {data} yet"
        )),
        Some(false) if asked.fresh => notes.push(format!(
            "--fresh changes nothing: there is a database already ({data}), and it is used; -p NAME makes another one"
        )),
        Some(_) | None => {}
    }
}

#[cfg(test)]
mod tests;
