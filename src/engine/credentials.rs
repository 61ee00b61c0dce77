//! The credentials of `docker login`, for pulling.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use base64::Engine as _;
use bollard::auth::DockerCredentials;
use rustix::process::Pid;
use rustix::process::Signal;
use serde_json::Value;
use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Child;
use tokio::process::Command;

use super::connect;

/// How long all of this may take. A helper that asks a person (a PIN, a browser) has nobody to ask:
/// the image is then fetched without a login.
const LIMIT: Duration = Duration::from_secs(30);
/// The longest configuration or answer of a helper that is read. Real ones have a few kilobytes.
const SIZE_LIMIT: u64 = 1 << 20;

const DOCKER_HUB: &str = "https://index.docker.io/v1/";

/// The registry an image comes from, as docker's configuration names it.
pub fn registry_of(image: &str) -> String {
    match image.split_once('/') {
        Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => first.to_owned(),
        Some(_) | None => DOCKER_HUB.to_owned(),
    }
}

/// What `docker login` kept for the image's registry, if anything.
pub async fn for_image(image: &str, env: &BTreeMap<String, String>) -> Option<DockerCredentials> {
    let registry = registry_of(image);
    match tokio::time::timeout(LIMIT, of_registry(&registry, env)).await {
        Ok(found) => found,
        Err(_) => {
            let seconds = LIMIT.as_secs();
            tracing::warn!(registry, seconds, "no credential helper answered in time");
            None
        }
    }
}

async fn of_registry(registry: &str, env: &BTreeMap<String, String>) -> Option<DockerCredentials> {
    let config = configuration(&connect::docker_config_dir(env)?.join("config.json")).await?;
    let own_store = config
        .get("credHelpers")
        .and_then(|stores| stores.get(registry))
        .and_then(Value::as_str);
    let store = own_store.or_else(|| config.get("credsStore").and_then(Value::as_str));
    if let Some(name) = store
        && let Some(found) = from_store(name, registry, env).await
    {
        return Some(found);
    }
    let entry = config.get("auths")?.get(registry)?;
    let decoded = base64::engine::general_purpose::STANDARD
        .decode(entry.get("auth")?.as_str()?)
        .ok()?;
    let (user, password) = String::from_utf8(decoded)
        .ok()?
        .split_once(':')
        .map(owned)?;
    let token = entry
        .get("identitytoken")
        .and_then(Value::as_str)
        .map(str::to_owned);
    Some(credentials(registry, user, password, token))
}

/// The docker command's configuration. Only a file is read: a pipe might wait for ever.
async fn configuration(path: &Path) -> Option<Value> {
    if !tokio::fs::metadata(path).await.ok()?.is_file() {
        return None;
    }
    let bytes = all_of(tokio::fs::File::open(path).await.ok()?).await?;
    serde_json::from_slice(&bytes).ok()
}

/// Everything that comes, unless that is too much.
async fn all_of(reader: impl AsyncRead + Unpin) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut bounded = reader.take(SIZE_LIMIT + 1);
    bounded.read_to_end(&mut bytes).await.ok()?;
    (bytes.len() as u64 <= SIZE_LIMIT).then_some(bytes)
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

/// A helper and what it started. Dropping it ends them.
struct Helper(Child);

impl Drop for Helper {
    fn drop(&mut self) {
        // None once it was waited for; until then the group is its own.
        let group = self.0.id().and_then(|pid| i32::try_from(pid).ok());
        if let Some(group) = group.and_then(Pid::from_raw) {
            let _ = rustix::process::kill_process_group(group, Signal::KILL);
        }
    }
}

/// Whether this can be the end of a helper's name: a configuration must not lead to other programs.
fn is_helper_name(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    !name.is_empty() && name.bytes().all(is_plain)
}

