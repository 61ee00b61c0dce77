//! The stand-in SQL Server as its clients see it: tiberius at every encryption level, FreeTDS,
//! restarts, shutdown, faults.
#![expect(
    clippy::large_futures,
    reason = "the futures of a client run on a stack that is large enough"
)]

mod backup;
mod foreign;
mod lifecycle;
mod statements;

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use tempfile::TempDir;
use tiberius::{AuthMethod, Client, Config, EncryptionLevel};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_util::compat::{Compat, TokioAsyncWriteCompatExt as _};

const PASSWORD: &str = "N0tS3cr3t!";

/// A start or a query takes milliseconds; this is for a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(20);

type Sql = Client<Compat<TcpStream>>;

struct Server {
    child: Child,
    log: Receiver<String>,
    seen: Vec<String>,
    port: u16,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    fn spawn(root: &TempDir, extra: &[(&str, &str)]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_octo-local"));
        command
            .args(["standin", "sql"])
            .env_clear()
            .stdout(Stdio::piped());
        command
            .env("STANDIN_MSSQL_ROOT", root.path())
            .env("STANDIN_SQL_ADDRESS", "127.0.0.1")
            .env("STANDIN_SQL_PORT", "0");
        command
            .env("ACCEPT_EULA", "Y")
            .env("MSSQL_SA_PASSWORD", PASSWORD);
        command
            .env("STANDIN_SQL_START_DELAY_MS", "0")
            .env("STANDIN_SQL_LOGIN_DELAY_MS", "0")
            .envs(extra.iter().copied());
        let mut child = command.spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, log) = channel();
        std::thread::spawn(move || {
            stdout
                .lines()
                .map_while(Result::ok)
                .try_for_each(|line| sender.send(line))
        });
        Self {
            child,
            log,
            seen: Vec::new(),
            port: 0,
        }
    }

    /// A server that takes logins.
    fn start(root: &TempDir, extra: &[(&str, &str)]) -> Self {
        let mut server = Self::spawn(root, extra);
        server.wait_listening();
        server.wait_line("Recovery is complete.");
        server
    }

    fn wait_listening(&mut self) {
        let line = self.wait_line("Server is listening on");
        self.port = line
            .trim_end_matches("].")
            .rsplit(' ')
            .next()
            .unwrap()
            .parse()
            .unwrap();
    }

    fn wait_line(&mut self, wanted: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let line = self
                .log
                .recv_timeout(deadline.saturating_duration_since(Instant::now()));
            let line = line.unwrap_or_else(|error| {
                panic!(
                    "no {wanted:?} ({error}, {:?}) in {:#?}",
                    self.child.try_wait(),
                    self.seen
                )
            });
            self.seen.push(line.clone());
            if line.contains(wanted) {
                return line;
            }
        }
    }

    /// Waits for the end; the log is then in `seen`.
    fn wait_exit(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        while let Ok(line) = self
            .log
            .recv_timeout(deadline.saturating_duration_since(Instant::now()))
        {
            self.seen.push(line);
        }
        assert!(Instant::now() < deadline, "still running: {:#?}", self.seen);
        self.child.wait().unwrap()
    }

    fn logged(&self, wanted: &str) -> bool {
        self.seen.iter().any(|line| line.contains(wanted))
    }

    fn signal(&self, name: &str) {
        assert!(
            Command::new("kill")
                .args([name, &self.child.id().to_string()])
                .status()
                .unwrap()
                .success()
        );
    }

    async fn connect(
        &self,
        level: EncryptionLevel,
        password: &str,
        database: &str,
    ) -> Result<Sql, tiberius::error::Error> {
        let mut config = Config::new();
        config.host("127.0.0.1");
        config.port(self.port);
        config.database(database);
        config.authentication(AuthMethod::sql_server("sa", password));
        config.encryption(level);
        config.trust_cert();
        let tcp = TcpStream::connect(("127.0.0.1", self.port)).await?;
        tokio::time::timeout(PATIENCE, Client::connect(config, tcp.compat_write()))
            .await
            .unwrap()
    }

    async fn sa(&self) -> Sql {
        self.connect(EncryptionLevel::Required, PASSWORD, "master")
            .await
            .unwrap()
    }
}

fn number(error: &tiberius::error::Error) -> u32 {
    error
        .code()
        .unwrap_or_else(|| panic!("no number in {error}"))
}

async fn code(sql: &mut Sql, text: &str) -> u32 {
    match sql.simple_query(text).await {
        Err(error) => number(&error),
        Ok(stream) => number(&stream.into_results().await.map(|_| ()).expect_err(text)),
    }
}

async fn run(sql: &mut Sql, text: &str) {
    sql.simple_query(text)
        .await
        .unwrap()
        .into_results()
        .await
        .unwrap_or_else(|error| panic!("{text}: {error}"));
}

async fn int(sql: &mut Sql, text: &str) -> i32 {
    let row = sql
        .simple_query(text)
        .await
        .unwrap()
        .into_row()
        .await
        .unwrap();
    row.unwrap().get(0).unwrap()
}

fn root() -> TempDir {
    TempDir::new().unwrap()
}
