//! What the engine's JSON says about containers, networks and volumes, read with patience: a field
//! of another kind than expected is as good as absent, and an entry that makes no sense costs
//! nobody but itself. bollard's types would refuse the whole list for one unknown word.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use serde::Deserialize;
use serde::Deserializer;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::reconcile::observed::Run;

/// Reads a field; one that cannot be read is absent.
pub(super) fn lenient<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: DeserializeOwned + Default,
{
    let raw = <&RawValue>::deserialize(deserializer)?;
    Ok(serde_json::from_str(raw.get()).unwrap_or_default())
}

/// The entries of a list; one that cannot be read is left out. None where this is no list.
pub(super) fn entries<T: DeserializeOwned>(bytes: &[u8]) -> Option<Vec<T>> {
    let raw: Option<Vec<&RawValue>> = serde_json::from_slice(bytes).ok()?;
    let read = |entry: &RawValue| match serde_json::from_str(entry.get()) {
        Ok(entry) => Some(entry),
        Err(error) => {
            tracing::warn!(%error, "an entry of the engine's list cannot be read");
            None
        }
    };
    Some(
        raw.unwrap_or_default()
            .into_iter()
            .filter_map(read)
            .collect(),
    )
}

type Labels = BTreeMap<String, String>;

/// A container in a list.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct Listed {
    pub(super) id: String,
    #[serde(deserialize_with = "lenient")]
    pub(super) names: Vec<String>,
    #[serde(deserialize_with = "lenient")]
    pub(super) image: String,
    #[serde(deserialize_with = "lenient", rename = "ImageID")]
    pub(super) image_id: String,
    #[serde(deserialize_with = "lenient")]
    pub(super) state: String,
    /// For people: `Up 3 minutes`, `Exited (0) 5 seconds ago`.
    #[serde(deserialize_with = "lenient")]
    pub(super) status: String,
    #[serde(deserialize_with = "lenient")]
    pub(super) labels: Labels,
    #[serde(deserialize_with = "lenient")]
    pub(super) ports: Vec<ListedPort>,
    #[serde(deserialize_with = "lenient")]
    pub(super) mounts: Vec<Mount>,
    #[serde(deserialize_with = "lenient")]
    pub(super) host_config: HostConfig,
    #[serde(deserialize_with = "lenient")]
    pub(super) network_settings: NetworkSettings,
}

/// Something of the engine's or the host's that a container uses.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct Mount {
    /// A volume's.
    #[serde(deserialize_with = "lenient")]
    pub(super) name: String,
    #[serde(deserialize_with = "lenient")]
    pub(super) source: String,
    #[serde(deserialize_with = "lenient")]
    pub(super) destination: String,
    /// `volume`, or `bind` for a directory of the engine's host.
    #[serde(deserialize_with = "lenient")]
    pub(super) r#type: String,
}

/// A port in a list.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct ListedPort {
    #[serde(deserialize_with = "lenient", rename = "IP")]
    pub(super) ip: String,
    #[serde(deserialize_with = "lenient")]
    pub(super) public_port: Option<u16>,
    #[serde(deserialize_with = "lenient")]
    pub(super) r#type: String,
}

/// How a container was made, as far as it matters here.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct HostConfig {
    #[serde(deserialize_with = "lenient")]
    pub(super) network_mode: String,
    #[serde(deserialize_with = "lenient")]
    pub(super) restart_policy: RestartPolicy,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct RestartPolicy {
    #[serde(deserialize_with = "lenient")]
    pub(super) name: String,
}

