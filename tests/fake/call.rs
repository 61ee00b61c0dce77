//! A request as the fake engine understands it: who asks for what about which thing.

use std::collections::BTreeMap;

use rustix::process::Pid;
use serde_json::Value;

/// The oldest and the newest API that an engine speaks: of version 1, the second number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Api {
    pub(crate) oldest: u32,
    pub(crate) newest: u32,
}

/// That of Docker 20.10.
pub(crate) const API: Api = Api {
    oldest: 12,
    newest: 41,
};

/// What can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verb {
    Ping,
    Version,
    Info,
    Events,
    ListContainers,
    InspectContainer,
    Logs,
    Create,
    Start,
    Stop,
    Kill,
    Pause,
    Unpause,
    Update,
    Remove,
    ListNetworks,
    CreateNetwork,
    RemoveNetwork,
    Connect,
    Disconnect,
    ListVolumes,
    InspectVolume,
    CreateVolume,
    RemoveVolume,
    InspectImage,
    Pull,
    Load,
    Tag,
    RemoveImage,
}

impl Verb {
    /// Whether it changes anything.
    pub(crate) fn changes(self) -> bool {
        use Verb as V;
        match self {
            V::Ping
            | V::Version
            | V::Info
            | V::Events
            | V::ListContainers
            | V::InspectContainer
            | V::Logs => false,
            V::ListNetworks | V::ListVolumes | V::InspectVolume | V::InspectImage => false,
            V::Create
            | V::Start
            | V::Stop
            | V::Kill
            | V::Pause
            | V::Unpause
            | V::Update
            | V::Remove => true,
            V::CreateNetwork | V::RemoveNetwork | V::Connect | V::Disconnect => true,
            V::CreateVolume | V::RemoveVolume | V::Pull | V::Load | V::Tag | V::RemoveImage => true,
        }
    }

    /// What kind of existing thing it changes, if it does.
    pub(crate) fn kind_changed(self) -> Option<&'static str> {
        use Verb as V;
        match self {
            V::Start | V::Stop | V::Kill | V::Pause | V::Unpause | V::Update | V::Remove => {
                Some("container")
            }
            V::Connect | V::Disconnect => Some("container"),
            V::RemoveNetwork => Some("network"),
            V::RemoveVolume => Some("volume"),
            _ => None,
        }
    }
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Caller {
    /// A daemon of the product.
    Daemon(Pid),
    /// Another command of the product.
    Command,
    /// The test itself, in the place of a person.
    Person,
}

impl Caller {
    /// Tells by the process behind the connection.
    pub(crate) fn of(pid: Option<i32>) -> Self {
        let Some(pid) = pid
            .and_then(Pid::from_raw)
            .filter(|pid| *pid != rustix::process::getpid())
        else {
            return Self::Person;
        };
        let line =
            std::fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).unwrap_or_default();
        // One that is dead already has no arguments any more; only daemons die in these tests.
        let is_daemon =
            line.is_empty() || line.split(|byte| *byte == 0).any(|word| word == b"daemon");
        if is_daemon {
            Self::Daemon(pid)
        } else {
            Self::Command
        }
    }
}

/// One request.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) caller: Caller,
    pub(crate) verb: Verb,
    /// The name or ID in the path.
    pub(crate) target: String,
    pub(crate) query: BTreeMap<String, String>,
    pub(crate) body: Value,
    /// An image archive.
    pub(crate) archive: Vec<u8>,
}

/// What the engine says when it does not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    pub(crate) message: String,
}

impl Refusal {
    pub(crate) fn new(status: u16, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
        }
    }
}

/// Takes the API version off a path; one that is too new or too old is refused.
pub(crate) fn unversioned(path: &str, api: Api) -> Result<&str, Refusal> {
    let version = |rest: &str| rest.split_once('/')?.0.parse::<u32>().ok();
    let Some(asked) = path.strip_prefix("/v1.").and_then(version) else {
        return Ok(path);
    };
    let Api { oldest, newest } = api;
    if asked > newest {
        let text = format!(
            "client version 1.{asked} is too new. Maximum supported API version is 1.{newest}"
        );
        return Err(Refusal::new(400, text));
    }
    if asked < oldest {
        let text = format!(
            "client version 1.{asked} is too old. Minimum supported API version is 1.{oldest}, please upgrade your client \
             to a newer version"
        );
        return Err(Refusal::new(400, text));
    }
    let rest = path[1..].find('/').map_or("", |at| &path[at + 1..]);
    Ok(rest)
}

