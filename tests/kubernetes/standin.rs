//! A kubectl before a cluster that is not there: a script that hands its words to this process, which
//! answers for an API server and for what runs in pods. It can refuse, lose and break calls off, and
//! end whoever called it.

use std::collections::BTreeMap;
use std::io::BufRead as _;
use std::io::BufReader;
use std::io::Write as _;
use std::net::TcpListener;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use serde_json::json;
use tempfile::TempDir;

use super::apiserver::change;
use super::apiserver::look;
use super::model::Chance;
use super::model::Cluster;

/// Words and input go there in base64, a line each; code, output and errors come back.
const SCRIPT: &str = r#"#!/bin/bash
exec 3<>/dev/tcp/127.0.0.1/@PORT@ || exit 1
{
  echo $#
  for word; do printf '%s' "$word" | base64 -w0; echo; done
  case " $* " in *" -f - "*|*" exec -i "*) base64 -w0;; esac
  echo
} >&3
read -r code <&3; read -r out <&3; read -r err <&3
if [ "$code" = die ]; then kill -9 $PPID; exit 1; fi
base64 -d <<<"$out"
base64 -d <<<"$err" >&2
if [ "$code" = stay ]; then exec >&-; exec sleep 120; fi
exit "$code"
"#;

/// What goes wrong.
#[derive(Clone, Debug, Default)]
pub(crate) struct Faults {
    /// Of a thousand calls that change something so many are lost on their way there.
    pub(crate) lost: u64,
    /// And of so many that are carried out the answer is lost.
    pub(crate) unanswered: u64,
    /// Whoever makes the so-manieth of these dies over it, once it is carried out.
    pub(crate) dies_at: Option<u32>,
    /// What everything fails with.
    pub(crate) everything: Option<String>,
    /// `VERB RESOURCE` that the person may not do.
    pub(crate) forbidden: Vec<String>,
    /// The minor version of kubectl.
    pub(crate) minor: Option<&'static str>,
    /// Backups fail.
    pub(crate) backups: bool,
}

/// What the cluster has beside the nodes.
#[derive(Default)]
pub(crate) struct Around {
    pub(crate) faults: Faults,
    /// All calls.
    pub(crate) calls: Vec<Vec<String>>,
    /// How many of them changed something.
    pub(crate) changes: u32,
    /// SQL Server runs in the namespace.
    pub(crate) has_sql: bool,
    /// Its pod is not there.
    pub(crate) sql_pod_is_gone: bool,
    /// Files in SQL Server's pod.
    pub(crate) sql_files: BTreeMap<String, Vec<u8>>,
    /// The pod that files go through, as it was made.
    pub(crate) helper: Option<Value>,
    /// What was unpacked there, by directory and path.
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    /// Where a node answers that kubectl forwards to.
    pub(crate) node: Option<std::net::SocketAddr>,
    /// The partition, where it is another one.
    pub(crate) partition: Option<u32>,
    /// The tag of the first version, in the place of `1`.
    pub(crate) first_image: Option<String>,
    /// The environment of the nodes.
    pub(crate) env: Option<Value>,
    /// The database that a handover brings.
    pub(crate) database: Option<String>,
}

/// The cluster, its kubectl, and who answers for it.
pub(crate) struct Standin {
    dir: TempDir,
    state: Arc<Mutex<(Cluster, Around)>>,
}

/// What a call comes to.
pub(crate) struct Answer {
    pub(crate) code: String,
    pub(crate) out: Vec<u8>,
    pub(crate) err: String,
}

impl Answer {
    pub(crate) fn good(out: impl Into<Vec<u8>>) -> Self {
        Self {
            code: "0".to_owned(),
            out: out.into(),
            err: String::new(),
        }
    }

    pub(crate) fn json(value: &Value) -> Self {
        Self::good(value.to_string())
    }

    pub(crate) fn bad(err: impl Into<String>) -> Self {
        Self {
            code: "1".to_owned(),
            out: Vec::new(),
            err: err.into(),
        }
    }

    pub(crate) fn server(reason: &str, words: &str) -> Self {
        Self::bad(format!("Error from server ({reason}): {words}"))
    }
}