/// Its networks, and its published ports where it was asked for alone.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct NetworkSettings {
    #[serde(deserialize_with = "lenient")]
    pub(super) networks: BTreeMap<String, Endpoint>,
    #[serde(deserialize_with = "lenient")]
    pub(super) ports: BTreeMap<String, Option<Vec<Binding>>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct Endpoint {
    #[serde(deserialize_with = "lenient", rename = "NetworkID")]
    pub(super) network_id: String,
    /// Its address there, while it runs.
    #[serde(deserialize_with = "lenient", rename = "IPAddress")]
    pub(super) ip_address: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct Binding {
    #[serde(deserialize_with = "lenient")]
    pub(super) host_ip: String,
    #[serde(deserialize_with = "lenient")]
    pub(super) host_port: String,
}

/// A container asked for alone.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct Inspected {
    pub(super) id: String,
    #[serde(deserialize_with = "lenient")]
    pub(super) name: String,
    /// The image's ID.
    #[serde(deserialize_with = "lenient")]
    pub(super) image: String,
    #[serde(deserialize_with = "lenient")]
    pub(super) config: Config,
    #[serde(deserialize_with = "lenient")]
    pub(super) state: State,
    #[serde(deserialize_with = "lenient")]
    pub(super) host_config: HostConfig,
    #[serde(deserialize_with = "lenient")]
    pub(super) network_settings: NetworkSettings,
    #[serde(deserialize_with = "lenient")]
    pub(super) mounts: Vec<Mount>,
    /// The commands that were run in it and are not forgotten yet.
    #[serde(deserialize_with = "lenient", rename = "ExecIDs")]
    pub(super) exec_ids: Vec<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct Config {
    #[serde(deserialize_with = "lenient")]
    pub(super) labels: Labels,
    #[serde(deserialize_with = "lenient")]
    pub(super) env: Vec<String>,
    /// The reference it was made from.
    #[serde(deserialize_with = "lenient")]
    pub(super) image: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct State {
    #[serde(deserialize_with = "lenient")]
    pub(super) status: String,
    #[serde(deserialize_with = "lenient")]
    pub(super) running: bool,
    /// Its first process, as the engine's host numbers it; 0 where it does not run.
    #[serde(deserialize_with = "lenient")]
    pub(super) pid: i32,
    #[serde(deserialize_with = "lenient")]
    pub(super) started_at: String,
    #[serde(deserialize_with = "lenient")]
    pub(super) exit_code: Option<i64>,
    #[serde(deserialize_with = "lenient", rename = "OOMKilled")]
    pub(super) oom_killed: bool,
    #[serde(deserialize_with = "lenient")]
    pub(super) error: String,
}

/// A network.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct Network {
    pub(super) id: String,
    #[serde(deserialize_with = "lenient")]
    pub(super) name: String,
    #[serde(deserialize_with = "lenient")]
    pub(super) labels: Labels,
    /// By container ID, where the network was asked for alone.
    #[serde(deserialize_with = "lenient")]
    pub(super) containers: BTreeMap<String, Attached>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct Attached {
    #[serde(deserialize_with = "lenient")]
    pub(super) name: String,
}

/// The list of volumes.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct VolumesAnswer<'a> {
    #[serde(borrow)]
    volumes: Option<&'a RawValue>,
}

/// A volume.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct Volume {
    pub(super) name: String,
    #[serde(deserialize_with = "lenient")]
    pub(super) labels: Labels,
    /// RFC 3339, by the engine's clock.
    #[serde(deserialize_with = "lenient")]
    pub(super) created_at: String,
}

/// The volumes of the engine's answer.
pub(super) fn volumes(bytes: &[u8]) -> Option<Vec<Volume>> {
    let answer: VolumesAnswer<'_> = serde_json::from_slice(bytes).ok()?;
    answer
        .volumes
        .map_or(Some(Vec::new()), |list| entries(list.get().as_bytes()))
}

/// The end of a run, where a container is asked for alone.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct End {
    pub(super) code: Option<i64>,
    pub(super) oom: bool,
    pub(super) error: String,
}

/// What the engine's word for a state means. Of one that is not known here (other engines have
/// `stopped`, `stopping`, `initialized`) it matters only whether a process exists.
pub(super) fn run(word: &str, is_running: bool, started_at: String, end: End) -> Run {
    match word {
        "created" | "configured" | "initialized" => Run::Created,
        "running" | "restarting" => Run::Running { started_at },
        "paused" => Run::Paused { started_at },
        "removing" => Run::Removing,
        "exited" | "dead" | "stopped" => ended(started_at, end),
        _ if is_running => Run::Running { started_at },
        _ => ended(started_at, end),
    }
}

