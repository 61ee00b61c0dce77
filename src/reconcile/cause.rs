//! Why a unit failed, and what mends it: from the exit code, the engine's words and the last log
//! lines to one named cause.
//!
//! A *permanent* cause stops the retrying until the configuration changes: trying again cannot
//! help, and a restart storm hides the message. A cause that the *host* may cure (a full disk, a
//! taken port) is looked at again slowly and never counts as a crash. Everything else is
//! *transient*: restart, with backoff.

use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;
use time::PrimitiveDateTime;

use crate::spec::Role;
use crate::spec::UnitId;

/// A named cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Cause {
    /// A licence agreement was not accepted.
    Eula,
    /// The Octopus licence expired or does not cover this version.
    LicenceExpired,
    /// More nodes than the licence allows.
    LicenceNodeLimit,
    /// The database was encrypted with another master key.
    MasterKeyWrong,
    /// The database needs a master key and none was given.
    MasterKeyMissing,
    /// SQL Server refuses our password: its data was made with another one.
    PasswordRefused,
    /// SQL Server refuses to be set up with such a password.
    PasswordTooWeak,
    /// SQL Server needs 2 GB of memory.
    NotEnoughMemory,
    /// The data was written by a newer SQL Server.
    SqlDataNewer,
    /// A database is suspect: it cannot be opened.
    DatabaseSuspect,
    /// The image is for another processor.
    WrongArchitecture,
    /// The image's user may not write to a volume.
    VolumePermissions,
    /// SQL Server's known crash on newer kernels.
    KernelTooNew,
    /// The connection string names a host that does not exist.
    WrongHost,
    /// The host cannot run privileged containers.
    PrivilegedRefused,
    /// The database was upgraded by a newer Octopus Server.
    OctopusDataNewer,
    /// Nodes of two versions, or two upgrades at once, met on the database.
    NodesCollided,
    /// A container, network or volume of that name exists that is not ours.
    NameTaken,
    /// Another container uses our data volume.
    VolumeInUse,
    /// A directory or a volume that a person chose is not there.
    PlaceGone,
    /// Something else listens on a port that we publish.
    PortTaken,
    /// The disk is full.
    DiskFull,
    /// The image is not there and cannot be fetched.
    ImageMissing,
    /// The engine has no free address range for another network.
    NoSubnet,
    /// The kernel killed it for memory.
    OutOfMemory,
    /// Octopus Server gave up on reaching its database.
    DatabaseUnreachable,
    /// It ended with success, which a server never should.
    ExitedZero,
    /// It ended with an error that we do not know.
    Crashed,
    /// It accepted connections and answered nothing.
    Hung,
    /// It stopped making progress before it was ever ready.
    StuckStarting,
    /// Its database went away while it was still starting.
    LostDatabase,
    /// Octopus Server does not take a Tentacle's registration, or does not let go of it.
    NotRegistered,
    /// The engine could not do what was asked.
    EngineError,
}

/// How a cause is treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// No retry until the configuration changes.
    Permanent,
    /// Looked at again slowly; never counted as a crash.
    Host,
    /// Restarted with backoff.
    Transient,
}

/// What is known about a failure.
#[derive(Clone, Debug, Default)]
pub struct Evidence<'a> {
    /// The exit code, if a process ended.
    pub code: Option<i64>,
    /// Whether the kernel killed it for memory.
    pub oom: bool,
    /// Whether the run served: what its log says then does not keep it from starting.
    pub served: bool,
    /// What the engine said, if it said anything.
    pub engine: Option<&'a str>,
    /// The last lines of the unit's log.
    pub lines: &'a [String],
}

/// How many log lines a failure keeps.
pub const LINES_KEPT: usize = 20;

/// A unit's failure, as remembered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// The name of the cause.
    pub cause: Cause,
    /// The words it came with: the engine's error or the telling log line.
    pub detail: String,
    /// The last log lines, at most [`LINES_KEPT`].
    pub lines: Vec<String>,
    /// The exit code, if a process ended.
    pub code: Option<i64>,
}

