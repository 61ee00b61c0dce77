//! The stand-in SQL Server of `up --demo` and the tests: TDS 7.4 in front of SQLite. It is no SQL
//! Server, and says so in its log.
//!
//! | variable | meaning, default |
//! |---|---|
//! | `ACCEPT_EULA` | must not be empty |
//! | `MSSQL_SA_PASSWORD`, else `SA_PASSWORD` | the password of `sa`; counts at the first start of a volume only |
//! | `STANDIN_MSSQL_ROOT` | the data directory, `/var/opt/mssql` |
//! | `STANDIN_SQL_ADDRESS`, `STANDIN_SQL_PORT` | where to listen, `0.0.0.0` and `1433`; with port 0 the log tells the one taken |
//! | `STANDIN_SQL_VERSION` | the version of the data that this server writes, `957`; newer data is refused (948) |
//! | `STANDIN_SQL_START_DELAY_MS` | from the start to the open port, `300` |
//! | `STANDIN_SQL_LOGIN_DELAY_MS` | from "ready for client connections" to the first login that works, `300` |
//! | `STANDIN_SQL_IGNORE_SIGTERM` | `Y`: ignore SIGTERM, as the images do since 2022 CU18 |
//! | `MSSQL_PID` | the edition, `Developer`; `Express` and `Web` refuse to compress backups (1844) |
//! | `STANDIN_SQL_RECOVERY_MS` | after an unclean end: how much longer than logins users' databases are RECOVERING, `300` |
//! | `STANDIN_SQL_BACKUP_MS` | how long a BACKUP, RESTORE or VERIFYONLY takes at least, `0` |
//! | `STANDIN_SQL_FAULT` | faults of the table below, separated by commas |
//!
//! | fault | what happens |
//! |---|---|
//! | `eula` | the EULA message, exit 1 |
//! | `password-policy` | the password is called weak, exit 255 |
//! | `memory` | less than 2000 megabytes, exit 1 |
//! | `permission` | the volume cannot be opened, exit 1 |
//! | `disk-full` | no space left, exit 1 |
//! | `newer-data` | error 948, exit 1 |
//! | `sigabrt` | the dump of older images on kernels from 6.7, killed by SIGABRT; exit 134 as a container's first process |
//! | `hang-prelogin`, `hang-login` | connections are accepted and never answered, or not behind the login |
//! | `upgrade-mode=SECONDS` | logins get 18401 for that long |
//! | `crash-after=SECONDS` | exit 1 after that long |
//! | `suspect=DB`, `recovery-pending=DB[:SECONDS]`, `recovering=DB[:SECONDS]` | the database cannot be opened (926, 945, 922), until another one is restored over it |
//! | `log-flood=MBPERSEC` | that much noise in the log |
//! | `backup-disk-full=BYTES` | a BACKUP fails behind so many bytes (3202, 112), and leaves what it wrote |
//! | `corrupt=DB` | DBCC CHECKDB finds damage (8939), and a BACKUP WITH CHECKSUM too (3043) |
//! | `not-sysadmin` | `sa` may not BACKUP, RESTORE, ALTER DATABASE, ALTER LOGIN or SHUTDOWN |
//!
//! How each run of the server ended (`clean`, `nowait`, `unclean`) stands in `sys.standin_runs`, and in
//! `.system/instance.json` of the data directory, where a test reads it without a login.

mod alter;
mod applock;
mod backup;
mod boot;
mod cancel;
mod create;
mod edition;
mod engine;
mod error;
mod faults;
mod functions;
mod instance;
mod lexer;
mod listener;
mod log;
mod maintenance;
mod media;
mod pace;
mod packet;
mod parser;
mod procedure;
mod request;
mod restore;
mod result;
mod scope;
mod server;
mod session;
mod sessions;
mod sqlcmd;
mod statement;
mod store;
mod tls;
mod tokens;
mod transaction;
mod translate;
mod types;
mod views;
mod writer;

pub use boot::run;

/// The vendor's command inside the container, which health checks call.
pub fn sqlcmd(words: &[String]) -> std::process::ExitCode {
    sqlcmd::run(words)
}