/// Asks a credential store (docker/docker-credential-helpers: `get`, registry on stdin, JSON on
/// stdout).
async fn from_store(
    name: &str,
    registry: &str,
    env: &BTreeMap<String, String>,
) -> Option<DockerCredentials> {
    if !is_helper_name(name) {
        tracing::warn!(name, "that is no name of a credential helper");
        return None;
    }
    let child = Command::new(format!("docker-credential-{name}"))
        .arg("get")
        .env_clear()
        .envs(env)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .inspect_err(|error| tracing::warn!(%error, name, "the credential helper does not start"));
    let mut helper = Helper(child.ok()?);
    let mut question = helper.0.stdin.take()?;
    let answer = helper.0.stdout.take()?;
    // One that answers without reading the question is fine too.
    let _ = question.write_all(registry.as_bytes()).await;
    drop(question);
    let answer = all_of(answer).await?;
    let _ = helper.0.wait().await;
    let answer: Value = serde_json::from_slice(&answer).ok()?;
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

    /// A home with this configuration and this helper, `docker-credential-test`.
    fn home(config: &str, script: &str) -> (tempfile::TempDir, BTreeMap<String, String>) {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("config.json"), config).unwrap();
        let program = dir.path().join("docker-credential-test");
        std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let place = dir.path().display();
        let env = BTreeMap::from([
            ("DOCKER_CONFIG".to_owned(), place.to_string()),
            ("PATH".to_owned(), format!("{place}:/usr/bin:/bin")),
        ]);
        (dir, env)
    }

    const STORE: &str = r#"{"credsStore":"test"}"#;

    #[tokio::test]
    async fn a_credential_helper_is_asked_for_the_registry() {
        let script = r#"read registry; echo "{\"Username\":\"$registry\",\"Secret\":\"s\"}""#;
        let (_dir, env) = home(STORE, script);
        let found = for_image("r.example/a", &env).await.unwrap();
        assert_eq!(found.username.as_deref(), Some("r.example"));
        assert_eq!(found.password.as_deref(), Some("s"));
    }

    #[tokio::test]
    async fn a_credential_helper_that_waits_for_ever_is_ended_with_what_it_started() {
        let (dir, env) = home(
            STORE,
            "sleep 1000 & echo $! > \"$DOCKER_CONFIG/child\"; wait",
        );
        let file = dir.path().join("child");
        let asking = of_registry("r.example", &env);
        let begun = async {
            loop {
                let pid = std::fs::read_to_string(&file).unwrap_or_default();
                if let Ok(pid) = pid.trim().parse::<i32>() {
                    return pid;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        // Cancel-safe: what is dropped is what is tried here.
        let child = tokio::select! {
            _ = asking => panic!("it never answers"),
            child = begun => child,
        };
        let state = format!("/proc/{child}/stat");
        let is_gone = || std::fs::read_to_string(&state).map_or(true, |text| text.contains(") Z "));
        let gone = async {
            while !is_gone() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), gone)
            .await
            .expect("nothing of the helper is left");
    }

    #[tokio::test]
    async fn a_credential_helper_that_floods_or_is_another_program_is_not_believed() {
        let (_dir, env) = home(STORE, "yes");
        assert!(for_image("r.example/a", &env).await.is_none());
        for name in ["", "../../bin/sh", "a/b", "a b"] {
            assert!(!is_helper_name(name), "{name:?}");
        }
        assert!(is_helper_name("osxkeychain") && is_helper_name("ecr-login"));
    }

    #[tokio::test]
    async fn a_login_in_the_configuration_file_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let auth = base64::engine::general_purpose::STANDARD.encode("me:pass:word");
        std::fs::write(
            dir.path().join("config.json"),
            format!(r#"{{"auths":{{"r.example:5000":{{"auth":"{auth}"}}}}}}"#),
        )
        .unwrap();
        let env = BTreeMap::from([("DOCKER_CONFIG".to_owned(), dir.path().display().to_string())]);
        let found = for_image("r.example:5000/a/b:1", &env).await.unwrap();
        assert_eq!(
            (found.username.as_deref(), found.password.as_deref()),
            (Some("me"), Some("pass:word"))
        );
        assert!(for_image("other.example/a", &env).await.is_none());
    }
}
