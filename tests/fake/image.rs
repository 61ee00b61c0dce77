//! Images of the fake engine: names and nothing behind them. What a container runs is told from the
//! repository's name.

use std::collections::BTreeMap;
use std::io::Read as _;

use serde_json::Value;
use serde_json::json;

use super::call::Call;
use super::call::Refusal;
use super::world::World;

/// The reference with the tag that the engine assumes.
pub(super) fn with_tag(image: &str) -> String {
    let last = image.rsplit('/').next().unwrap_or(image);
    if last.contains([':', '@']) {
        image.to_owned()
    } else {
        format!("{image}:latest")
    }
}

/// The tag of a reference.
pub(super) fn tag_of(image: &str) -> String {
    with_tag(image)
        .rsplit(':')
        .next()
        .unwrap_or_default()
        .to_owned()
}

/// Whether it is a SQL Server; every other image is an Octopus Server.
pub(super) fn is_sql(image: &str) -> bool {
    image.rsplit('/').next().unwrap_or(image).contains("sql")
}

/// Adds an image under this reference, which may have stood for another one.
pub(super) fn add(world: &mut World, image: &str, action: &str) {
    let id = format!("sha256:{}", world.new_id());
    world.images.insert(with_tag(image), id.clone());
    world.origins.insert(id.clone(), with_tag(image));
    world.tell(
        "image",
        action,
        &id,
        BTreeMap::from([("name".to_owned(), with_tag(image))]),
    );
}

/// The ID of an image, by reference or by ID.
pub(super) fn id_of(world: &World, name: &str) -> Option<String> {
    let by_id = world.origins.contains_key(name).then(|| name.to_owned());
    by_id.or_else(|| world.images.get(&with_tag(name)).cloned())
}

pub(super) fn inspect(world: &World, name: &str) -> Result<Value, Refusal> {
    let reference = with_tag(name);
    let absent = || {
        Refusal::new(
            404,
            format!("no such image: {name}: No such image: {reference}"),
        )
    };
    let id = id_of(world, name).ok_or_else(absent)?;
    Ok(
        json!({ "Id": id, "RepoTags": [reference], "RepoDigests": [], "Architecture": "amd64", "Os": "linux", "Size": 1 }),
    )
}

/// Fetches an image from the registry, if it has it: lines of progress.
pub(super) fn pull(world: &mut World, call: &Call) -> Result<String, Refusal> {
    let query = |key: &str| call.query.get(key).cloned().unwrap_or_default();
    let (image, tag) = (query("fromImage"), query("tag"));
    let reference = with_tag(&if tag.is_empty() {
        image.clone()
    } else {
        format!("{image}:{tag}")
    });
    let repository = reference
        .rsplit_once(':')
        .map_or(reference.as_str(), |(repository, _)| repository);
    if !world.registry.contains(repository) {
        let text = format!(
            "pull access denied for {repository}, repository does not exist or may require 'docker login': denied: \
             requested access to the resource is denied"
        );
        return Err(Refusal::new(404, text));
    }
    add(world, &reference, "pull");
    let steps = [
        format!("Pulling from {repository}"),
        format!("Status: Downloaded newer image for {reference}"),
    ];
    Ok(steps
        .iter()
        .map(|step| format!("{}\r\n", json!({ "status": step })))
        .collect())
}

/// Loads an archive: only the names in it matter.
pub(super) fn load(world: &mut World, call: &Call) -> Result<String, Refusal> {
    let bad =
        |error: std::io::Error| Refusal::new(500, format!("Error processing tar file: {error}"));
    let mut archive = tar::Archive::new(call.archive.as_slice());
    for entry in archive.entries().map_err(bad)? {
        let mut entry = entry.map_err(bad)?;
        if entry.path().map_err(bad)?.as_os_str() != "manifest.json" {
            continue;
        }
        let mut text = String::new();
        entry.read_to_string(&mut text).map_err(bad)?;
        let manifest: Value = serde_json::from_str(&text).unwrap_or_default();
        let images = manifest.as_array().into_iter().flatten();
        for tag in images.flat_map(|image| image["RepoTags"].as_array().into_iter().flatten()) {
            add(world, tag.as_str().unwrap_or_default(), "load");
        }
    }
    Ok(format!("{}\r\n", json!({ "stream": "Loaded image" })))
}

pub(super) fn tag(world: &mut World, call: &Call) -> Result<u16, Refusal> {
    let found = inspect(world, &call.target)?;
    let query = |key: &str| call.query.get(key).cloned().unwrap_or_default();
    let id = found["Id"].as_str().unwrap_or_default().to_owned();
    let reference = format!("{}:{}", query("repo"), query("tag"));
    world.images.insert(reference.clone(), id.clone());
    world.tell(
        "image",
        "tag",
        &id,
        BTreeMap::from([("name".to_owned(), reference)]),
    );
    Ok(201)
}

pub(super) fn remove(world: &mut World, name: &str) -> Result<Value, Refusal> {
    let reference = with_tag(name);
    let absent = || Refusal::new(404, format!("No such image: {reference}"));
    let id = world.images.get(&reference).cloned().ok_or_else(absent)?;
    if let Some(user) = world
        .containers
        .values()
        .find(|container| with_tag(&container.image) == reference)
    {
        let text = format!(
            "conflict: unable to remove repository reference \"{reference}\" (must force) - container {} is using its \
             referenced image {id}",
            &user.id[..12]
        );
        return Err(Refusal::new(409, text));
    }
    world.images.remove(&reference);
    world.tell(
        "image",
        "untag",
        &id,
        BTreeMap::from([("name".to_owned(), reference.clone())]),
    );
    Ok(json!([{ "Untagged": reference }]))
}
