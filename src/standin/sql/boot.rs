//! Start and stop: the environment, the vendor's start-up failures, the delays, signals, the exit
//! code.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use super::edition::{self, Edition};
use super::faults::{self, Faults, StartFault};
use super::listener;
use super::server::{Server, Stop};
use super::store::{OpenError, Opening, Store};
use super::writer::version;
use super::{log, tls};

/// How often the log flood writes.
const FLOOD_EVERY: Duration = Duration::from_millis(50);

/// What the environment says.
struct Settings {
    root: PathBuf,
    address: String,
    port: u16,
    eula: bool,
    password: String,
    version: u32,
    start_delay: Duration,
    login_delay: Duration,
    ignore_sigterm: bool,
    recovery: Duration,
    pace: Duration,
    edition: Edition,
    faults: Faults,
}

/// Runs the server until it is stopped. The exit code is the vendor's: 0 after a stop, 1 or 255
/// when it cannot start.
pub fn run() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    let ready = Settings::read()
        .and_then(|settings| Ok((settings, runtime.map_err(|error| error.to_string())?)));
    match ready {
        Ok((settings, runtime)) => {
            let code = runtime.block_on(start(&settings));
            // Statements that were not waited for must not hold up the exit.
            runtime.shutdown_background();
            ExitCode::from(code)
        }
        Err(why) => {
            log::plain(&format!("octo-local stand-in: {why}"));
            ExitCode::FAILURE
        }
    }
}

impl Settings {
    #[expect(
        clippy::disallowed_methods,
        reason = "a stand-in is a program of its own: its container's variables are its settings"
    )]
    fn read() -> Result<Self, String> {
        let text = |name: &str, default: &str| {
            std::env::var(name)
                .ok()
                .filter(|value| !value.is_empty())
                .unwrap_or_else(|| default.to_owned())
        };
        let number = |name: &str, default: &str| {
            text(name, default)
                .parse::<u32>()
                .map_err(|_| format!("{name} is not a number"))
        };
        let millis = |name: &str, default: &str| {
            number(name, default).map(|delay| Duration::from_millis(delay.into()))
        };
        let delay = |name: &str| millis(name, "300");
        let fault = text("STANDIN_SQL_FAULT", "");
        Ok(Self {
            root: text("STANDIN_MSSQL_ROOT", "/var/opt/mssql").into(),
            address: text("STANDIN_SQL_ADDRESS", "0.0.0.0"),
            port: u16::try_from(number("STANDIN_SQL_PORT", "1433")?)
                .map_err(|_| "STANDIN_SQL_PORT is no port".to_owned())?,
            eula: !text("ACCEPT_EULA", "").is_empty(),
            password: text("MSSQL_SA_PASSWORD", &text("SA_PASSWORD", "")),
            version: number("STANDIN_SQL_VERSION", "957")?,
            start_delay: delay("STANDIN_SQL_START_DELAY_MS")?,
            login_delay: delay("STANDIN_SQL_LOGIN_DELAY_MS")?,
            recovery: delay("STANDIN_SQL_RECOVERY_MS")?,
            pace: millis("STANDIN_SQL_BACKUP_MS", "0")?,
            edition: edition::of(&text("MSSQL_PID", "")),
            ignore_sigterm: text("STANDIN_SQL_IGNORE_SIGTERM", "") == "Y",
            faults: faults::parse(&fault)
                .map_err(|word| format!("STANDIN_SQL_FAULT: unknown fault '{word}'"))?,
        })
    }
}

async fn start(settings: &Settings) -> u8 {
    log::plain(
        "octo-local STAND-IN for SQL Server: not Microsoft's product, for demonstrations and tests only.",
    );
    if let Some(code) = fail(settings) {
        return code;
    }
    if let Some(time) = settings.faults.crash_after {
        tokio::spawn(crash(time));
    }
    if let Some(rate) = settings.faults.log_flood {
        tokio::spawn(flood(rate));
    }
    let opening = Opening {
        root: &settings.root,
        password: &settings.password,
        version: settings.version,
        broken: settings.faults.broken.clone(),
    };
    let opened = Store::open(opening)
        .and_then(|store| Ok((store, tls::acceptor(&settings.root.join("secrets"))?)));
    match opened {
        Ok((store, tls)) => {
            let kind = (settings.edition, settings.pace);
            serve(
                settings,
                Server::new(store, settings.faults.clone(), tls, kind),
            )
            .await
        }
        Err(error) => refuse(&error, settings),
    }
}

