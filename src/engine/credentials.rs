//! The credentials of `docker login`, for pulling.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::Command;
use std::process::Stdio;

use base64::Engine as _;
use bollard::auth::DockerCredentials;

use super::connect;

const DOCKER_HUB: &str = "https://index.docker.io/v1/";

/// The registry an image comes from, as docker's configuration names it.
pub fn registry_of(image: &str) -> String {
    match image.split_once('/') {
        Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => first.to_owned(),
        Some(_) | None => DOCKER_HUB.to_owned(),
    }
}

/// What `docker login` kept for the image's registry, if anything.
pub fn for_image(image: &str, env: &BTreeMap<String, String>) -> Option<DockerCredentials> {
    let registry = registry_of(image);
    let config = connect::read_json(&connect::docker_config_dir(env)?.join("config.json"))?;
    let own_store = config
        .get("credHelpers")
        .and_then(|stores| stores.get(&registry))
        .and_then(|name| name.as_str());
    let store = own_store.or_else(|| config.get("credsStore").and_then(|name| name.as_str()));
    if let Some(found) = store.and_then(|name| from_store(name, &registry)) {
        return Some(found);
    }
    let entry = config.get("auths")?.get(&registry)?;
    let decoded = base64::engine::general_purpose::STANDARD
        .decode(entry.get("auth")?.as_str()?)
        .ok()?;
    let (user, password) = String::from_utf8(decoded)
        .ok()?
        .split_once(':')
        .map(owned)?;
    let token = entry
        .get("identitytoken")
        .and_then(|token| token.as_str())
        .map(str::to_owned);
    Some(credentials(&registry, user, password, token))
}

fn owned((one, other): (&str, &str)) -> (String, String) {
    (one.to_owned(), other.trim_end_matches('\0').to_owned())
}

fn credentials(
    registry: &str,
    user: String,
    password: String,
    token: Option<String>,
) -> DockerCredentials {
    DockerCredentials {
        username: Some(user),
        password: Some(password),
        serveraddress: Some(registry.to_owned()),
        identitytoken: token,
        ..DockerCredentials::default()
    }
}

/// Asks a credential store (docker/docker-credential-helpers: `get`, registry on stdin, JSON on
/// stdout).
fn from_store(name: &str, registry: &str) -> Option<DockerCredentials> {
    let mut child = Command::new(format!("docker-credential-{name}"))
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    child.stdin.take()?.write_all(registry.as_bytes()).ok()?;
    let answer: serde_json::Value =
        serde_json::from_slice(&child.wait_with_output().ok()?.stdout).ok()?;
    let user = answer.get("Username")?.as_str()?.to_owned();
    let secret = answer.get("Secret")?.as_str()?.to_owned();
    let token = (user == "<token>").then(|| secret.clone());
    Some(credentials(registry, user, secret, token))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registries_are_named_as_docker_does() {
        assert_eq!(
            registry_of("octopusdeploy/octopusdeploy:2026.2"),
            DOCKER_HUB
        );
        assert_eq!(
            registry_of("mcr.microsoft.com/mssql/server"),
            "mcr.microsoft.com"
        );
        assert_eq!(registry_of("localhost/x"), "localhost");
    }

    #[test]
    fn a_login_in_the_configuration_file_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let auth = base64::engine::general_purpose::STANDARD.encode("me:pass:word");
        std::fs::write(
            dir.path().join("config.json"),
            format!(r#"{{"auths":{{"r.example:5000":{{"auth":"{auth}"}}}}}}"#),
        )
        .unwrap();
        let env = BTreeMap::from([("DOCKER_CONFIG".to_owned(), dir.path().display().to_string())]);
        let found = for_image("r.example:5000/a/b:1", &env).unwrap();
        assert_eq!(
            (found.username.as_deref(), found.password.as_deref()),
            (Some("me"), Some("pass:word"))
        );
        assert!(for_image("other.example/a", &env).is_none());
    }
}
