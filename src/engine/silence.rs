//! Tries calls on an engine that falls silent: they end by limits of their own. The clock is the
//! tests', so nobody waits.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixListener;
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::Endpoint;
use super::Engine;
use super::EngineError;
use super::SLOW;
use super::START;
use super::archive::ARCHIVE_SILENCE;
use super::images::PULL_SILENCE;

const IMAGE: &str = "registry.example/a:1";

/// An engine that tells its version, and then answers one call with what the test says, never
/// ending.
struct Silent {
    engine: Engine,
    words: mpsc::UnboundedSender<String>,
    server: JoinHandle<()>,
    /// While a blocking task runs, tokio's clock moves only by the test's hand.
    _still: std::sync::mpsc::Sender<()>,
    _dir: tempfile::TempDir,
}

impl Silent {
    async fn new() -> Self {
        let (still, moves) = std::sync::mpsc::channel();
        tokio::task::spawn_blocking(move || moves.recv());
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("engine.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let (words, said) = mpsc::unbounded_channel();
        let server = tokio::spawn(serve(listener, said));
        let engine = Engine::connect(Endpoint::at(format!("unix://{}", path.display())))
            .await
            .unwrap();
        Self {
            engine,
            words,
            server,
            _still: still,
            _dir: dir,
        }
    }

    /// Says one line of a pull's progress.
    fn say(&self, status: &str) {
        self.words
            .send(format!("{{\"status\":\"{status}\"}}\r\n"))
            .unwrap();
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve(listener: UnixListener, mut said: mpsc::UnboundedReceiver<String>) {
    let version = r#"{"ApiVersion":"1.41"}"#;
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n";
    let answer = format!(
        "{head}Connection: close\r\nContent-Length: {}\r\n\r\n{version}",
        version.len()
    );
    asked(&listener)
        .await
        .write_all(answer.as_bytes())
        .await
        .unwrap();
    let mut stream = asked(&listener).await;
    let mut head = Some(format!("{head}Transfer-Encoding: chunked\r\n\r\n"));
    while let Some(line) = said.recv().await {
        let text = format!(
            "{}{:x}\r\n{line}\r\n",
            head.take().unwrap_or_default(),
            line.len()
        );
        stream.write_all(text.as_bytes()).await.unwrap();
    }
}

/// A connection on which the whole head of a request came.
async fn asked(listener: &UnixListener) -> UnixStream {
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        request.push(stream.read_u8().await.unwrap());
    }
    stream
}

/// What a task gives that has nothing to wait for any more.
async fn ended<T>(task: JoinHandle<T>) -> T {
    for _ in 0..100 {
        if task.is_finished() {
            return task.await.unwrap();
        }
        tokio::task::yield_now().await;
    }
    panic!("it still waits");
}

#[tokio::test(start_paused = true)]
async fn f33_a_start_that_hangs_is_given_up_before_other_calls_and_its_outcome_is_unknown() {
    let peer = Silent::new().await;
    let engine = peer.engine.clone();
    let start = tokio::spawn(async move { engine.start_container("one").await });
    tokio::task::yield_now().await;
    tokio::time::advance(START * 9 / 10).await;
    assert!(!start.is_finished());
    tokio::time::advance(START / 5).await;
    let error = ended(start).await.unwrap_err();
    assert!(
        matches!(error, EngineError::TimedOut { limit: START, .. }) && error.is_unreachable(),
        "{error:?}"
    );
    assert!(START * 2 < SLOW, "every other start waits for it");
}

#[tokio::test(start_paused = true)]
async fn f42_a_pull_that_stalls_is_given_up_and_one_that_moves_is_not() {
    let peer = Silent::new().await;
    let (told, mut progress) = mpsc::unbounded_channel();
    let engine = peer.engine.clone();
    let pull = tokio::spawn(async move {
        engine
            .pull(IMAGE, &BTreeMap::new(), |status| {
                told.send(status.to_owned()).unwrap();
            })
            .await
    });
    for _ in 0..10 {
        peer.say("Downloading");
        assert_eq!(progress.recv().await.as_deref(), Some("Downloading"));
        tokio::time::advance(PULL_SILENCE * 9 / 10).await;
        assert!(!pull.is_finished(), "there is no limit on the whole");
    }
    tokio::time::advance(PULL_SILENCE / 5).await;
    let error = ended(pull).await.unwrap_err();
    assert!(
        matches!(
            error,
            EngineError::TimedOut {
                limit: PULL_SILENCE,
                ..
            }
        ),
        "{error:?}"
    );
    assert_eq!(
        error.to_string(),
        format!(
            "pull image {IMAGE}: no answer within {} s",
            PULL_SILENCE.as_secs()
        )
    );
}

#[tokio::test(start_paused = true)]
async fn f42_a_pull_that_never_begins_is_given_up_too() {
    let peer = Silent::new().await;
    let engine = peer.engine.clone();
    let pull = tokio::spawn(async move { engine.pull(IMAGE, &BTreeMap::new(), |_| ()).await });
    tokio::task::yield_now().await;
    tokio::time::advance(PULL_SILENCE + Duration::from_secs(1)).await;
    assert!(matches!(
        ended(pull).await,
        Err(EngineError::TimedOut {
            limit: PULL_SILENCE,
            ..
        })
    ));
}

#[tokio::test(start_paused = true)]
async fn an_archive_that_stalls_is_given_up_and_one_that_moves_is_not() {
    let peer = Silent::new().await;
    let stream = peer.engine.archive("one", "/artifacts/.");
    let (told, mut pieces) = mpsc::unbounded_channel();
    let reading = tokio::spawn(async move {
        tokio::pin!(stream);
        while let Some(piece) = stream.next().await {
            told.send(piece?.len()).unwrap();
        }
        Ok::<(), EngineError>(())
    });
    for _ in 0..10 {
        peer.say("bytes");
        assert!(pieces.recv().await.is_some());
        tokio::time::advance(ARCHIVE_SILENCE * 9 / 10).await;
        assert!(!reading.is_finished(), "there is no limit on the whole");
    }
    tokio::time::advance(ARCHIVE_SILENCE / 5).await;
    let error = ended(reading).await.unwrap_err();
    assert!(
        matches!(
            error,
            EngineError::TimedOut {
                limit: ARCHIVE_SILENCE,
                ..
            }
        ),
        "{error:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn what_the_engine_does_not_take_is_given_up_too() {
    let peer = Silent::new().await;
    let engine = peer.engine.clone();
    let writing = tokio::spawn(async move {
        let tar = futures_util::stream::pending::<std::io::Result<hyper::body::Bytes>>();
        engine.unpack("one", "/artifacts", tar).await
    });
    tokio::task::yield_now().await;
    tokio::time::advance(ARCHIVE_SILENCE + Duration::from_secs(1)).await;
    let error = ended(writing).await.unwrap_err();
    assert!(
        matches!(
            error,
            EngineError::TimedOut {
                limit: ARCHIVE_SILENCE,
                ..
            }
        ),
        "{error:?}"
    );
}
