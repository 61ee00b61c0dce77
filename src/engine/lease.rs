//! One daemon for each project on one engine, by whatever address and from whatever host: the one
//! that holds the lease, a volume on the engine itself. A lock on this host could not tell.
//!
//! Leases are volumes `<project>_octo-local-lease-<n>`. To make a volume of a name is atomic: the
//! second who tries gets the first one's labels back, and so learns who has it. The newest number
//! counts. Its owner renews it by making the next one and removing the last; whoever finds the
//! newest one abandoned makes the next one. They carry a label of their own and not the project's,
//! so that nobody takes them for data.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use bollard::models::VolumeCreateRequest;
use sha2::Digest as _;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::Engine;
use super::EngineError;
use super::QUICK;
use super::SLOW;
use super::observe::filter;
use super::ours;
use super::ours::LEASE_LABEL as LABEL;
use super::shown;
use crate::config::project::ProjectName;

/// How often an owner renews its lease. Slow: it costs four calls.
pub const RENEW_EVERY: Duration = Duration::from_secs(60);
/// How long after its last renewal, by the engine's clock, a lease is abandoned, unless its owner is
/// known to live. Five renewals: an engine or a host may be away for a while.
pub const ABANDONED_AFTER: Duration = Duration::from_secs(5 * 60);

const HOST: &str = "octo-local.lease.host";
const BOOT: &str = "octo-local.lease.boot";
const NAMESPACE: &str = "octo-local.lease.pid-namespace";
const PROCESS: &str = "octo-local.lease.pid";
const STARTED: &str = "octo-local.lease.started";
const USER: &str = "octo-local.lease.uid";
const HOST_NAME: &str = "octo-local.lease.hostname";

/// A process that may own a lease, told from every other one of whatever host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The machine: a digest of its ID, which is not for others to know.
    pub host: String,
    /// This boot of it.
    pub boot: String,
    /// The namespace that the process number is of.
    pub pid_namespace: String,
    /// The process number.
    pub pid: u32,
    /// When the process began, in the kernel's ticks since the boot: numbers are used again.
    pub started: u64,
    /// The user.
    pub uid: u32,
    /// The host's name, for people.
    pub host_name: String,
}

impl fmt::Display for Owner {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            pid,
            uid,
            host_name,
            ..
        } = self;
        write!(out, "process {pid} of user {uid} on {host_name}")
    }
}

impl Owner {
    /// This process.
    pub async fn this_process() -> Self {
        let pid = std::process::id();
        let read = |path: &'static str| async move {
            let text = tokio::fs::read_to_string(path).await.unwrap_or_default();
            text.trim().to_owned()
        };
        let namespace = tokio::fs::read_link("/proc/self/ns/pid").await;
        let machine = read("/etc/machine-id").await;
        let host_name = read("/proc/sys/kernel/hostname").await;
        let digest = sha2::Sha256::digest(format!("octo-local lease {machine} {host_name}"));
        Self {
            host: digest[..8]
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect(),
            boot: read("/proc/sys/kernel/random/boot_id").await,
            pid_namespace: namespace
                .map(|link| link.display().to_string())
                .unwrap_or_default(),
            pid,
            started: started_at(pid).await.unwrap_or_default(),
            uid: rustix::process::getuid().as_raw(),
            host_name,
        }
    }

    fn labels(&self, project: &ProjectName) -> BTreeMap<String, String> {
        [
            (LABEL, project.to_string()),
            (HOST, self.host.clone()),
            (BOOT, self.boot.clone()),
            (NAMESPACE, self.pid_namespace.clone()),
            (PROCESS, self.pid.to_string()),
            (STARTED, self.started.to_string()),
            (USER, self.uid.to_string()),
            (HOST_NAME, self.host_name.clone()),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into()
    }

    /// The owner in a lease's labels. One that cannot be read is nobody's that is known.
    fn of_labels(labels: &BTreeMap<String, String>) -> Self {
        let text = |key: &str| labels.get(key).cloned().unwrap_or_default();
        Self {
            host: text(HOST),
            boot: text(BOOT),
            pid_namespace: text(NAMESPACE),
            pid: text(PROCESS).parse().unwrap_or_default(),
            started: text(STARTED).parse().unwrap_or_default(),
            uid: text(USER).parse().unwrap_or_default(),
            host_name: text(HOST_NAME),
        }
    }

    /// Whether its process can be looked for from where this one is.
    fn can_be_seen_from(&self, here: &Self) -> bool {
        !self.host.is_empty()
            && (&self.host, &self.boot, &self.pid_namespace)
                == (&here.host, &here.boot, &here.pid_namespace)
    }
}

/// When a process began (proc(5), `stat`: field 22; the name in field 2 may hold anything but ends
/// at the last parenthesis). None when there is no such process.
async fn started_at(pid: u32) -> Option<u64> {
    let stat = tokio::fs::read_to_string(format!("/proc/{pid}/stat")).await;
    let stat = stat.ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let is_dead = matches!(fields.first(), Some(&"Z" | &"X"));
    (!is_dead).then(|| fields.get(19)?.parse().ok())?
}

