//! Carries out what was asked.

use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use hyper::body::Bytes;
use serde_json::Value;
use serde_json::json;

use super::Shared;
use super::call::Api;
use super::call::Call;
use super::call::Refusal;
use super::call::Verb;
use super::container;
use super::event;
use super::image;
use super::lifecycle;
use super::network;

/// What the engine answers.
pub(super) enum Reply {
    Status(u16),
    Json(u16, Value),
    Bytes(&'static str, Vec<u8>),
    Stream(BoxStream<'static, Bytes>),
}

/// Does it.
pub(super) async fn carry_out(shared: &Arc<Shared>, call: &Call) -> Result<Reply, Refusal> {
    let target = call.target.as_str();
    Ok(match call.verb {
        Verb::Start => Reply::Status(lifecycle::start(shared, target).await?),
        Verb::Stop => Reply::Status(lifecycle::stop(shared, call).await?),
        Verb::Kill => Reply::Status(lifecycle::kill(shared, call).await?),
        Verb::Remove => Reply::Status(lifecycle::remove(shared, call).await?),
        Verb::Events => Reply::Stream(event::stream(shared.clone(), call).boxed()),
        _ => at_once(shared, call)?,
    })
}

/// What needs no waiting.
fn at_once(shared: &Shared, call: &Call) -> Result<Reply, Refusal> {
    let target = call.target.as_str();
    let mut guard = shared.world();
    let world = &mut *guard;
    Ok(match call.verb {
        Verb::Ping => Reply::Bytes("text/plain", b"OK".to_vec()),
        Verb::Version => Reply::Json(200, version(world.api)),
        Verb::Info => Reply::Json(200, info()),
        Verb::ListContainers => Reply::Json(200, container::list(world, call)),
        Verb::InspectContainer => Reply::Json(200, world.container(target)?.inspected()),
        Verb::Logs => Reply::Bytes(
            "application/vnd.docker.raw-stream",
            logs(world.container(target)?, call),
        ),
        Verb::Create => Reply::Json(201, container::create(world, call)?),
        Verb::Pause => Reply::Status(lifecycle::pause(world, target, true)?),
        Verb::Unpause => Reply::Status(lifecycle::pause(world, target, false)?),
        Verb::Update => Reply::Json(200, lifecycle::update(world, call)?),
        Verb::ListNetworks => Reply::Json(200, network::list(world, call)),
        Verb::CreateNetwork => Reply::Json(201, network::create(world, call)?),
        Verb::RemoveNetwork => Reply::Status(network::remove(world, call)?),
        Verb::Connect => Reply::Status(network::connect(world, call)?),
        Verb::Disconnect => Reply::Status(network::disconnect(world, call)?),
        Verb::ListVolumes => Reply::Json(200, network::volumes(world, call)),
        Verb::InspectVolume => Reply::Json(200, network::volume(world, target)?),
        Verb::CreateVolume => Reply::Json(201, network::create_volume(world, call)),
        Verb::RemoveVolume => Reply::Status(network::remove_volume(world, target)?),
        Verb::InspectImage => Reply::Json(200, image::inspect(world, target)?),
        Verb::Pull => Reply::Bytes("application/json", image::pull(world, call)?.into_bytes()),
        Verb::Load => Reply::Bytes("application/json", image::load(world, call)?.into_bytes()),
        Verb::Tag => Reply::Status(image::tag(world, call)?),
        Verb::RemoveImage => Reply::Json(200, image::remove(world, target)?),
        Verb::Start | Verb::Stop | Verb::Kill | Verb::Remove | Verb::Events => {
            return Err(Refusal::new(
                500,
                "the fake engine asked itself in the wrong place",
            ));
        }
    })
}

fn version(api: Api) -> Value {
    let Api { oldest, newest } = api;
    json!({
        "Version": "20.10.24-fake", "ApiVersion": format!("1.{newest}"), "MinAPIVersion": format!("1.{oldest}"), "Os": "linux",
        "Arch": "amd64", "GitCommit": "", "GoVersion": "", "KernelVersion": "", "Platform": { "Name": "" },
    })
}

fn info() -> Value {
    json!({
        "ID": "fake", "MemTotal": 8_000_000_000_i64, "Architecture": "x86_64", "NCPU": 2, "OSType": "linux",
        "SystemTime": event::time_now(), "ServerVersion": "20.10.24-fake",
    })
}

/// The last lines in the engine's frames: one byte for the stream, three empty, four for the
/// length.
fn logs(container: &container::Container, call: &Call) -> Vec<u8> {
    let lines = super::lock(&container.log);
    let count = call
        .query
        .get("tail")
        .and_then(|text| text.parse().ok())
        .unwrap_or(usize::MAX);
    let mut bytes = Vec::new();
    for (err, line) in lines.iter().skip(lines.len().saturating_sub(count)) {
        let text = format!("{line}\n");
        bytes.extend([if *err { 2 } else { 1 }, 0, 0, 0]);
        bytes.extend(u32::try_from(text.len()).unwrap_or_default().to_be_bytes());
        bytes.extend(text.as_bytes());
    }
    bytes
}