impl Standin {
    /// A cluster with SQL Server.
    pub(crate) fn new(cluster: Cluster) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("octo-kubectl-")
            .tempdir()
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let path = dir.path().join("kubectl");
        std::fs::write(&path, SCRIPT.replace("@PORT@", &port.to_string())).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let around = Around {
            has_sql: true,
            ..Around::default()
        };
        let state = Arc::new(Mutex::new((cluster, around)));
        let answering = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // Whoever went away needs no answer; the listener goes with the process.
                let _ = serve(&answering, stream);
            }
        });
        Self { dir, state }
    }

    /// The directory of its kubectl, and the system's programs behind it.
    pub(crate) fn path(&self) -> String {
        format!("{}:/usr/bin:/bin", self.dir.path().display())
    }

    /// A directory for a project.
    pub(crate) fn project(&self) -> PathBuf {
        let dir = self.dir.path().join("octo");
        std::fs::create_dir_all(&dir).unwrap();
        dir
    }

    /// What it has.
    pub(crate) fn state(&self) -> MutexGuard<'_, (Cluster, Around)> {
        self.state.lock().unwrap()
    }

    /// The calls whose words begin so, after the flags of every call.
    pub(crate) fn calls(&self, verb: &str) -> Vec<String> {
        let state = self.state();
        let calls = state.1.calls.iter().map(|words| words.join(" "));
        calls.filter(|call| call.starts_with(verb)).collect()
    }
}

fn serve(state: &Mutex<(Cluster, Around)>, stream: TcpStream) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = || {
        let mut text = String::new();
        reader.read_line(&mut text)?;
        Ok::<_, std::io::Error>(text.trim_end().to_owned())
    };
    let count: usize = line()?.parse().map_err(std::io::Error::other)?;
    let decode = |text: String| STANDARD.decode(text).map_err(std::io::Error::other);
    let mut words = Vec::new();
    for _ in 0..count {
        words.push(String::from_utf8_lossy(&decode(line()?)?).into_owned());
    }
    let input = decode(line()?)?;
    let answer = answer(&mut state.lock().unwrap(), &words, &input);
    let mut stream = stream;
    writeln!(
        stream,
        "{}\n{}\n{}",
        answer.code,
        STANDARD.encode(answer.out),
        STANDARD.encode(answer.err)
    )
}

fn answer(state: &mut (Cluster, Around), words: &[String], input: &[u8]) -> Answer {
    let (cluster, around) = state;
    let is_own = |word: &&String| !word.starts_with("--request-timeout=");
    let words: Vec<String> = words.iter().filter(is_own).cloned().collect();
    let is_place =
        |word: &String| word.starts_with("--context=") || word.starts_with("--namespace=");
    let words: Vec<String> = words.into_iter().filter(|word| !is_place(word)).collect();
    around.calls.push(words.clone());
    let parts: Vec<&str> = words.iter().map(String::as_str).collect();
    if parts[0] == "version" {
        let minor = around.faults.minor.unwrap_or("32+");
        let version = json!({"clientVersion": {"major": "1", "minor": minor}});
        return Answer::json(&version);
    }
    if let Some(words) = &around.faults.everything {
        return Answer::bad(words.clone());
    }
    if let Some(refused) = forbidden(around, &parts) {
        return refused;
    }
    let is_change = ["patch", "delete", "create", "exec"].contains(&parts[0]);
    if !is_change {
        // Between two looks the world goes on.
        for _ in 0..8 {
            cluster.pods_move();
            cluster.reconcile();
        }
        return look(cluster, around, &parts);
    }
    around.changes += 1;
    let number = around.changes;
    let mut chance = Chance::new(u64::from(number) + around.faults.lost);
    if chance.is(around.faults.lost) {
        return Answer::bad("Unable to connect to the server: dial tcp 10.0.0.1:6443: i/o timeout");
    }
    let unanswered = chance.is(around.faults.unanswered);
    let dies = around.faults.dies_at == Some(number);
    let answer = change(cluster, around, &parts, input);
    if dies {
        return Answer {
            code: "die".to_owned(),
            ..Answer::bad("")
        };
    }
    if unanswered {
        return Answer::bad("Unable to connect to the server: net/http: TLS handshake timeout");
    }
    answer
}

/// What the person may not do, in the API server's words; and what `auth can-i` says of it.
fn forbidden(around: &Around, parts: &[&str]) -> Option<Answer> {
    let is = |right: &str| around.faults.forbidden.iter().any(|one| one == right);
    if parts[0] == "auth" {
        let part = parts
            .iter()
            .find_map(|word| word.strip_prefix("--subresource="));
        let resource = part.map_or(parts[3].to_owned(), |part| format!("{}/{part}", parts[3]));
        return Some(if is(&format!("{} {resource}", parts[2])) {
            Answer {
                code: "1".to_owned(),
                ..Answer::good("no\n")
            }
        } else {
            Answer::good("yes\n")
        });
    }
    if parts[..2] == ["get", "statefulsets"] && is("list statefulsets.apps") {
        return Some(Answer::server(
            "Forbidden",
            "statefulsets.apps is forbidden: User \"me\" cannot list resource \"statefulsets\" in API group \"apps\" in the \
             namespace \"octo\"",
        ));
    }
    None
}