/// What a method and a path ask for, and about what.
pub(crate) fn read(method: &str, path: &str) -> Option<(Verb, String)> {
    let path = percent_decoded(path.trim_matches('/'));
    let parts: Vec<&str> = path.split('/').collect();
    let (verb, target) = match (method, parts.as_slice()) {
        ("GET" | "HEAD", ["_ping"]) => (Verb::Ping, ""),
        ("GET", ["version"]) => (Verb::Version, ""),
        ("GET", ["info"]) => (Verb::Info, ""),
        ("GET", ["events"]) => (Verb::Events, ""),
        ("GET", ["containers", "json"]) => (Verb::ListContainers, ""),
        ("POST", ["containers", "create"]) => (Verb::Create, ""),
        ("GET", ["containers", name, "json"]) => (Verb::InspectContainer, *name),
        ("GET", ["containers", name, "logs"]) => (Verb::Logs, *name),
        ("POST", ["containers", name, word]) => (on_container(word)?, *name),
        ("DELETE", ["containers", name]) => (Verb::Remove, *name),
        ("GET", ["networks"]) => (Verb::ListNetworks, ""),
        ("POST", ["networks", "create"]) => (Verb::CreateNetwork, ""),
        ("DELETE", ["networks", name]) => (Verb::RemoveNetwork, *name),
        ("POST", ["networks", name, "connect"]) => (Verb::Connect, *name),
        ("POST", ["networks", name, "disconnect"]) => (Verb::Disconnect, *name),
        ("GET", ["volumes"]) => (Verb::ListVolumes, ""),
        ("POST", ["volumes", "create"]) => (Verb::CreateVolume, ""),
        ("GET", ["volumes", name]) => (Verb::InspectVolume, *name),
        ("DELETE", ["volumes", name]) => (Verb::RemoveVolume, *name),
        ("POST", ["images", "create"]) => (Verb::Pull, ""),
        ("POST", ["images", "load"]) => (Verb::Load, ""),
        _ => return on_image(method, &path),
    };
    Some((verb, target.to_owned()))
}

fn on_container(word: &str) -> Option<Verb> {
    match word {
        "start" => Some(Verb::Start),
        "stop" => Some(Verb::Stop),
        "kill" => Some(Verb::Kill),
        "pause" => Some(Verb::Pause),
        "unpause" => Some(Verb::Unpause),
        "update" => Some(Verb::Update),
        _ => None,
    }
}

/// The name of an image may have slashes of its own.
fn on_image(method: &str, path: &str) -> Option<(Verb, String)> {
    let name = path.strip_prefix("images/")?;
    let (verb, name) = match method {
        "GET" => (Verb::InspectImage, name.strip_suffix("/json")?),
        "POST" => (Verb::Tag, name.strip_suffix("/tag")?),
        "DELETE" => (Verb::RemoveImage, name),
        _ => return None,
    };
    Some((verb, name.to_owned()))
}

/// The pairs of a query.
pub(crate) fn pairs(query: &str) -> BTreeMap<String, String> {
    let pair = |text: &str| {
        let (key, value) = text.split_once('=').unwrap_or((text, ""));
        (
            percent_decoded(key),
            percent_decoded(&value.replace('+', " ")),
        )
    };
    query
        .split('&')
        .filter(|text| !text.is_empty())
        .map(pair)
        .collect()
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, others)) = rest.split_first() {
        let code = others
            .get(..2)
            .and_then(|code| std::str::from_utf8(code).ok());
        match code
            .and_then(|code| u8::from_str_radix(code, 16).ok())
            .filter(|_| *first == b'%')
        {
            Some(byte) => {
                bytes.push(byte);
                rest = &others[2..];
            }
            None => {
                bytes.push(*first);
                rest = others;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
