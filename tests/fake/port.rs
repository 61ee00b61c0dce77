//! Whether a port is free. A socket that listened in this process may live on for some milliseconds
//! in a child that was just forked, until the child runs its own program: that is nobody's port,
//! and is waited for.

use std::io::Error;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::time::Duration;

use rustix::net::AddressFamily;
use rustix::net::SocketType;
use rustix::net::bind;
use rustix::net::socket;
use rustix::net::sockopt::set_socket_reuseaddr;

use super::Shared;
use super::container::Port;

/// How often, and for how long each time, a port is waited for.
const TRIES: u32 = 50;
const PAUSE: Duration = Duration::from_millis(2);

/// Waits for the ports of a container that nobody is known to hold.
pub(super) async fn wait_until_free(shared: &Shared, name: &str) {
    let ports = {
        let mut world = shared.world();
        world
            .container(name)
            .ok()
            .filter(|container| !container.runs())
            .map(|container| container.ports.clone())
    };
    for port in ports.unwrap_or_default() {
        for _ in 0..TRIES {
            if try_bind(&port).is_ok() {
                break;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Binds the port and lets it go. It never listens, so that nobody can connect to it or be in its
/// way.
pub(super) fn try_bind(port: &Port) -> Result<(), Error> {
    let ip: IpAddr = port.ip.parse().map_err(Error::other)?;
    let family = if ip.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let socket = socket(family, SocketType::STREAM, None)?;
    set_socket_reuseaddr(&socket, true)?;
    Ok(bind(&socket, &SocketAddr::new(ip, port.host))?)
}
