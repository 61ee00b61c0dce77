//! Clients that are not tiberius: FreeTDS, and packets written by hand.

use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::{PASSWORD, PATIENCE, Server, root};

/// What `tsql` of Debian's freetds-bin prints for a script, both streams.
fn tsql(server: &Server, encryption: &str, script: &str) -> String {
    let conf = TempDir::new().unwrap();
    let path = conf.path().join("freetds.conf");
    let text = format!(
        "[db]\nhost = 127.0.0.1\nport = {}\ntds version = 7.4\nencryption = {encryption}\n",
        server.port
    );
    std::fs::write(&path, text).unwrap();
    let mut command = Command::new("tsql");
    command
        .args(["-S", "db", "-U", "sa", "-P", PASSWORD])
        .env("FREETDSCONF", &path)
        .env("TDSDUMP", "");
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command
        .spawn()
        .expect("`tsql` must be installed: apt-get install freetds-bin");
    child
        .stdin
        .take()
        .unwrap()
        .write_all(script.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    [output.stdout, output.stderr]
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .concat()
}

#[test]
fn freetds_is_served_with_and_without_tls() {
    let root = root();
    let server = Server::start(&root, &[]);
    for encryption in ["off", "request", "require"] {
        let script = "IF DB_ID('F') IS NULL CREATE DATABASE F\ngo\nUSE F\ngo\n\
            IF OBJECT_ID('T') IS NULL CREATE TABLE T (Name NVARCHAR(50), At DATETIME2)\ngo\n\
            INSERT INTO T VALUES (N'grün', GETUTCDATE())\nSELECT Name, COUNT(*) AS n FROM T GROUP BY Name\ngo\nFROBNICATE\ngo\nexit\n";
        let output = tsql(&server, encryption, script);
        assert!(output.contains("grün\t"), "{encryption}: {output}");
        assert!(
            output.contains("Msg 102 (severity 15"),
            "{encryption}: {output}"
        );
    }
    let counted = tsql(
        &server,
        "require",
        "USE F\nSELECT COUNT(*) * 100 AS n FROM T\ngo\nexit\n",
    );
    assert!(counted.contains("300"), "{counted}");
}

/// A TDS packet that is a message of its own.
fn packet(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len() + 8).unwrap().to_be_bytes();
    [&[kind, 1, length[0], length[1], 0, 0, 1, 0], body].concat()
}

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

/// A LOGIN7 message with a user and a password, and everything else empty.
fn login() -> Vec<u8> {
    let user = utf16("sa");
    let password: Vec<u8> = utf16(PASSWORD)
        .iter()
        .map(|byte| byte.rotate_left(4) ^ 0xA5)
        .collect();
    let mut body = vec![0; 94];
    body[8..12].copy_from_slice(&4096_u32.to_le_bytes());
    for (at, offset, bytes) in [(40, 94, user.len()), (44, 94 + user.len(), password.len())] {
        body[at..at + 2].copy_from_slice(&u16::try_from(offset).unwrap().to_le_bytes());
        body[at + 2..at + 4].copy_from_slice(&u16::try_from(bytes / 2).unwrap().to_le_bytes());
    }
    [body, user, password].concat()
}

fn reply(tcp: &mut std::net::TcpStream) -> Vec<u8> {
    let mut header = [0; 8];
    tcp.read_exact(&mut header).unwrap();
    let mut body = vec![0; usize::from(u16::from_be_bytes([header[2], header[3]])) - 8];
    tcp.read_exact(&mut body).unwrap();
    body
}

#[test]
fn an_attention_ends_a_statement_and_keeps_the_connection() {
    let root = root();
    let server = Server::start(&root, &[]);
    let mut tcp = std::net::TcpStream::connect(("127.0.0.1", server.port)).unwrap();
    tcp.set_read_timeout(Some(PATIENCE)).unwrap();
    tcp.write_all(&packet(0x12, &[1, 0, 6, 0, 1, 0xFF, 2]))
        .unwrap();
    reply(&mut tcp);
    tcp.write_all(&packet(0x10, &login())).unwrap();
    assert!(reply(&mut tcp).contains(&0xAD), "a LOGINACK");
    let headers = [
        22, 0, 0, 0, 18, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0,
    ];
    tcp.write_all(&packet(
        0x01,
        &[&headers[..], &utf16("WAITFOR DELAY '01:00'")].concat(),
    ))
    .unwrap();
    tcp.write_all(&packet(0x06, &[])).unwrap();
    assert_eq!(
        reply(&mut tcp)[..3],
        [0xFD, 0x20, 0],
        "a DONE that acknowledges the attention"
    );
    tcp.write_all(&packet(0x01, &[&headers[..], &utf16("SELECT 1")].concat()))
        .unwrap();
    assert_eq!(reply(&mut tcp)[0], 0x81, "the columns of a result");
}

/// How the vendor's `sqlcmd`, which the image carries for health checks, ends.
fn sqlcmd(server: &Server, words: &[&str]) -> (Option<i32>, String) {
    let address = format!("127.0.0.1,{}", server.port);
    let program = env!("CARGO_BIN_EXE_octo-local");
    let mut command = Command::new(program);
    let output = command
        .args(["standin", "sqlcmd", "-C", "-S", &address, "-U", "sa"])
        .args(words)
        .output()
        .unwrap();
    (
        output.status.code(),
        String::from_utf8_lossy(&output.stdout).into_owned(),
    )
}

#[test]
fn sqlcmd_tells_a_health_check_whether_a_login_works() {
    let root = root();
    let server = Server::start(&root, &[]);
    let (code, shown) = sqlcmd(&server, &["-P", PASSWORD, "-Q", "SELECT N'grün'"]);
    assert_eq!(code, Some(0), "{shown}");
    assert!(shown.starts_with("grün\n"), "{shown}");
    let (code, shown) = sqlcmd(&server, &["-P", "wr0ng-Password", "-Q", "SELECT 1"]);
    assert_eq!(code, Some(1), "{shown}");
    assert!(shown.contains("18456"), "{shown}");
    let broken = ["-P", PASSWORD, "-Q", "FROBNICATE"];
    assert_eq!(sqlcmd(&server, &broken).0, Some(0));
    assert_eq!(sqlcmd(&server, &[&broken[..], &["-b"]].concat()).0, Some(1));
}

#[test]
fn freetds_backs_up_and_reads_what_is_on_a_medium() {
    let root = root();
    let server = Server::start(&root, &[]);
    let script = "CREATE DATABASE F\ngo\n\
        BACKUP DATABASE F TO DISK = N'/var/opt/mssql/data/f.bak' WITH COPY_ONLY, CHECKSUM, STATS = 50\ngo\n\
        RESTORE HEADERONLY FROM DISK = N'/var/opt/mssql/data/f.bak'\ngo\n\
        BACKUP DATABASE none TO DISK = N'/var/opt/mssql/data/f.bak'\ngo\n\
        SELECT backup_size FROM msdb.dbo.backupset\ngo\nexit\n";
    let output = tsql(&server, "require", script);
    assert!(
        output.contains("BACKUP DATABASE successfully processed"),
        "{output}"
    );
    assert!(output.contains("HasBackupChecksums"), "{output}");
    assert!(
        output.contains("Msg 911") && output.contains("Msg 3013"),
        "{output}"
    );
    assert!(output.contains("backup_size"), "{output}");
}