fn ended(started_at: String, end: End) -> Run {
    Run::Exited {
        started_at,
        code: end.code.unwrap_or(-1),
        oom: end.oom,
        error: end.error,
    }
}

impl Listed {
    /// Its name, without the slash. Names under which others link to it have another slash.
    pub(super) fn name(&self) -> &str {
        let mut names = self.names.iter().map(|name| name.trim_start_matches('/'));
        names.find(|name| !name.contains('/')).unwrap_or_default()
    }

    /// What the list says that it does; when it was started the list does not say.
    pub(super) fn run(&self, started_at: String) -> Run {
        let is_up = self.status.starts_with("Up");
        run(&self.state, is_up, started_at, End::default())
    }

    /// The IDs of its networks, as far as the engine knows them.
    pub(super) fn networks(&self) -> BTreeSet<String> {
        let ids = self.network_settings.networks.values();
        ids.map(|endpoint| endpoint.network_id.clone())
            .filter(|id| !id.is_empty())
            .collect()
    }
}

impl Inspected {
    /// What it does; none where the engine's answer does not tell.
    pub(super) fn run(&self) -> Option<Run> {
        let state = &self.state;
        let end = End {
            code: state.exit_code,
            oom: state.oom_killed,
            error: state.error.clone(),
        };
        let is_told = !state.status.is_empty();
        is_told.then(|| run(&state.status, state.running, state.started_at.clone(), end))
    }

    /// Its networks: by ID, or by name while the engine knows no ID.
    pub(super) fn networks(&self) -> BTreeSet<String> {
        let networks = self.network_settings.networks.iter();
        let best = |(name, endpoint): (&String, &Endpoint)| {
            if endpoint.network_id.is_empty() {
                name.clone()
            } else {
                endpoint.network_id.clone()
            }
        };
        networks.map(best).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_strange_entry_costs_nobody_but_itself() {
        let text = br#"[{"Id":"a","Names":["/one"],"State":"running"}, 7, {"Id":[]},
            {"Id":"b","Names":{},"State":3,"Status":"Up 2 hours","Labels":{"x":1}},
            {"Id":"c","Names":["/three"],"State":"hibernating","Status":"Up 1 second","Health":{"Status":"odd"}}]"#;
        let listed: Vec<Listed> = entries(text).unwrap();
        let ids: Vec<&str> = listed.iter().map(|one| one.id.as_str()).collect();
        assert_eq!(ids, ["a", "b", "c"]);
        let runs = Run::Running {
            started_at: "t".to_owned(),
        };
        for one in &listed {
            assert_eq!(one.run("t".to_owned()), runs, "{}", one.id);
        }
        assert!(entries::<Listed>(b"{}").is_none(), "that is no list");
        assert_eq!(entries::<Listed>(b"null").unwrap().len(), 0);
    }

    #[test]
    fn words_of_other_engines_mean_what_they_mean() {
        let of = |word: &str, up: bool| run(word, up, "t".to_owned(), End::default());
        let is_ended = |run: &Run| matches!(run, Run::Exited { .. });
        assert!(is_ended(&of("stopped", false)) && is_ended(&of("unknown", false)));
        assert!(matches!(of("stopping", true), Run::Running { .. }));
        assert_eq!(of("initialized", false), Run::Created);
    }

    #[test]
    fn volumes_may_be_null_and_strange() {
        let text = br#"{"Volumes":[{"Name":"a","Labels":null},{"Name":null},{"Name":"b","Labels":{"k":"v"}}],"Warnings":null}"#;
        let names: Vec<String> = volumes(text)
            .unwrap()
            .into_iter()
            .map(|one| one.name)
            .collect();
        assert_eq!(names, ["a", "b"]);
        assert_eq!(volumes(br#"{"Volumes":null}"#).unwrap().len(), 0);
        assert!(volumes(b"7").is_none());
    }
}