/// Texts of the engine (moby, containerd, runc) and what they mean. Lower case; all parts must
/// occur.
const ENGINE_WORDS: &[(&[&str], Cause)] = &[
    (&["unable to apply caps"], Cause::PrivilegedRefused),
    (&["privileged", "not permitted"], Cause::PrivilegedRefused),
    (&["privileged", "not allowed"], Cause::PrivilegedRefused),
    (&["error setting capabilities"], Cause::PrivilegedRefused),
    (&["port is already allocated"], Cause::PortTaken),
    (&["address already in use"], Cause::PortTaken),
    (&["ports are not available"], Cause::PortTaken),
    (&["no space left on device"], Cause::DiskFull),
    (&["oom-killed"], Cause::OutOfMemory),
    (&["cannot allocate memory"], Cause::OutOfMemory),
    (&["bind source path does not exist"], Cause::PlaceGone),
    (&["no such image"], Cause::ImageMissing),
    (&["pull access denied"], Cause::ImageMissing),
    (&["manifest unknown"], Cause::ImageMissing),
    (&["manifest for", "not found"], Cause::ImageMissing),
    (&["exec format error"], Cause::WrongArchitecture),
    (
        &["does not match the specified platform"],
        Cause::WrongArchitecture,
    ),
    (&["no matching manifest for"], Cause::WrongArchitecture),
    (&["is already in use by"], Cause::NameTaken),
    (&["network with name", "already exists"], Cause::NameTaken),
    (&["non-overlapping ipv4 address pool"], Cause::NoSubnet),
    (&["all predefined address pools"], Cause::NoSubnet),
    // Whatever kept an image from being fetched: the words say what, and when that is over nobody
    // knows.
    (&["invalid reference format"], Cause::ImageMissing),
    (&["pull image"], Cause::ImageMissing),
];

/// How a process ended, as far as that says whether it wanted to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exit {
    /// It ended because it was told to, or thinks that it did its work: 0, or by SIGTERM (143).
    Clean,
    /// Somebody, or the kernel, killed it (137), or nobody knows how it ended.
    Killed,
    /// It ended itself with an error.
    Error,
}

impl Exit {
    fn of(code: Option<i64>) -> Self {
        match code {
            Some(0 | 143) => Self::Clean,
            Some(137) | None => Self::Killed,
            Some(_) => Self::Error,
        }
    }
}

/// One row of what a log says: in whose log, how the process must have ended, and what its words
/// (lower case; all of them in one line) mean.
struct LogRow {
    role: Option<Role>,
    exit: Option<Exit>,
    words: &'static [&'static str],
    cause: Cause,
}

/// A row of any unit's log.
const fn any(words: &'static [&'static str], cause: Cause) -> LogRow {
    LogRow {
        role: None,
        exit: Some(Exit::Error),
        words,
        cause,
    }
}

/// A row of SQL Server's log.
const fn sql(words: &'static [&'static str], cause: Cause) -> LogRow {
    LogRow {
        role: Some(Role::Database),
        exit: Some(Exit::Error),
        words,
        cause,
    }
}

/// A row of the log of an Octopus Server.
const fn node(words: &'static [&'static str], cause: Cause) -> LogRow {
    LogRow {
        role: Some(Role::Server),
        exit: Some(Exit::Error),
        words,
        cause,
    }
}

/// A row of a Tentacle's log.
const fn tentacle(words: &'static [&'static str]) -> LogRow {
    LogRow {
        role: Some(Role::Tentacle),
        exit: Some(Exit::Error),
        words,
        cause: Cause::NotRegistered,
    }
}

