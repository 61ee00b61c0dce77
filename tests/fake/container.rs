//! Containers as data: made from a request's body, shown in lists and alone, as Docker 20.10 does.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;

use serde_json::Value;
use serde_json::json;

use super::call::Call;
use super::call::Refusal;
use super::event::filters_of;
use super::process::Process;
use super::world::World;
use super::world::labels_in;

/// The time of what never was.
const NEVER: &str = "0001-01-01T00:00:00Z";

/// What a log holds: true with the lines of standard error.
pub(crate) type Log = Arc<Mutex<Vec<(bool, String)>>>;

/// A container.
#[derive(Debug)]
pub(crate) struct Container {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) image: String,
    pub(crate) image_id: String,
    /// The reference that its image was made under: what the container runs is told from it.
    pub(crate) origin: String,
    pub(crate) env: Vec<String>,
    pub(crate) labels: BTreeMap<String, String>,
    /// Volume and path in the container.
    pub(crate) binds: Vec<(String, String)>,
    /// Volumes without a name of their own.
    pub(crate) anonymous: Vec<String>,
    pub(crate) ports: Vec<Port>,
    pub(crate) endpoints: BTreeMap<String, Endpoint>,
    /// The engine's restart policy.
    pub(crate) policy: String,
    pub(crate) privileged: bool,
    pub(crate) word: Word,
    pub(crate) started_at: String,
    pub(crate) finished_at: String,
    pub(crate) code: i64,
    pub(crate) error: String,
    pub(crate) oom: bool,
    pub(crate) process: Option<Process>,
    /// How often it was started.
    pub(crate) runs: u64,
    /// Somebody stopped it, so its restart policy rests.
    pub(crate) stopped_by_hand: bool,
    pub(crate) removing: bool,
    pub(crate) log: Log,
    created: String,
    config: Value,
    host: Value,
}

/// A published port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Port {
    pub(crate) inside: u16,
    pub(crate) ip: String,
    pub(crate) host: u16,
}

/// Its place on a network.
#[derive(Clone, Debug, Default)]
pub(crate) struct Endpoint {
    /// Empty until it was attached while running.
    pub(crate) network_id: String,
    /// Empty unless it runs.
    pub(crate) own_id: String,
    pub(crate) aliases: Vec<String>,
}

/// The engine's one word for how it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    Created,
    Running,
    Paused,
    Restarting,
    Exited,
}

impl Word {
    fn text(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Restarting => "restarting",
            Self::Exited => "exited",
        }
    }
}

impl Container {
    /// Whether a process of it exists.
    pub(crate) fn runs(&self) -> bool {
        matches!(self.word, Word::Running | Word::Paused)
    }

    /// The value of a variable of its environment.
    pub(crate) fn var(&self, name: &str) -> Option<&str> {
        self.env
            .iter()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
    }

    /// Writes a line to its log.
    pub(crate) fn say(&self, line: &str) {
        super::lock(&self.log).push((false, line.to_owned()));
    }

    /// As `docker inspect` shows it.
    pub(crate) fn inspected(&self) -> Value {
        let networks: BTreeMap<&String, Value> = self
            .endpoints
            .iter()
            .map(|(name, endpoint)| (name, endpoint.shown(true)))
            .collect();
        let mut host = self.host.clone();
        host["RestartPolicy"] = json!({ "Name": self.policy, "MaximumRetryCount": 0 });
        json!({
            "Id": self.id, "Name": format!("/{}", self.name), "Created": self.created, "Image": self.image_id,
            "State": {
                "Status": if self.removing { "removing" } else { self.word.text() },
                "Running": self.runs() || self.word == Word::Restarting,
                "Paused": self.word == Word::Paused, "Restarting": self.word == Word::Restarting,
                "OOMKilled": self.oom, "Dead": false, "Pid": 0, "ExitCode": self.code, "Error": self.error,
                "StartedAt": self.started_at, "FinishedAt": self.finished_at,
            },
            "RestartCount": 0, "Config": self.config, "HostConfig": host, "Mounts": self.mounts(),
            "NetworkSettings": { "Networks": networks, "Ports": self.bindings() },
        })
    }

