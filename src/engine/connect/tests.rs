//! Which engine is meant, by whatever name, and which is refused.

use super::*;

#[test]
fn a_socket_of_two_names_is_one_engine() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| Endpoint::at(format!("unix://{}", dir.path().join(name).display()));
    for name in ["docker.sock", "another.sock"] {
        std::fs::write(dir.path().join(name), "").unwrap();
    }
    std::os::unix::fs::symlink(dir.path(), dir.path().join("run")).unwrap();
    assert!(at("docker.sock").is_same(&at("run/docker.sock")));
    assert!(!at("docker.sock").is_same(&at("another.sock")));
    assert!(
        at("gone.sock").is_same(&at("run/gone.sock")) && !at("gone.sock").is_same(&at("lost.sock"))
    );
    assert!(
        at("no/gone.sock").is_same(&at("no/gone.sock"))
            && !at("no/gone.sock").is_same(&at("gone.sock"))
    );
    let far = |url: &str| Endpoint::at(url.to_owned());
    assert!(far("tcp://far:2375").is_same(&far("http://far:2375/")));
    assert!(!far("tcp://far:2375").is_same(&far("tcp://near:2375")));
    assert!(!at("docker.sock").is_same(&far("tcp://far:2375")));
}

#[test]
fn which_engine_it_is_is_found_out_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let at = |name: &str| Endpoint::at(format!("unix://{}", path(name).display()));
    std::os::unix::fs::symlink("later.sock", path("link.sock")).unwrap();
    let (link, socket) = (at("link.sock"), at("later.sock"));
    assert!(link.is_same(&socket), "the socket comes later");
    std::fs::write(path("later.sock"), "").unwrap();
    assert!(link.is_same(&at("link.sock")) && at("link.sock").is_same(&socket));
    std::fs::remove_file(path("link.sock")).unwrap();
    std::os::unix::fs::symlink("another.sock", path("link.sock")).unwrap();
    assert!(link.is_same(&socket), "the disk is not asked again");
    assert!(!at("link.sock").is_same(&socket), "but for a new endpoint");
    let kept = serde_json::to_string(&socket).unwrap();
    assert_eq!(kept, format!("\"{}\"", socket.url()));
    assert_eq!(serde_json::from_str::<Endpoint>(&kept).unwrap(), socket);
    std::os::unix::fs::symlink("loop.sock", path("loop.sock")).unwrap();
    assert!(at("loop.sock").is_same(&at("loop.sock")));
}

#[test]
fn the_canonical_name_is_one_for_all_that_lead_to_the_same() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("docker.sock"), "").unwrap();
    std::os::unix::fs::symlink(dir.path(), dir.path().join("run")).unwrap();
    let at = |name: &str| Endpoint::at(format!("unix://{}", dir.path().join(name).display()));
    assert_eq!(
        at("run/docker.sock").identity(),
        at("docker.sock").identity()
    );
    let far = |url: &str| Endpoint::at(url).identity().to_owned();
    assert_eq!(far("http://near:2375/"), "tcp://near:2375");
    assert_eq!(far("tcp://near:2375"), "tcp://near:2375");
}

#[test]
fn a_context_that_is_not_there_is_no_other_engine() {
    let dir = tempfile::tempdir().unwrap();
    let env = BTreeMap::from([
        ("DOCKER_CONFIG".to_owned(), dir.path().display().to_string()),
        ("DOCKER_CONTEXT".to_owned(), "nope".to_owned()),
    ]);
    let found = endpoint(&env);
    assert_eq!(found.to_string(), "docker context \"nope\"");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let error = runtime.block_on(Engine::connect(found)).unwrap_err();
    assert!(
        matches!(error, EngineError::Unsupported { .. }),
        "{error:?}"
    );
}

#[tokio::test]
async fn an_engine_on_another_host_is_refused_and_a_tunnel_is_told() {
    // Of a range that documentation has for itself: no interface has it.
    let far = Endpoint::at("tcp://192.0.2.7:2375");
    let error = Engine::connect(far).await.unwrap_err();
    assert!(error.to_string().contains("another host"), "{error}");
    let ssh = Endpoint::at("ssh://far");
    assert!(matches!(
        Engine::connect(ssh).await,
        Err(EngineError::Unsupported { .. })
    ));
    assert!(is_tunnel("ssh") && !is_tunnel("dockerd") && !is_tunnel("systemd"));
    let info = |name: &str, kernel: &str, system: &str| Info {
        name: name.to_owned(),
        kernel_version: kernel.to_owned(),
        operating_system: system.to_owned(),
    };
    assert!(info("far", "6.1", "Debian").is_elsewhere("here", "6.2"));
    assert!(!info("here", "6.1", "Debian").is_elsewhere("here", "6.2"));
    assert!(!info("docker-desktop", "6.1", "Docker Desktop").is_elsewhere("here", "6.2"));
    assert!(!info("", "", "").is_elsewhere("here", "6.2"));
}

#[test]
fn docker_host_comes_first_and_contexts_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let hash: String = sha2::Sha256::digest(b"far")
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let meta = dir.path().join("contexts/meta").join(hash);
    std::fs::create_dir_all(&meta).unwrap();
    std::fs::write(
        meta.join("meta.json"),
        r#"{"Name":"far","Endpoints":{"docker":{"Host":"tcp://far:2375"}}}"#,
    )
    .unwrap();
    std::fs::write(
        dir.path().join("config.json"),
        r#"{"currentContext":"far"}"#,
    )
    .unwrap();
    let mut env = BTreeMap::from([("DOCKER_CONFIG".to_owned(), dir.path().display().to_string())]);
    assert_eq!(endpoint(&env).url(), "tcp://far:2375");
    env.insert("DOCKER_HOST".to_owned(), "unix:///here.sock".to_owned());
    assert_eq!(endpoint(&env).url(), "unix:///here.sock");
}
