//! Who listens on a port of this host, read off /proc. Without root only one's own processes are
//! named.

use std::fs;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;

/// A name for the holder of a TCP port of an address, such as `process nginx (1234)`.
pub fn holder(ip: IpAddr, port: u16) -> String {
    find(Some(ip), port).unwrap_or_else(|| "another process".to_owned())
}

/// The same of whatever address, if something listens there and may be looked at.
pub fn known_holder(port: u16) -> Option<String> {
    find(None, port)
}

fn find(ip: Option<IpAddr>, port: u16) -> Option<String> {
    inodes(ip, port).iter().find_map(|inode| process_of(inode))
}

/// The sockets that listen on the port (proc(5): local address in hexadecimal, state 0A is LISTEN,
/// field 9 the inode).
fn inodes(ip: Option<IpAddr>, port: u16) -> Vec<String> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"]
        .map(|path| fs::read_to_string(path).unwrap_or_default());
    let lines = tables.iter().flat_map(|table| table.lines().skip(1));
    lines
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let (there, number) = local(fields.get(1)?)?;
            let is_meant = number == port && ip.is_none_or(|ip| is_in_the_way(there, ip));
            let listens = is_meant && *fields.get(3)? == "0A";
            listens.then(|| fields.get(9).map(|inode| format!("socket:[{inode}]")))?
        })
        .collect()
}

/// Whether who listens at the one address keeps others from the other.
fn is_in_the_way(there: IpAddr, ip: IpAddr) -> bool {
    there == ip || there.is_unspecified() || ip.is_unspecified()
}

/// An address as the kernel writes it: words of four bytes in the machine's order, then the port.
fn local(text: &str) -> Option<(IpAddr, u16)> {
    let (address, port) = text.split_once(':')?;
    let bytes: Vec<u8> = (0..address.len() / 8)
        .map(|word| u32::from_str_radix(address.get(word * 8..word * 8 + 8)?, 16).ok())
        .collect::<Option<Vec<u32>>>()?
        .into_iter()
        .flat_map(u32::to_ne_bytes)
        .collect();
    let ip = match bytes.len() {
        4 => IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?)),
        16 => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?)),
        _ => return None,
    };
    Some((ip, u16::from_str_radix(port, 16).ok()?))
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
    fn this_process_is_named_for_its_own_port_and_address() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let us = format!("({})", std::process::id());
        let named = holder(address.ip(), address.port());
        assert!(named.ends_with(&us), "{named}");
        assert!(known_holder(address.port()).is_some());
        let elsewhere = "127.0.0.9".parse().unwrap();
        assert_eq!(find(Some(elsewhere), address.port()), None);
    }

    #[test]
    fn addresses_are_read_as_the_kernel_writes_them() {
        let loopback = u32::from_ne_bytes([127, 0, 0, 1]);
        let (ip, port) = local(&format!("{loopback:08X}:1F90")).unwrap();
        assert_eq!((ip.to_string().as_str(), port), ("127.0.0.1", 8080));
        let (ip, _) = local("00000000000000000000000000000000:0050").unwrap();
        assert!(ip.is_ipv6() && ip.is_unspecified());
        assert_eq!(local("zz:1"), None);
    }
}
