//! Who listens on a port of this host, read off /proc. Without root only one's own processes are
//! named.

use std::fs;

/// A name for the holder of a TCP port, such as `process nginx (1234)`.
pub fn holder(port: u16) -> String {
    known_holder(port).unwrap_or_else(|| "another process".to_owned())
}

/// The same, if something listens there and may be looked at.
pub fn known_holder(port: u16) -> Option<String> {
    inodes(port).iter().find_map(|inode| process_of(inode))
}

/// The sockets that listen on the port (proc(5): local address in hexadecimal, state 0A is LISTEN,
/// field 9 the inode).
fn inodes(port: u16) -> Vec<String> {
    let suffix = format!(":{port:04X}");
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"]
        .map(|path| fs::read_to_string(path).unwrap_or_default());
    let lines = tables.iter().flat_map(|table| table.lines().skip(1));
    lines
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let listens = fields.get(1)?.ends_with(&suffix) && *fields.get(3)? == "0A";
            listens.then(|| fields.get(9).map(|inode| format!("socket:[{inode}]")))?
        })
        .collect()
}

fn process_of(inode: &str) -> Option<String> {
    fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let pid = entry.file_name().to_str()?.parse::<u32>().ok()?;
        let mut files = fs::read_dir(entry.path().join("fd")).ok()?.flatten();
        files.find(|file| {
            fs::read_link(file.path()).is_ok_and(|target| target.as_os_str() == inode)
        })?;
        let name = fs::read_to_string(entry.path().join("comm")).ok()?;
        Some(format!("process {} ({pid})", name.trim()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_named_for_its_own_port() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(
            holder(port).ends_with(&format!("({})", std::process::id())),
            "{}",
            holder(port)
        );
    }
}