    fn listed(&self) -> Value {
        let networks: BTreeMap<&String, Value> = self
            .endpoints
            .iter()
            .map(|(name, endpoint)| (name, endpoint.shown(false)))
            .collect();
        let port = |port: &Port| json!({ "IP": port.ip, "PrivatePort": port.inside, "PublicPort": port.host, "Type": "tcp" });
        let ports: Vec<Value> = self
            .ports
            .iter()
            .filter(|_| self.runs())
            .map(port)
            .collect();
        json!({
            "Id": self.id, "Names": [format!("/{}", self.name)], "Image": self.image, "ImageID": self.image_id,
            "Command": "", "Created": 0, "Ports": ports, "Labels": self.labels,
            "State": if self.removing { "removing" } else { self.word.text() }, "Status": self.word.text(),
            "HostConfig": { "NetworkMode": self.host["NetworkMode"] },
            "NetworkSettings": { "Networks": networks }, "Mounts": self.mounts(),
        })
    }

    fn mounts(&self) -> Vec<Value> {
        let mount = |(name, path): &(String, String)| json!({ "Type": "volume", "Name": name, "Destination": path, "Driver": "local", "RW": true });
        self.binds.iter().map(mount).collect()
    }

    /// Only what runs has its ports bound.
    fn bindings(&self) -> Value {
        let pair = |port: &Port| {
            (
                format!("{}/tcp", port.inside),
                json!([{ "HostIp": port.ip, "HostPort": port.host.to_string() }]),
            )
        };
        self.ports
            .iter()
            .filter(|_| self.runs())
            .map(pair)
            .collect::<serde_json::Map<_, _>>()
            .into()
    }
}

impl Endpoint {
    /// Lists leave the aliases out.
    fn shown(&self, whole: bool) -> Value {
        let aliases = if whole {
            json!(self.aliases)
        } else {
            Value::Null
        };
        json!({
            "Aliases": aliases, "NetworkID": self.network_id, "EndpointID": self.own_id, "Gateway": "",
            "IPAddress": "", "IPPrefixLen": 0,
        })
    }
}

/// The names in an endpoint's configuration.
pub(crate) fn aliases_in(value: &Value) -> Vec<String> {
    let names = value["Aliases"].as_array().into_iter().flatten();
    names
        .filter_map(|name| name.as_str().map(str::to_owned))
        .collect()
}

/// Makes a container. Its network is not looked for before it starts, and binds make the volumes
/// that are missing.
pub(crate) fn create(world: &mut World, call: &Call) -> Result<Value, Refusal> {
    let name = call.query.get("name").cloned().unwrap_or_default();
    let body = &call.body;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let image = text(&body["Image"]);
    let image_id = super::image::id_of(world, &image);
    let image_id = image_id.ok_or_else(|| Refusal::new(404, format!("No such image: {image}")))?;
    if let Some(other) = world.containers.values().find(|other| other.name == name) {
        let text = format!(
            "Conflict. The container name \"/{name}\" is already in use by container \"{}\". You have to remove (or rename) \
             that container to be able to reuse that name.",
            other.id
        );
        return Err(Refusal::new(409, text));
    }
    let (id, host) = (world.new_id(), body["HostConfig"].clone());
    let origin = world.origins[&image_id].clone();
    let (binds, anonymous) = mounts_of(world, &host, &origin);
    let endpoints = endpoints_in(world, body, &id);
    let config = json!({
        "Env": body["Env"], "Labels": body["Labels"], "Image": image, "Hostname": body["Hostname"],
        "OpenStdin": body["OpenStdin"],
    });
    let container = Container {
        name,
        image,
        image_id,
        origin,
        env: texts(&body["Env"]),
        labels: labels_in(body),
        binds,
        anonymous,
        ports: ports_in(&host),
        endpoints,
        policy: text(&host["RestartPolicy"]["Name"]),
        privileged: host["Privileged"].as_bool().unwrap_or_default(),
        word: Word::Created,
        started_at: NEVER.to_owned(),
        finished_at: NEVER.to_owned(),
        code: 0,
        error: String::new(),
        oom: false,
        process: None,
        runs: 0,
        stopped_by_hand: false,
        removing: false,
        log: Log::default(),
        created: super::event::time_now(),
        config,
        host,
        id: id.clone(),
    };
    world.containers.insert(id.clone(), container);
    world.tell_of(&id, "create", &[]);
    Ok(json!({ "Id": id, "Warnings": [] }))
}