/// To add a cause that a log tells: a row here, the variant in [`Cause`], its class, title and fix
/// below, and a line in the test of vendor lines.
///
/// A line counts only near the end of a run that never served and ended itself with an error;
/// anything else that it says in a long life (a permission of some user, a licence that will
/// expire) is no reason of its end. Sources: the vendor images; Microsoft's mssql-docker issues
/// 776, 465, 771, 790, 868, 582 and Octopus' Issues 7266, 9828, 8745, 7650, 6507.
const LOG_WORDS: &[LogRow] = &[
    any(&["must accept the eula"], Cause::Eula),
    any(&["accept_eula"], Cause::Eula),
    any(&["end-user license agreement"], Cause::Eula),
    sql(&["password validation failed"], Cause::PasswordTooWeak),
    sql(
        &["does not meet sql server password policy"],
        Cause::PasswordTooWeak,
    ),
    sql(&["at least 2000 megabytes"], Cause::NotEnoughMemory),
    sql(&["a downgrade path is not supported"], Cause::SqlDataNewer),
    sql(&["error: 948"], Cause::SqlDataNewer),
    sql(&["error: 926"], Cause::DatabaseSuspect),
    sql(&["marked suspect"], Cause::DatabaseSuspect),
    sql(
        &["error 32(", "used by another process"],
        Cause::VolumeInUse,
    ),
    sql(&["error 5(access is denied.)"], Cause::VolumePermissions),
    sql(
        &["invalid mapping of address", "reserved address space"],
        Cause::WrongArchitecture,
    ),
    sql(&["sigabrt"], Cause::KernelTooNew),
    sql(&["signal 6"], Cause::KernelTooNew),
    node(
        &["would not be compliant with your license"],
        Cause::LicenceExpired,
    ),
    node(&["license", "expired"], Cause::LicenceExpired),
    node(&["license only allows"], Cause::LicenceNodeLimit),
    node(&["master key is invalid"], Cause::MasterKeyWrong),
    node(&["enter a valid master key"], Cause::MasterKeyMissing),
    node(&["schema is newer"], Cause::OctopusDataNewer),
    node(&["two nodes are migrating"], Cause::NodesCollided),
    node(&["mixed versions"], Cause::NodesCollided),
    node(
        &["access to the path", "is denied"],
        Cause::VolumePermissions,
    ),
    node(&["name or service not known"], Cause::WrongHost),
    node(&["no such host is known"], Cause::WrongHost),
    LogRow {
        role: Some(Role::Server),
        exit: None,
        words: &["connection test to \"master\" timed out"],
        cause: Cause::DatabaseUnreachable,
    },
    // OctopusClients, `Octopus.Client/Operations/RegisterMachineOperation.cs` and its like: what a
    // registration names must exist, and the key must be of somebody who may see it.
    tentacle(&["could not find the", "on the octopus server"]),
    tentacle(&["api key you provided was not valid"]),
    tentacle(&["do not have permission"]),
    any(&["no space left on device"], Cause::DiskFull),
    any(&["not enough space on the disk"], Cause::DiskFull),
    any(&["permission denied"], Cause::VolumePermissions),
    any(&["exec format error"], Cause::WrongArchitecture),
];

/// How many of the last lines may tell why a run ended: the exception of a .NET process is that
/// long, with its stack.
const TELLING_LINES: usize = 40;
/// How long before the last line a line may have been written that tells why a run ended.
const TELLING_TIME: Duration = Duration::from_secs(20);

/// The exit code of a process that SIGABRT ended.
const ABORTED: i64 = 134;

/// Names the cause of a failed start or an ended run.
pub fn of_unit(unit: UnitId, evidence: &Evidence<'_>) -> Failure {
    let oom = || {
        let why = "the kernel killed it for memory".to_owned();
        evidence.oom.then_some((Cause::OutOfMemory, why))
    };
    let (cause, detail) = engine_cause(evidence)
        .or_else(oom)
        .or_else(|| log_cause(unit, evidence))
        .unwrap_or_else(|| by_exit_code(evidence));
    let mut failure = Failure {
        cause,
        detail,
        lines: Vec::new(),
        code: evidence.code,
    };
    failure.quote(evidence.lines);
    failure
}

/// What the engine's words mean, if they are known.
pub fn of_words(words: &str) -> Option<Cause> {
    lookup(ENGINE_WORDS, &words.to_lowercase())
}

/// Whether a connection failed because nobody knows the host by that name.
pub fn is_unknown_host(words: &str) -> bool {
    let lower = words.to_lowercase();
    let is_said = |row: &&LogRow| row.words.iter().all(|word| lower.contains(word));
    LOG_WORDS.iter().find(is_said).map(|row| row.cause) == Some(Cause::WrongHost)
}

fn engine_cause(evidence: &Evidence<'_>) -> Option<(Cause, String)> {
    let words = evidence.engine.filter(|words| !words.is_empty())?;
    let lower = words.to_lowercase();
    let cause = lookup(ENGINE_WORDS, &lower).unwrap_or(Cause::EngineError);
    Some((cause, words.to_owned()))
}

/// The newest telling line wins: what it said last is why it ended.
fn log_cause(unit: UnitId, evidence: &Evidence<'_>) -> Option<(Cause, String)> {
    let found = last_words(evidence.lines).rev().find_map(|line| {
        let lower = line.to_lowercase();
        let row = LOG_WORDS
            .iter()
            .find(|row| row.tells(unit, evidence, &lower))?;
        Some((row.cause, line.trim().to_owned()))
    });
    let aborted = unit.is_database() && evidence.code == Some(ABORTED) && !evidence.served;
    found.or_else(|| aborted.then(|| (Cause::KernelTooNew, "ended by SIGABRT".to_owned())))
}

