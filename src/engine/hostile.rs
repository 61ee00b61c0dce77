//! Tries an engine that lies, floods or makes no sense: no answer may fill the memory, hang a call
//! or hide from us what else is there.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixListener;
use tokio::net::UnixStream;
use tokio::task::JoinHandle;

use super::Endpoint;
use super::Engine;
use super::EngineError;
use super::WORDS_LIMIT;
use super::logs::Selection;
use super::observe::ObservationCache;
use crate::config::project::ProjectName;
use crate::reconcile::Observed;
use crate::reconcile::observed::Run;
use crate::reconcile::observed::Stranger;

/// An answer: its status, the beginning of its body, and what then comes for ever.
struct Answer(u16, String, &'static str);

/// An engine at a socket.
struct Peer {
    engine: Engine,
    server: JoinHandle<()>,
    _dir: tempfile::TempDir,
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// An engine that tells its version, and answers everything else so: `answer` is given the path
/// without its version.
async fn peer(answer: impl Fn(&str) -> Answer + Send + Sync + 'static) -> Peer {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("engine.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let answer = Arc::new(answer);
    let server = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let answer = answer.clone();
            tokio::spawn(async move { serve(stream, |path| answer(path)).await });
        }
    });
    let endpoint = Endpoint::at(format!("unix://{}", path.display()));
    Peer {
        engine: Engine::connect(endpoint).await.unwrap(),
        server,
        _dir: dir,
    }
}

/// None when the other side left.
async fn serve(mut stream: UnixStream, answer: impl Fn(&str) -> Answer) -> Option<()> {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        request.push(stream.read_u8().await.ok()?);
    }
    let request = String::from_utf8(request).unwrap();
    let path = request.split(' ').nth(1).unwrap();
    let path = path.strip_prefix("/v1.41").unwrap_or(path);
    let Answer(status, body, endless) = match path {
        "/version" => Answer(200, r#"{"ApiVersion":"1.41"}"#.to_owned(), ""),
        _ => answer(path),
    };
    let head = format!("HTTP/1.1 {status} X\r\nConnection: close\r\n\r\n{body}");
    stream.write_all(head.as_bytes()).await.ok()?;
    let more = endless.repeat(4096);
    while !more.is_empty() {
        stream.write_all(more.as_bytes()).await.ok()?;
    }
    Some(())
}

fn project() -> ProjectName {
    crate::config::project::normalise("shop").unwrap()
}

fn nothing(path: &str) -> Answer {
    let body = if path.starts_with("/volumes") {
        "{}"
    } else {
        "[]"
    };
    Answer(200, body.to_owned(), "")
}

fn listed(id: &str, unit: &str, state: &str) -> String {
    let name = if unit == "db" {
        "shop-db-1".to_owned()
    } else {
        format!("shop-{unit}")
    };
    format!(
        r#"{{"Id":"{id}","Names":["/{name}"],"State":"{state}","Status":"Up 1 second",
            "Labels":{{"octo-local.project":"shop","octo-local.unit":"{unit}"}}}}"#
    )
}

async fn look(engine: &Engine) -> Result<Observed, EngineError> {
    let images = ["Not/A Reference".to_owned()];
    let looking = async {
        let mut cache = ObservationCache::default();
        engine.observe(&project(), &images, &mut cache).await
    };
    tokio::time::timeout(Duration::from_secs(60), looking)
        .await
        .expect("a look ends")
}

#[tokio::test]
async fn an_answer_without_end_is_given_up() {
    let peer = peer(|path| match path {
        path if path.starts_with("/containers/json") => Answer(200, "[".to_owned(), "0,"),
        path => nothing(path),
    })
    .await;
    let error = look(&peer.engine).await.unwrap_err();
    assert!(error.to_string().contains("longer than 16 MiB"), "{error}");
    let source = std::error::Error::source(&error);
    assert!(source.is_some(), "what it comes from is kept: {error:?}");
    assert_eq!(
        super::chain(&error),
        error.to_string(),
        "nothing is said twice"
    );
}