fn texts(value: &Value) -> Vec<String> {
    let texts = value.as_array().into_iter().flatten();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    texts.map(text).collect()
}

/// Volumes with their paths, made where they are missing; and those among them without a name of
/// their own.
fn mounts_of(
    world: &mut World,
    host: &Value,
    origin: &str,
) -> (Vec<(String, String)>, Vec<String>) {
    let bind = |line: String| {
        line.split_once(':')
            .map(|(volume, path)| (volume.to_owned(), path.to_owned()))
    };
    let mut binds: Vec<(String, String)> =
        texts(&host["Binds"]).into_iter().filter_map(bind).collect();
    for (volume, _) in &binds {
        world.volume(volume, BTreeMap::new());
    }
    // The vendor's image declares Docker-in-Docker's store a volume.
    let anonymous: Vec<String> = if super::image::is_sql(origin) {
        Vec::new()
    } else {
        vec![world.new_id()]
    };
    for volume in &anonymous {
        world.volume(volume, BTreeMap::new());
        binds.push((volume.clone(), "/var/lib/docker".to_owned()));
    }
    (binds, anonymous)
}

fn ports_in(host: &Value) -> Vec<Port> {
    let ports = host["PortBindings"].as_object().into_iter().flatten();
    let read = |(key, value): (&String, &Value)| {
        let binding = &value[0];
        Some(Port {
            inside: key.split('/').next()?.parse().ok()?,
            ip: binding["HostIp"].as_str()?.to_owned(),
            host: binding["HostPort"].as_str()?.parse().ok()?,
        })
    };
    ports.filter_map(read).collect()
}

/// Under its network's name, if that network is there, else under what the request calls it.
fn endpoints_in(world: &World, body: &Value, id: &str) -> BTreeMap<String, Endpoint> {
    let mode = body["HostConfig"]["NetworkMode"]
        .as_str()
        .unwrap_or("bridge");
    let wanted = &body["NetworkingConfig"]["EndpointsConfig"][mode];
    let name = world
        .network(mode, "found on")
        .map_or(mode, |network| network.name.as_str());
    let endpoint = Endpoint {
        network_id: wanted["NetworkID"].as_str().unwrap_or_default().to_owned(),
        own_id: String::new(),
        aliases: aliases_in(wanted)
            .into_iter()
            .chain([id[..12].to_owned()])
            .collect(),
    };
    BTreeMap::from([(name.to_owned(), endpoint)])
}

/// As `docker ps` lists them.
pub(crate) fn list(world: &World, call: &Call) -> Value {
    let filters = filters_of(call);
    let all = call
        .query
        .get("all")
        .is_some_and(|value| matches!(value.as_str(), "true" | "1"));
    let labelled = |container: &Container, wanted: &String| match wanted.split_once('=') {
        Some((key, value)) => container.labels.get(key).map(String::as_str) == Some(value),
        None => container.labels.contains_key(wanted),
    };
    let takes = |container: &&Container| {
        let every = |key: &str, test: &dyn Fn(&String) -> bool| {
            filters
                .get(key)
                .is_none_or(|wanted| wanted.iter().all(test))
        };
        (all || container.runs())
            && every("label", &|wanted| labelled(container, wanted))
            && every("volume", &|wanted| {
                container
                    .binds
                    .iter()
                    .any(|(name, path)| name == wanted || path == wanted)
            })
            && every("name", &|wanted| match wanted.strip_prefix("^/?") {
                Some(start) => container.name.starts_with(start),
                None => container.name.contains(wanted.trim_start_matches('/')),
            })
    };
    world
        .containers
        .values()
        .filter(takes)
        .map(Container::listed)
        .collect()
}