impl LogRow {
    fn tells(&self, unit: UnitId, evidence: &Evidence<'_>, lower: &str) -> bool {
        let is_believed = match self.cause.class() {
            Class::Permanent => !evidence.served,
            Class::Host | Class::Transient => true,
        };
        is_believed
            && self.role.is_none_or(|role| role == unit.role())
            && self.exit.is_none_or(|exit| exit == Exit::of(evidence.code))
            && self.words.iter().all(|word| lower.contains(word))
    }
}

/// The lines that were written shortly before the end: at most [`TELLING_LINES`], and of those with
/// a time of their own none that is older than [`TELLING_TIME`] before the newest.
fn last_words(lines: &[String]) -> impl DoubleEndedIterator<Item = &String> {
    let last = &lines[lines.len().saturating_sub(TELLING_LINES)..];
    let newest = last.iter().rev().find_map(|line| time_of(line));
    // What follows a line without a time of its own, such as a stack, is of that line's time.
    let is_old = move |line: &String| {
        let ages = newest.zip(time_of(line));
        ages.is_some_and(|(newest, at)| newest - at > TELLING_TIME)
    };
    let first = last.iter().rposition(is_old).map_or(0, |old| old + 1);
    last[first..].iter()
}

/// The time that SQL Server and Octopus Server begin their lines with, to the second.
fn time_of(line: &str) -> Option<PrimitiveDateTime> {
    let format = time::macros::format_description!("[year]-[month]-[day] [hour]:[minute]:[second]");
    PrimitiveDateTime::parse(line.trim_start().get(..19)?, format).ok()
}

fn by_exit_code(evidence: &Evidence<'_>) -> (Cause, String) {
    match evidence.code {
        Some(0) => (Cause::ExitedZero, "it ended with exit code 0".to_owned()),
        Some(137) => (Cause::Crashed, "it was killed (exit code 137)".to_owned()),
        Some(code) => (Cause::Crashed, format!("it ended with exit code {code}")),
        None => (Cause::Crashed, "it ended".to_owned()),
    }
}

fn lookup(table: &[(&[&str], Cause)], lower: &str) -> Option<Cause> {
    table
        .iter()
        .find(|(words, _)| words.iter().all(|word| lower.contains(word)))
        .map(|(_, cause)| *cause)
}

impl Failure {
    /// Keeps the last of these log lines.
    pub fn quote(&mut self, lines: &[String]) {
        self.lines = lines[lines.len().saturating_sub(LINES_KEPT)..].to_vec();
    }
}

/// What may bound the memory of a container.
const MORE_MEMORY: &str = "give the host more memory, lower SQL_MEMORY_LIMIT_MB, or raise OCTOPUS_MEMORY or SQL_MEMORY where they are set";

impl Cause {
    /// How it is treated.
    pub fn class(self) -> Class {
        match self {
            Self::Eula
            | Self::LicenceExpired
            | Self::LicenceNodeLimit
            | Self::MasterKeyWrong
            | Self::MasterKeyMissing
            | Self::PasswordRefused
            | Self::PasswordTooWeak
            | Self::NotEnoughMemory
            | Self::SqlDataNewer
            | Self::DatabaseSuspect
            | Self::WrongArchitecture
            | Self::VolumePermissions
            | Self::KernelTooNew
            | Self::WrongHost
            | Self::PrivilegedRefused
            | Self::OctopusDataNewer
            | Self::NodesCollided
            | Self::NameTaken => Class::Permanent,
            Self::PortTaken
            | Self::DiskFull
            | Self::ImageMissing
            | Self::NoSubnet
            | Self::PlaceGone
            | Self::VolumeInUse => Class::Host,
            Self::OutOfMemory
            | Self::DatabaseUnreachable
            | Self::ExitedZero
            | Self::Crashed
            | Self::Hung
            | Self::StuckStarting
            | Self::LostDatabase
            | Self::NotRegistered
            | Self::EngineError => Class::Transient,
        }
    }

