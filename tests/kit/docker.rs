//! The engine as an independent witness: what the product did is read here without the product's
//! own code.

use std::collections::HashMap;
use std::future::Future;
use std::time::Duration;

use bollard::Docker;
use bollard::models::ContainerInspectResponse;
use bollard::models::EventMessage;
use bollard::query_parameters as query;
use futures_util::StreamExt as _;

/// No call of a healthy engine takes a tenth of this.
const PATIENCE: Duration = Duration::from_secs(120);

/// The machine's engine, as the docker command would choose it.
pub(crate) fn machine() -> String {
    let host = std::env::var_os("DOCKER_HOST").map(|host| host.to_string_lossy().into_owned());
    host.unwrap_or_else(|| "unix:///var/run/docker.sock".to_owned())
}

/// A connection with a runtime of its own, so that tests need not be async.
pub(crate) struct Witness {
    runtime: tokio::runtime::Runtime,
    docker: Docker,
}

/// Something that the engine told about a container. Sorts by time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Told {
    /// When, in nanoseconds since 1970.
    pub(crate) at: i64,
    /// `start`, `die`, …
    pub(crate) action: String,
    /// The container's name.
    pub(crate) name: String,
}

impl Witness {
    /// The machine's engine, as the docker command would choose it.
    pub(crate) fn new() -> Self {
        Self::at(&machine())
    }

    /// The engine at this URL.
    pub(crate) fn at(url: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let docker = runtime.block_on(async {
            let limit = PATIENCE.as_secs();
            let docker = if url.starts_with("unix://") {
                Docker::connect_with_unix(url, limit, bollard::API_DEFAULT_VERSION)
            } else {
                Docker::connect_with_http(url, limit, bollard::API_DEFAULT_VERSION)
            };
            docker.unwrap().negotiate_version().await.unwrap()
        });
        Self { runtime, docker }
    }

    /// Awaits one call.
    pub(crate) fn wait<T>(&self, call: impl Future<Output = T>) -> T {
        self.runtime
            .block_on(async { tokio::time::timeout(PATIENCE, call).await })
            .expect("the engine answers every call in time")
    }

    /// The client, for what has no method here.
    pub(crate) fn docker(&self) -> &Docker {
        &self.docker
    }

    /// A container by name or ID.
    pub(crate) fn inspect(&self, name: &str) -> Option<ContainerInspectResponse> {
        self.wait(self.docker.inspect_container(name, None)).ok()
    }

    /// Names of all containers with this label, running or not.
    pub(crate) fn containers(&self, label: &str) -> Vec<String> {
        let options = query::ListContainersOptionsBuilder::default()
            .all(true)
            .filters(&filter(label))
            .build();
        let listed = self
            .wait(self.docker.list_containers(Some(options)))
            .unwrap();
        let name = |names: Option<Vec<String>>| {
            names
                .unwrap_or_default()
                .first()
                .map(|name| name[1..].to_owned())
        };
        let mut names: Vec<String> = listed
            .into_iter()
            .filter_map(|one| name(one.names))
            .collect();
        names.sort();
        names
    }

    /// Names of all volumes with this label.
    pub(crate) fn volumes(&self, label: &str) -> Vec<String> {
        let options = query::ListVolumesOptionsBuilder::default()
            .filters(&filter(label))
            .build();
        let listed = self.wait(self.docker.list_volumes(Some(options))).unwrap();
        let mut names: Vec<String> = listed
            .volumes
            .unwrap_or_default()
            .into_iter()
            .map(|one| one.name)
            .collect();
        names.sort();
        names
    }

    /// IDs of all networks with this label.
    pub(crate) fn networks(&self, label: &str) -> Vec<String> {
        let options = query::ListNetworksOptionsBuilder::default()
            .filters(&filter(label))
            .build();
        let listed = self.wait(self.docker.list_networks(Some(options))).unwrap();
        listed.into_iter().filter_map(|one| one.id).collect()
    }

    /// When a container was started, as the engine wrote it.
    pub(crate) fn started_at(&self, name: &str) -> String {
        self.inspect(name)
            .unwrap()
            .state
            .unwrap()
            .started_at
            .unwrap()
    }