#[tokio::test]
async fn a_head_without_end_is_given_up() {
    let peer = peer(|_| Answer(200, String::new(), "")).await;
    assert!(matches!(
        look(&peer.engine).await,
        Err(EngineError::Broken { .. })
    ));
    let flood = peer_of_heads().await;
    let error = flood.engine.ping().await.unwrap_err();
    assert!(matches!(error, EngineError::Broken { .. }), "{error}");
}

/// An engine whose answers to everything but its version never come to their body.
async fn peer_of_heads() -> Peer {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("engine.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let server = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 1024];
            let Ok(length) = stream.read(&mut request).await else {
                continue;
            };
            let version = r#"{"ApiVersion":"1.41"}"#;
            if request[..length].starts_with(b"GET /version") {
                let text = format!("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{version}");
                let _ = stream.write_all(text.as_bytes()).await;
                continue;
            }
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n").await;
            let more = "X-More: and more\r\n".repeat(100);
            while stream.write_all(more.as_bytes()).await.is_ok() {}
        }
    });
    let endpoint = Endpoint::at(format!("unix://{}", path.display()));
    Peer {
        engine: Engine::connect(endpoint).await.unwrap(),
        server,
        _dir: dir,
    }
}

#[tokio::test]
async fn an_event_without_end_breaks_the_stream_and_nothing_else() {
    let peer = peer(|_| Answer(200, r#"{"Type":""#.to_owned(), "x")).await;
    let mut hints = Box::pin(peer.engine.hints(&project()));
    let error = hints.next().await.unwrap().unwrap_err();
    assert!(error.to_string().contains("a line has no end"), "{error}");
    assert!(hints.next().await.is_none());
}

#[tokio::test]
async fn an_event_that_nobody_understands_is_passed_over() {
    let peer = peer(|_| {
        let events = [
            "nonsense",
            r#"{"Type":"wormhole","Action":"open"}"#,
            r#"{"Type":"network","Action":"create","Actor":{"ID":"n","Attributes":{"name":"shop_default"}}}"#,
        ];
        Answer(200, events.join("\r\n") + "\r\n", "")
    })
    .await;
    let hints: Vec<_> = peer.engine.hints(&project()).collect().await;
    assert_eq!(hints.len(), 1);
    assert!(hints[0].is_ok());
}

#[tokio::test]
async fn a_log_frame_of_four_gigabytes_fills_nothing() {
    let peer = peer(|_| {
        let frame = "\u{1}\0\0\0\u{7f}\u{7f}\u{7f}\u{7f}";
        Answer(200, frame.to_owned() + &"x".repeat(100_000), "")
    })
    .await;
    let what = Selection::default();
    let lines: Vec<_> = peer.engine.log("a", &what).collect().await;
    assert_eq!(lines.len(), 1);
    assert!(lines[0].as_ref().unwrap().1.len() <= 4096);
}

#[tokio::test]
async fn a_refusal_is_told_in_few_words() {
    let peer = peer(|_| {
        let words = "no ".repeat(100_000);
        Answer(500, format!(r#"{{"message":"{words}"}}"#), "")
    })
    .await;
    let error = look(&peer.engine).await.unwrap_err();
    assert!(matches!(error, EngineError::Refused { status: 500, .. }));
    assert!(error.to_string().len() < WORDS_LIMIT + 100);
}

#[tokio::test]
async fn a_hundred_thousand_containers_of_others_are_no_end() {
    let peer = peer(|path| match path {
        path if path.starts_with("/containers/json") => {
            let entries: Vec<String> = (0..100_000)
                .map(|number| format!(r#"{{"Id":"{number}","Names":["/c{number}"]}}"#))
                .collect();
            Answer(200, format!("[{}]", entries.join(",")), "")
        }
        path => nothing(path),
    })
    .await;
    let seen = look(&peer.engine).await.unwrap();
    assert_eq!((seen.containers.len(), seen.strangers.len()), (0, 100_000));
}

#[tokio::test]
async fn what_makes_no_sense_in_an_inventory_costs_only_itself() {
    let peer = peer(|path| match path {
        path if path.starts_with("/containers/json") => {
            let odd = r#"{"Id":"1","Names":["/odd"],"State":"stopped","Ports":[{"Type":"sctp","PublicPort":"x"}]}"#;
            let fine = r#"{"Id":"2","Names":["/fine"],"State":"running","Mounts":[{"Type":"odd","Name":"v"}],
                "Ports":[{"IP":"127.0.0.1","PublicPort":80,"Type":"tcp"},{"PublicPort":53,"Type":"udp"}]}"#;
            Answer(200, format!("[{odd},7,{fine}]"), "")
        }
        path if path.starts_with("/volumes") => {
            let volumes = r#"{"Volumes":[{"Name":"v","Scope":"elsewhere"},{"Name":7}]}"#;
            Answer(200, volumes.to_owned(), "")
        }
        path if path.starts_with("/networks") => {
            Answer(200, r#"[{"Name":"n","Id":"n","IPAM":7}]"#.to_owned(), "")
        }
        path => nothing(path),
    })
    .await;
    let all = peer.engine.inventory().await.unwrap();
    let names: Vec<&str> = all
        .containers
        .iter()
        .map(|one| one.thing.name.as_str())
        .collect();
    assert_eq!(names, ["odd", "fine"]);
    let fine = &all.containers[1];
    assert!(fine.runs && fine.mounts.contains("v"));
    assert_eq!((fine.ports.len(), fine.ports[0].port), (1, 80));
    assert_eq!((all.volumes.len(), all.networks.len()), (1, 1));
}

#[tokio::test]
async fn a_container_that_cannot_be_looked_at_costs_only_itself() {
    let peer = peer(|path| match path {
        path if path.starts_with("/containers/json") => {
            let all = [
                listed("refused", "db", "running"),
                listed("nonsense", "octopus-server-1", "stopped"),
                listed("fine", "octopus-server-2", "running"),
                r#"{"Id":"by hand","Names":["/copy"],"Labels":{"octo-local.project":"shop"}}"#.to_owned(),
            ];
            Answer(200, format!("[{}]", all.join(",")), "")
        }
        "/containers/refused/json" => Answer(500, r#"{"message":"layer not found"}"#.to_owned(), ""),
        "/containers/nonsense/json" => Answer(200, r#"{"State":7}"#.to_owned(), ""),
        "/containers/fine/json" => {
            let labels = r#""octo-local.unit":"octopus-server-2""#;
            let state = r#""Status":"running","StartedAt":"t","Health":{"Status":"odd"}"#;
            let body = format!(
                r#"{{"Id":"fine","Name":"/shop-octopus-server-2","Config":{{"Labels":{{{labels}}}}},"State":{{{state}}}}}"#
            );
            Answer(200, body, "")
        }
        path if path.starts_with("/images/") => {
            Answer(400, r#"{"message":"invalid reference format"}"#.to_owned(), "")
        }
        path => nothing(path),
    })
    .await;
    let seen = look(&peer.engine).await.unwrap();
    let ids: Vec<&str> = seen.containers.iter().map(|one| one.id.as_str()).collect();
    assert_eq!(ids, ["refused", "nonsense", "fine"]);
    let is_ended = |run: &Run| matches!(run, Run::Exited { .. });
    assert!(seen.containers[0].is_running() && is_ended(&seen.containers[1].run));
    assert_eq!(
        seen.containers[2].run,
        Run::Running {
            started_at: "t".to_owned()
        }
    );
    assert_eq!(
        seen.strangers.into_iter().collect::<Vec<_>>(),
        [Stranger::Container("copy".to_owned())]
    );
    assert!(seen.images.is_empty());
}

#[tokio::test]
async fn podman_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("engine.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let server = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).await;
            let body = r#"{"ApiVersion":"1.41","Components":[{"Name":"Podman Engine","Version":"5.4.2"}]}"#;
            let text = format!("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{body}");
            let _ = stream.write_all(text.as_bytes()).await;
        }
    });
    let endpoint = Endpoint::at(format!("unix://{}", path.display()));
    let error = Engine::connect(endpoint).await.unwrap_err();
    server.abort();
    assert!(
        matches!(error, EngineError::Unsupported { .. }) && error.to_string().contains("Podman"),
        "{error}"
    );
}