/// The vendor's words for a data directory that cannot be served.
fn refuse(error: &OpenError, settings: &Settings) -> u8 {
    match error {
        OpenError::WeakPassword => weak_password(),
        OpenError::Newer(found) => newer_data(*found, settings.version),
        OpenError::Locked => {
            log::line(
                "Server",
                "ERROR: two servers on one volume: another server runs on this data directory. This one stops, it has touched nothing.",
            );
            log::line(
                "Server",
                "Error: 17113, Severity: 16, State: 1. Error 32(The process cannot access the file because it is being used by another process.) occurred while opening file 'master.mdf'.",
            );
            1
        }
        OpenError::Io(error) if error.kind() == std::io::ErrorKind::StorageFull => disk_full(),
        OpenError::Io(error) => {
            let code = error.raw_os_error().unwrap_or_default();
            log::plain(&format!(
                "sqlservr: Unable to open {}/.system/instance_id: {error} errno = 0x{code:X}({code})",
                settings.root.display()
            ));
            1
        }
    }
}

/// From the open data directory to the exit code.
async fn serve(settings: &Settings, server: Server) -> u8 {
    let server = Arc::new(server);
    let stop = tokio::spawn({
        let (server, ignored) = (server.clone(), settings.ignore_sigterm);
        async move {
            terminated(ignored).await;
            log::line(
                "Server",
                "SQL Server received a request to stop (SIGTERM or SIGINT).",
            );
            server.stop(Stop::Signal);
        }
    });
    greet(&server);
    let code = match listen(settings, &server).await {
        Ok(()) => finish(&server),
        Err(error) => {
            log::line(
                "Server",
                &format!(
                    "Error: 26023, Severity: 16, State: 1. Server TCP provider failed to listen on port {}: {error}",
                    settings.port
                ),
            );
            1
        }
    };
    stop.abort();
    code
}

fn greet(server: &Server) {
    log::line("Server", &version());
    log::line(
        "Server",
        "This is a STAND-IN: it keeps tables in SQLite and knows a small part of T-SQL.",
    );
    if let Some(older) = server.store.upgraded_from {
        log::line(
            "spid9s",
            &format!("Converting database 'master' from version {older} to the current version."),
        );
    }
    for database in server.store.databases() {
        log::line(
            "spid9s",
            &format!("Starting up database '{}'.", database.name),
        );
    }
    if !server.store.clean {
        log::line(
            "spid9s",
            "The last server on this volume did not stop by itself: clean_shutdown=false.",
        );
    }
    log::line(
        "Server",
        "A self-generated certificate was successfully loaded for encryption.",
    );
}

/// Opens the port after the start delay and serves until the server stops.
async fn listen(settings: &Settings, server: &Arc<Server>) -> std::io::Result<()> {
    // Cancel-safe: a sleep and a token.
    tokio::select! {
        () = tokio::time::sleep(settings.start_delay) => {}
        () = server.stopping.cancelled() => return Ok(()),
    }
    let listener = TcpListener::bind((settings.address.as_str(), settings.port)).await?;
    let local = listener.local_addr()?;
    log::line(
        "Server",
        &format!(
            "Server is listening on [ {} <ipv4> {}].",
            local.ip(),
            local.port()
        ),
    );
    log::line(
        "Server",
        "SQL Server is now ready for client connections. This is an informational message; no user action is required.",
    );
    let recovery = tokio::spawn({
        let (server, delay) = (server.clone(), settings.login_delay);
        let recovery = settings.recovery;
        async move {
            tokio::time::sleep(delay).await;
            server.recovered.store(true, Ordering::SeqCst);
            if !server.store.clean {
                recover(&server, recovery).await;
            }
            log::line(
                "spid9s",
                "Recovery is complete. This is an informational message only. No user action is required.",
            );
        }
    });
    listener::accept(server, listener).await;
    recovery.abort();
    Ok(())
}

/// Recovers the databases of users after an unclean end: until then nobody can open them (922).
async fn recover(server: &Server, time: Duration) {
    let mut databases = server.store.databases();
    databases.retain(|database| database.id > 4);
    if databases.is_empty() {
        return server.store.recovered.store(true, Ordering::SeqCst);
    }
    let told = |percent: u32| {
        for database in &databases {
            log::line(
                "spid9s",
                &format!(
                    "Recovery of database '{}' ({}) is {percent}% complete. This is an informational message only. No user action is required.",
                    database.name, database.id
                ),
            );
        }
    };
    told(0);
    tokio::time::sleep(time).await;
    told(100);
    server.store.recovered.store(true, Ordering::SeqCst);
}

/// The checkpoint of a clean stop.
fn finish(server: &Server) -> u8 {
    let (how, by) = match server.how() {
        Stop::NoWait => ("nowait", "SHUTDOWN"),
        Stop::Orderly => ("clean", "SHUTDOWN"),
        Stop::Signal => ("clean", "SIGNAL"),
    };
    if server.how() == Stop::NoWait {
        end_run(server, how, by);
        log::line(
            "Server",
            "SQL Server is terminating because of a system shutdown (SHUTDOWN WITH NOWAIT). No checkpoint.",
        );
        return 0;
    }
    if let Err(error) = server.store.close() {
        log::line(
            "Server",
            &format!("Error: 823, Severity: 24, State: 2. The checkpoint failed: {error}"),
        );
        return 1;
    }
    end_run(server, how, by);
    log::line(
        "Server",
        "SQL Server is terminating because of a system shutdown. This is an informational message only. No user action is required.",
    );
    0
}