    /// What happened, as a fragment.
    pub fn title(self) -> &'static str {
        match self {
            Self::Eula => "a licence agreement was not accepted",
            Self::LicenceExpired => "the Octopus licence does not cover this version",
            Self::LicenceNodeLimit => "the Octopus licence allows fewer nodes",
            Self::MasterKeyWrong => "the database was encrypted with another master key",
            Self::MasterKeyMissing => "the database needs its master key",
            Self::PasswordRefused => "SQL Server refuses the password",
            Self::PasswordTooWeak => "the SQL password breaks SQL Server's policy",
            Self::NotEnoughMemory => "SQL Server needs 2 GB of memory",
            Self::SqlDataNewer => "the data was written by a newer SQL Server",
            Self::DatabaseSuspect => "a database is suspect",
            Self::WrongArchitecture => "the image is for another processor",
            Self::VolumePermissions => "a volume cannot be written by the image's user",
            Self::KernelTooNew => "this SQL Server crashes on this kernel",
            Self::WrongHost => "the connection string names a host that does not exist",
            Self::PrivilegedRefused => "this host cannot run privileged containers",
            Self::OctopusDataNewer => "the database was upgraded by a newer Octopus Server",
            Self::NodesCollided => "two nodes upgraded, or two versions used, the database at once",
            Self::NameTaken => "something of that name exists that is not ours",
            Self::VolumeInUse => "another container uses the data volume",
            Self::PlaceGone => "a directory or volume that is to be mounted is not there",
            Self::PortTaken => "the port is taken",
            Self::DiskFull => "the disk is full",
            Self::ImageMissing => "the image is not there and cannot be fetched",
            Self::NoSubnet => "the engine has no address range left for a network",
            Self::OutOfMemory => "out of memory",
            Self::DatabaseUnreachable => "Octopus Server could not reach its database",
            Self::ExitedZero => "it ended without an error",
            Self::Crashed => "it crashed",
            Self::Hung => "it hung",
            Self::StuckStarting => "its start made no progress",
            Self::LostDatabase => "its database went away while it was starting",
            Self::NotRegistered => "Octopus Server refuses what a Tentacle is registered as",
            Self::EngineError => "the engine refused",
        }
    }

    /// What a person can do about it.
    pub fn fix(self) -> &'static str {
        match self {
            Self::Eula => "set ACCEPT_EULA=Y and ACCEPT_OCTOPUS_EULA=Y, then `octo-local up`",
            Self::LicenceExpired => {
                "put a current licence into OCTOPUS_SERVER_BASE64_LICENSE, or go back to the tag before"
            }
            Self::LicenceNodeLimit => {
                "lower OCTOPUS_NODES or put a licence with more nodes into OCTOPUS_SERVER_BASE64_LICENSE"
            }
            Self::MasterKeyWrong | Self::MasterKeyMissing => {
                "set MASTER_KEY to the key this database was made with (see your backup of it), then `octo-local up`"
            }
            Self::PasswordRefused => {
                "set SA_PASSWORD to the password this volume was made with; to change it, `octo-local sa-password rotate`"
            }
            Self::PasswordTooWeak => {
                "choose an SA_PASSWORD of 8 to 128 characters, with three of upper case, lower case, digits and symbols"
            }
            Self::NotEnoughMemory => "give the Docker host 2 GB of memory or more",
            Self::SqlDataNewer => {
                "set SQL_IMAGE back to the newer version that wrote this data: SQL Server cannot go back"
            }
            Self::DatabaseSuspect => "restore the database from a backup; its files are damaged",
            Self::WrongArchitecture => "both images are for x86-64 only: use such a host",
            Self::VolumePermissions => {
                "give the volume to the image's user: `chown -R 10001:0` for SQL Server, 999 (once 1999) for Octopus; check SELinux"
            }
            Self::KernelTooNew => {
                "use SQL Server 2022 CU12 or newer in SQL_IMAGE: older ones crash on kernels from 6.7"
            }
            Self::WrongHost => "correct the server in DB_CONNECTION_STRING, or leave it out",
            Self::PrivilegedRefused => {
                "set DISABLE_DIND=Y: the nodes then run without Docker-in-Docker and without privileges"
            }
            Self::OctopusDataNewer => {
                "set OCTOPUS_SERVER_TAG to the newer version again: the database cannot go back"
            }
            Self::NodesCollided => {
                "something else uses this database: stop it, then `octo-local up`"
            }
            Self::NameTaken => {
                "what has the name may hold data: leave it, and choose another project name with -p"
            }
            Self::VolumeInUse => "stop the other container that mounts the volume",
            Self::PlaceGone => {
                "bring it back (is its disk mounted?), or correct SQL_DATA, REPOSITORY, ARTIFACTS, TASK_LOGS, EVENT_EXPORTS, IMPORT, EXTRA_MOUNTS"
            }
            Self::PortTaken => {
                "stop what holds it, or choose another port (OCTOPUS_PORT, SQL_PORT)"
            }
            Self::DiskFull => "free some disk space; the stack goes on by itself",
            Self::ImageMissing => {
                "check the image name and tag, `docker login`, and the network; PULL says when images are fetched"
            }
            Self::NoSubnet => {
                "remove unused networks with `docker network prune`, or widen default-address-pools"
            }
            Self::OutOfMemory => MORE_MEMORY,
            Self::DatabaseUnreachable | Self::LostDatabase => {
                "nothing: it is started again once the database answers"
            }
            Self::ExitedZero | Self::Crashed => "see the log lines; it is restarted",
            Self::Hung => "nothing: it is restarted",
            Self::StuckStarting => {
                "see the log lines; it is restarted; NODE_START_LIMIT and SQL_START_LIMIT bound the wait"
            }
            Self::NotRegistered => {
                "check that its space, environments or worker pool exist in Octopus, and ADMIN_API_KEY; it is tried again"
            }
            Self::EngineError => "see the engine's words; it is tried again",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cause_of(unit: UnitId, code: i64, lines: &[&str]) -> Cause {
        let lines: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
        of_unit(
            unit,
            &Evidence {
                code: Some(code),
                lines: &lines,
                ..Evidence::default()
            },
        )
        .cause
    }

    #[test]
    fn vendor_lines_name_their_cause() {
        let node = UnitId::Node(1);
        let cases = [
            (node, 1, "ERROR: You must accept the EULA", Cause::Eula),
            (
                node,
                1,
                "FAIL: Your Octopus Server would not be compliant with your license",
                Cause::LicenceExpired,
            ),
            (
                node,
                1,
                "Your Octopus Deploy license only allows 1 active nodes. You currently have 2",
                Cause::LicenceNodeLimit,
            ),
            (
                node,
                1,
                "Please enter a valid master key",
                Cause::MasterKeyMissing,
            ),
            (
                node,
                1,
                "Connection test to \"master\" timed out after trying for 30 seconds",
                Cause::DatabaseUnreachable,
            ),
            (
                UnitId::Sql,
                255,
                "ERROR: Unable to set system administrator password: Password validation failed.",
                Cause::PasswordTooWeak,
            ),
            (
                UnitId::Sql,
                1,
                "This program requires a machine with at least 2000 megabytes of memory.",
                Cause::NotEnoughMemory,
            ),
            (
                UnitId::Sql,
                1,
                "sqlservr: Unable to open instance_id: Permission denied errno = 0xD(13)",
                Cause::VolumePermissions,
            ),
            (
                UnitId::Sql,
                1,
                "This server supports version 957 and earlier. A downgrade path is not supported.",
                Cause::SqlDataNewer,
            ),
            (
                UnitId::Sql,
                1,
                "Error: 17113. Error 32(The process cannot access the file because it is being used by another process.)",
                Cause::VolumeInUse,
            ),
            (UnitId::Sql, 134, "whatever", Cause::KernelTooNew),
            (node, 134, "whatever", Cause::Crashed),
            (node, 0, "bye", Cause::ExitedZero),
        ];
        for (unit, code, line, cause) in cases {
            assert_eq!(cause_of(unit, code, &["hello", line]), cause, "{line}");
        }
    }

    /// Answers of moby 20.10, 26, 28 and 29 to the same requests.
    #[test]
    fn engines_of_all_ages_name_their_cause() {
        let cases = [
            (
                "driver failed programming external connectivity on endpoint a (x): Bind for 127.0.0.1:8080 failed: port is already allocated",
                Cause::PortTaken,
            ),
            (
                "failed to set up container networking: driver failed programming external connectivity on endpoint a (x): failed to bind host port for 0.0.0.0:8080:172.18.0.2:8080/tcp: address already in use",
                Cause::PortTaken,
            ),
            (
                "failed to set up container networking: driver failed programming external connectivity on endpoint a (x): failed to bind host port 127.0.0.1:8080/tcp: address already in use",
                Cause::PortTaken,
            ),
            (
                "Conflict. The container name \"/a\" is already in use by container \"x\". You have to remove (or rename) that container to be able to reuse that name.",
                Cause::NameTaken,
            ),
            (
                "network with name a_default already exists",
                Cause::NameTaken,
            ),
            ("No such image: a:1", Cause::ImageMissing),
            (
                "pull image a:1: there is none: Error response from daemon: failed to resolve reference",
                Cause::ImageMissing,
            ),
            (
                "invalid reference format: repository name (A/b) must be lowercase",
                Cause::ImageMissing,
            ),
            (
                "could not find an available, non-overlapping IPv4 address pool among the defaults to assign to the network",
                Cause::NoSubnet,
            ),
            (
                "all predefined address pools have been fully subnetted",
                Cause::NoSubnet,
            ),
            (
                "pull image a:1: the disk is full: write /var/lib/x: no space left on device",
                Cause::DiskFull,
            ),
            (
                "no matching manifest for linux/arm64/v8 in the manifest list entries",
                Cause::WrongArchitecture,
            ),
            // runc from 1.1 on (`libcontainer/process_linux.go`), and the kernel's word for a host
            // that has no memory for another process.
            (
                "failed to create task for container: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: container init was OOM-killed (memory limit too low?): unknown",
                Cause::OutOfMemory,
            ),
            (
                "failed to create task for container: failed to start shim: fork/exec /usr/bin/containerd-shim-runc-v2: cannot allocate memory: unknown",
                Cause::OutOfMemory,
            ),
        ];
        for (words, cause) in cases {
            assert_eq!(of_words(words), Some(cause), "{words}");
        }
    }

    #[test]
    fn a_telling_line_is_believed_only_of_a_start_that_ended_itself_shortly_after_it() {
        let told = "2026-01-01 00:01:00.12 Error   Access to the path '/repository' is denied.";
        let after = |seconds: u32, count: u32| -> Vec<String> {
            let line = |number| format!("2026-01-01 00:01:{seconds:02}.50 Info line {number}");
            std::iter::once(told.to_owned())
                .chain((0..count).map(line))
                .collect()
        };
        let cause = |code: i64, served: bool, lines: &[String]| {
            let evidence = Evidence {
                code: Some(code),
                served,
                lines,
                ..Evidence::default()
            };
            of_unit(UnitId::Node(1), &evidence).cause
        };
        let near = after(5, 3);
        assert_eq!(cause(1, false, &near), Cause::VolumePermissions);
        assert_eq!(cause(1, true, &near), Cause::Crashed, "it had served");
        for clean in [0, 137, 143] {
            let class = of_unit(
                UnitId::Node(1),
                &Evidence {
                    code: Some(clean),
                    lines: &near,
                    ..Evidence::default()
                },
            )
            .cause
            .class();
            assert_eq!(class, Class::Transient, "{clean}");
        }
        assert_eq!(cause(1, false, &after(30, 3)), Cause::Crashed, "long ago");
        assert_eq!(cause(1, false, &after(5, 45)), Cause::Crashed, "far away");
        let licence = ["License expired".to_owned()];
        let of_sql = Evidence {
            code: Some(1),
            lines: &licence,
            ..Evidence::default()
        };
        assert_eq!(of_unit(UnitId::Sql, &of_sql).cause, Cause::Crashed);
    }

    #[test]
    fn the_engines_words_come_before_the_log() {
        let lines = vec!["permission denied".to_owned()];
        let engine = Some("Bind for 0.0.0.0:8080 failed: port is already allocated");
        let failure = of_unit(
            UnitId::Node(1),
            &Evidence {
                code: Some(128),
                engine,
                lines: &lines,
                ..Evidence::default()
            },
        );
        assert_eq!(failure.cause, Cause::PortTaken);
        assert_eq!(failure.cause.class(), Class::Host);
    }

    #[test]
    fn at_most_twenty_lines_are_kept() {
        let lines: Vec<String> = (0..50).map(|number| number.to_string()).collect();
        let failure = of_unit(
            UnitId::Sql,
            &Evidence {
                lines: &lines,
                ..Evidence::default()
            },
        );
        assert_eq!(
            (failure.lines.len(), failure.lines[19].as_str()),
            (20, "49")
        );
    }
}