    /// Sends a signal to a container's process.
    pub(crate) fn kill(&self, name: &str, signal: &str) {
        let options = query::KillContainerOptionsBuilder::default()
            .signal(signal)
            .build();
        self.wait(self.docker.kill_container(name, Some(options)))
            .unwrap();
    }

    /// Removes a container, running or not, with its anonymous volumes.
    pub(crate) fn remove(&self, name: &str) {
        let options = query::RemoveContainerOptionsBuilder::default()
            .force(true)
            .v(true)
            .build();
        let _ = self.wait(self.docker.remove_container(name, Some(options)));
    }

    /// Keeps what the engine tells about containers with this label from a time on (nanoseconds
    /// since 1970), until `stopped`.
    pub(crate) fn follow(
        &self,
        label: &str,
        since: i64,
        stopped: tokio::sync::oneshot::Receiver<()>,
        keep: impl Fn(Told),
    ) {
        let mut filters = filter(label);
        filters.insert("type", vec!["container".to_owned()]);
        let options = query::EventsOptionsBuilder::default()
            .since(&seconds(since))
            .filters(&filters)
            .build();
        let following = self.docker.events(Some(options)).for_each(|event| {
            event.ok().and_then(told_of).into_iter().for_each(&keep);
            std::future::ready(())
        });
        self.runtime.block_on(async {
            tokio::select! {
                () = following => {}
                _ = stopped => {}
            }
        });
    }

    /// What the engine still knows of events of containers with this label since a time
    /// (nanoseconds since 1970), in order: it keeps the last 256 of all.
    pub(crate) fn events(&self, label: &str, since: i64) -> Vec<Told> {
        let mut filters = filter(label);
        filters.insert("type", vec!["container".to_owned()]);
        let options = query::EventsOptionsBuilder::default()
            .since(&seconds(since))
            .until(&seconds(self.now()))
            .filters(&filters)
            .build();
        let told: Vec<EventMessage> = self.wait(
            self.docker
                .events(Some(options))
                .filter_map(|event| async { event.ok() })
                .collect(),
        );
        told.into_iter().filter_map(told_of).collect()
    }

    /// The engine's own time, in nanoseconds since 1970.
    pub(crate) fn now(&self) -> i64 {
        let text = self.wait(self.docker.info()).unwrap().system_time.unwrap();
        let format = &time::format_description::well_known::Rfc3339;
        time::OffsetDateTime::parse(&text, format)
            .unwrap()
            .unix_timestamp_nanos()
            .try_into()
            .unwrap()
    }

    /// The volumes without a name of their own that a container mounts: those that its image wants.
    pub(crate) fn unnamed_volumes(&self, container: &str) -> Vec<String> {
        let mounts = self.inspect(container).and_then(|found| found.mounts);
        let names = mounts.into_iter().flatten().filter_map(|one| one.name);
        let is_unnamed =
            |name: &String| name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
        names.filter(is_unnamed).collect()
    }

    /// Removes a volume; false where there is none, or it is in use.
    pub(crate) fn remove_volume(&self, name: &str) -> bool {
        let none = None::<query::RemoveVolumeOptions>;
        self.wait(self.docker.remove_volume(name, none)).is_ok()
    }

    /// Removes an image by its reference. Whether that worked.
    pub(crate) fn remove_image(&self, reference: &str) -> bool {
        let options = None::<query::RemoveImageOptions>;
        let removed = self.docker.remove_image(reference, options, None);
        self.wait(removed).is_ok()
    }

    /// Removes everything with this label, volumes too.
    pub(crate) fn sweep(&self, label: &str) {
        for name in self.containers(label) {
            self.remove(&name);
        }
        for id in self.networks(label) {
            let _ = self.wait(self.docker.remove_network(&id));
        }
        for name in self.volumes(label) {
            self.remove_volume(&name);
        }
    }
}

fn filter(label: &str) -> HashMap<&'static str, Vec<String>> {
    HashMap::from([("label", vec![label.to_owned()])])
}

fn seconds(nanos: i64) -> String {
    format!("{}.{:09}", nanos / 1_000_000_000, nanos % 1_000_000_000)
}

fn told_of(event: EventMessage) -> Option<Told> {
    let name = event.actor?.attributes?.remove("name")?;
    Some(Told {
        at: event.time_nano?,
        action: event.action?,
        name,
    })
}