/// A lease that this process holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    project: ProjectName,
    owner: Owner,
    number: u64,
}

/// Why there is no lease.
#[derive(Debug, thiserror::Error)]
pub enum NoLease {
    /// Somebody else has it.
    #[error("another octo-local looks after this project on this engine: {by}")]
    Held {
        /// Who.
        by: Owner,
    },
    /// The engine could not be asked.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// A lease on the engine.
#[derive(Clone, Debug)]
struct Found {
    number: u64,
    owner: Owner,
    /// None where the engine does not say.
    renewed_at: Option<OffsetDateTime>,
}

/// Whether the owner of the newest lease lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Lives,
    Dead,
    /// It is of another host, boot or namespace.
    CannotBeSeen,
}

/// What the leases on the engine mean for one who wants one.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    /// The lease of this number is to be made.
    Free(u64),
    /// It has the lease of this number already.
    Mine(u64),
    Held(Owner),
}

/// The newest lease counts. `life` says of its owner whether it lives, `now` is the engine's time.
fn judge(found: &[Found], me: &Owner, life: Life, now: Option<OffsetDateTime>) -> Verdict {
    let Some(newest) = found.iter().max_by_key(|one| one.number) else {
        return Verdict::Free(1);
    };
    if newest.owner == *me {
        return Verdict::Mine(newest.number);
    }
    let age = now.zip(newest.renewed_at).map(|(now, then)| now - then);
    let is_old = age.is_some_and(|age| age > ABANDONED_AFTER);
    match life {
        Life::Dead => Verdict::Free(newest.number.saturating_add(1)),
        Life::CannotBeSeen if is_old => Verdict::Free(newest.number.saturating_add(1)),
        Life::Lives | Life::CannotBeSeen => Verdict::Held(newest.owner.clone()),
    }
}

/// How often a lease that somebody else took at the same moment is looked at again.
const ATTEMPTS: usize = 3;

impl Engine {
    /// Takes the lease of a project, unless somebody has it who may live.
    pub async fn take_lease(&self, project: &ProjectName, me: &Owner) -> Result<Lease, NoLease> {
        let mut last = None;
        for _ in 0..ATTEMPTS {
            let found = self.leases(project).await?;
            let number = match self.judge(&found, me).await? {
                Verdict::Mine(number) => number,
                Verdict::Held(by) => return Err(NoLease::Held { by }),
                Verdict::Free(number) => {
                    let owner = self.make_lease(project, me, number).await?;
                    if owner != *me {
                        last = Some(owner);
                        continue;
                    }
                    number
                }
            };
            let lease = Lease {
                project: project.clone(),
                owner: me.clone(),
                number,
            };
            if let Some(by) = self.overtaken(&lease).await? {
                self.remove_lease(project, number).await?;
                last = Some(by);
                continue;
            }
            self.remove_leases_before(project, number).await?;
            return Ok(lease);
        }
        Err(NoLease::Held {
            by: last.unwrap_or_else(|| me.clone()),
        })
    }

    /// Renews a lease. Where somebody else took it meanwhile (this host was away for long), it is
    /// lost: its holder must not act any more.
    pub async fn renew(&self, lease: &mut Lease) -> Result<(), NoLease> {
        if let Some(by) = self.overtaken(lease).await? {
            return Err(NoLease::Held { by });
        }
        let next = lease.number.saturating_add(1);
        let by = self.make_lease(&lease.project, &lease.owner, next).await?;
        if by != lease.owner {
            return Err(NoLease::Held { by });
        }
        lease.number = next;
        self.remove_leases_before(&lease.project, next).await?;
        Ok(())
    }

    /// Gives back every lease of this owner.
    pub async fn release(&self, project: &ProjectName, me: &Owner) -> Result<(), EngineError> {
        let found = self.leases(project).await?;
        for one in found.iter().filter(|one| one.owner == *me) {
            self.remove_lease(project, one.number).await?;
        }
        Ok(())
    }

    /// Who has a newer lease than this one.
    async fn overtaken(&self, lease: &Lease) -> Result<Option<Owner>, EngineError> {
        let found = self.leases(&lease.project).await?;
        let newer = found
            .into_iter()
            .filter(|one| one.number >= lease.number && one.owner != lease.owner);
        Ok(newer.max_by_key(|one| one.number).map(|one| one.owner))
    }

    async fn judge(&self, found: &[Found], me: &Owner) -> Result<Verdict, EngineError> {
        let newest = found.iter().max_by_key(|one| one.number);
        let Some(newest) = newest.filter(|newest| newest.owner != *me) else {
            return Ok(judge(found, me, Life::Lives, None));
        };
        let life = if newest.owner.can_be_seen_from(me) {
            match started_at(newest.owner.pid).await {
                Some(at) if at == newest.owner.started => Life::Lives,
                Some(_) | None => Life::Dead,
            }
        } else {
            Life::CannotBeSeen
        };
        let now = match life {
            Life::CannotBeSeen => self.clock().await?,
            Life::Lives | Life::Dead => None,
        };
        Ok(judge(found, me, life, now))
    }