/// A history that cannot be written does not make a stop unclean.
fn end_run(server: &Server, how: &str, by: &str) {
    if let Err(error) = server.store.end_run(how, by) {
        log::line("Server", &format!("The history is not written: {error}"));
    }
}

/// The failures that come before the data is touched.
fn fail(settings: &Settings) -> Option<u8> {
    match settings.faults.start {
        Some(StartFault::Eula) => Some(no_eula()),
        None if !settings.eula => Some(no_eula()),
        Some(StartFault::PasswordPolicy) => Some(weak_password()),
        Some(StartFault::Memory) => {
            log::plain(
                "sqlservr: This program requires a machine with at least 2000 megabytes of memory.",
            );
            Some(1)
        }
        Some(StartFault::Permission) => {
            log::plain(
                "sqlservr: Unable to open /var/opt/mssql/.system/instance_id: Permission denied errno = 0xD(13)",
            );
            Some(1)
        }
        Some(StartFault::DiskFull) => Some(disk_full()),
        Some(StartFault::NewerData) => Some(newer_data(998, settings.version)),
        Some(StartFault::SigAbrt) => abort(),
        None => None,
    }
}

fn no_eula() -> u8 {
    log::plain("The SQL Server End-User License Agreement (EULA) must be accepted before SQL");
    log::plain("Server can start. The license terms for this product can be downloaded from");
    log::plain("http://go.microsoft.com/fwlink/?LinkId=746388.");
    log::plain("");
    log::plain("You can accept the EULA by specifying the --accept-eula command line option,");
    log::plain("setting the ACCEPT_EULA environment variable, or using the mssql-conf tool.");
    1
}

fn weak_password() -> u8 {
    log::line(
        "Server",
        "ERROR: Unable to set system administrator password: Password validation failed. The password does not meet SQL Server password \
         policy requirements because it is not complex enough. The password must be at least 8 characters long and contain characters from \
         three of the following four sets: uppercase letters, lowercase letters, numbers, and symbols..",
    );
    log::line(
        "Server",
        "An error occurred during server setup. See previous errors for more information.",
    );
    255
}

fn disk_full() -> u8 {
    log::line("Server", "Error: 17053, Severity: 16, State: 1.");
    log::line(
        "Server",
        "/var/opt/mssql/data/master.mdf: Operating system error 112(There is not enough space on the disk.) encountered.",
    );
    log::plain(
        "sqlservr: Unable to write to /var/opt/mssql/data/master.mdf: No space left on device errno = 0x1C(28)",
    );
    1
}

fn newer_data(found: u32, version: u32) -> u8 {
    log::line("spid9s", "Error: 948, Severity: 20, State: 1.");
    log::line(
        "spid9s",
        &format!(
            "The database 'master' cannot be opened because it is version {found}. This server supports version {version} and earlier. \
             A downgrade path is not supported."
        ),
    );
    1
}

/// Dies by SIGABRT. As a container's first process it cannot: the kernel spares it, so it exits as
/// a shell above it would.
fn abort() -> ! {
    log::plain(
        "This program has encountered a fatal error and cannot continue running at Tue Jan  1 00:00:00 2026",
    );
    log::plain("The following diagnostic information is available:");
    log::plain("");
    log::plain("         Reason: 0x00000006");
    log::plain(
        "        Message: Termination of \\SystemRoot\\system32\\AppLoader.exe was due to fatal error 0xC0000001",
    );
    log::plain("         Signal: SIGABRT - Aborted (6)");
    if std::process::id() == 1 {
        std::process::exit(128 + 6);
    }
    std::process::abort()
}

async fn crash(time: Duration) {
    tokio::time::sleep(time).await;
    log::line("Server", "Stand-in fault: crash-after.");
    std::process::exit(1);
}

async fn flood(rate: usize) {
    let noise = "Stand-in fault: log-flood. ".repeat(37);
    let lines = (rate / 1000 / 20).max(1);
    let mut ticks = tokio::time::interval(FLOOD_EVERY);
    loop {
        ticks.tick().await;
        tokio::task::block_in_place(|| (0..lines).for_each(|_| log::line("spid99s", &noise)));
    }
}

/// Completes at SIGTERM or SIGINT; with `ignored` only at the latter.
async fn terminated(ignored: bool) {
    let (Ok(mut term), Ok(mut int)) = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    ) else {
        return std::future::pending().await;
    };
    loop {
        // Cancel-safe: a signal's receive.
        tokio::select! {
            _ = term.recv() => if !ignored { return },
            _ = int.recv() => return,
        }
    }
}