    /// The engine's time.
    async fn clock(&self) -> Result<Option<OffsetDateTime>, EngineError> {
        let attempt = || "ask the engine for its time".to_owned();
        let bytes = self.get(attempt, QUICK, "/info", &[]).await?;
        let info: serde_json::Value = serde_json::from_slice(&bytes).unwrap_or_default();
        let text = info.get("SystemTime").and_then(serde_json::Value::as_str);
        Ok(text.and_then(instant))
    }

    async fn leases(&self, project: &ProjectName) -> Result<Vec<Found>, EngineError> {
        let filters = filter("label", &format!("{LABEL}={project}"));
        let attempt = || "list leases".to_owned();
        let query = [("filters", filters.as_str())];
        let bytes = self.get(attempt, QUICK, "/volumes", &query).await?;
        let found = |volume: shown::Volume| {
            Some(Found {
                number: ours::lease_number(project, &volume.name)?,
                owner: Owner::of_labels(&volume.labels),
                renewed_at: instant(&volume.created_at),
            })
        };
        let listed = shown::volumes(&bytes).unwrap_or_default();
        Ok(listed.into_iter().filter_map(found).collect())
    }

    /// Makes a lease and gives who has it: it may have been made by somebody else before.
    async fn make_lease(
        &self,
        project: &ProjectName,
        me: &Owner,
        number: u64,
    ) -> Result<Owner, EngineError> {
        let request = VolumeCreateRequest {
            name: Some(ours::lease_name(project, number)),
            labels: Some(me.labels(project).into_iter().collect()),
            ..VolumeCreateRequest::default()
        };
        let call = self.docker.create_volume(request);
        let made = self
            .call(|| "take the lease".to_owned(), SLOW, call)
            .await?;
        Ok(Owner::of_labels(&made.labels.into_iter().collect()))
    }

    async fn remove_lease(&self, project: &ProjectName, number: u64) -> Result<(), EngineError> {
        self.remove_volume(&ours::lease_name(project, number)).await
    }

    async fn remove_leases_before(
        &self,
        project: &ProjectName,
        number: u64,
    ) -> Result<(), EngineError> {
        let found = self.leases(project).await?;
        for one in found.iter().filter(|one| one.number < number) {
            self.remove_lease(project, one.number).await?;
        }
        Ok(())
    }
}

fn instant(text: &str) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(text, &Rfc3339).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(pid: u32) -> Owner {
        Owner {
            host: "host".to_owned(),
            boot: "boot".to_owned(),
            pid_namespace: "pid:[1]".to_owned(),
            pid,
            started: 1,
            uid: 1000,
            host_name: "here".to_owned(),
        }
    }

    fn found(number: u64, pid: u32, age: Duration) -> Found {
        Found {
            number,
            owner: owner(pid),
            renewed_at: Some(OffsetDateTime::UNIX_EPOCH - age),
        }
    }

    #[test]
    fn the_newest_lease_counts_until_its_owner_is_dead_or_away_for_long() {
        let now = Some(OffsetDateTime::UNIX_EPOCH);
        let (fresh, old) = (Duration::ZERO, ABANDONED_AFTER + Duration::from_secs(1));
        let (me, other) = (owner(1), owner(2));
        let of = |found: &[Found], life| judge(found, &me, life, now);
        assert_eq!(of(&[], Life::Dead), Verdict::Free(1));
        assert_eq!(
            of(&[found(3, 2, old), found(4, 1, old)], Life::Lives),
            Verdict::Mine(4)
        );
        let others = [found(4, 2, fresh), found(3, 1, fresh)];
        assert_eq!(of(&others, Life::Lives), Verdict::Held(other.clone()));
        assert_eq!(
            of(&others, Life::CannotBeSeen),
            Verdict::Held(other.clone())
        );
        assert_eq!(of(&others, Life::Dead), Verdict::Free(5));
        let abandoned = [found(4, 2, old)];
        assert_eq!(of(&abandoned, Life::CannotBeSeen), Verdict::Free(5));
        assert_eq!(
            of(&abandoned, Life::Lives),
            Verdict::Held(other.clone()),
            "one that is frozen lives"
        );
        assert_eq!(
            judge(&abandoned, &me, Life::CannotBeSeen, None),
            Verdict::Held(other),
            "without the engine's clock nothing is old"
        );
    }

    #[tokio::test]
    async fn this_process_lives_and_its_labels_say_who_it_is() {
        let me = Owner::this_process().await;
        let project = crate::config::project::normalise("shop").unwrap();
        assert_eq!(Owner::of_labels(&me.labels(&project)), me);
        assert!(me.can_be_seen_from(&me) && me.started > 0);
        assert_eq!(started_at(me.pid).await, Some(me.started));
        assert_eq!(started_at(u32::MAX).await, None);
        let nobody = Owner::of_labels(&BTreeMap::new());
        assert!(!nobody.can_be_seen_from(&nobody));
    }
}
