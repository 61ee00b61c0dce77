//! Faults that come by themselves: ends and hangs after a time, floods of lines, and hunger for
//! memory.

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::fatal::Fatal;
use super::faults::Fault;
use super::log;
use super::node::Node;

const MEGABYTE: usize = 1024 * 1024;
/// Parts of a second in which a flood is written, so that it is steady.
const SPLASHES: u64 = 20;

/// Sets off what runs beside the server.
pub(super) fn begin(node: &Arc<Node>) {
    let faults = &node.settings.faults;
    if let Some(rate) = faults.pick(|fault| {
        if let Fault::LogFlood(rate) = fault {
            Some(rate)
        } else {
            None
        }
    }) {
        std::thread::spawn(move || flood(rate));
    }
    if let Some(amount) = faults.pick(|fault| {
        if let Fault::Oom(amount) = fault {
            Some(amount)
        } else {
            None
        }
    }) {
        std::thread::spawn(move || devour(amount));
    }
    if let Some(after) = faults.pick(|fault| {
        if let Fault::HangAfter(after) = fault {
            Some(after)
        } else {
            None
        }
    }) {
        let node = Arc::clone(node);
        tokio::spawn(async move {
            tokio::time::sleep(after).await;
            log::line("The server answers nothing from now on, as it was asked to");
            node.state.send_modify(|state| state.hung = true);
        });
    }
}

/// Ends when the process is to end by a fault; never otherwise.
pub(super) async fn end(node: &Node) -> Fatal {
    let ends = node.settings.faults.pick(|fault| match fault {
        Fault::CrashAfter(after) => Some((
            after,
            Fatal::Injected("Unhandled exception. The process ends, as it was asked to".to_owned()),
        )),
        Fault::ExitZeroAfter(after) => Some((after, Fatal::EndedWell)),
        _ => None,
    });
    match ends {
        Some((after, fatal)) => {
            tokio::time::sleep(after).await;
            fatal
        }
        None => std::future::pending().await,
    }
}

/// Writes lines at a rate of megabytes a second, for ever. A reader that is slower slows it down.
fn flood(rate: u64) {
    let line = format!(
        "{:127}\n",
        "A line of a flood that the stand-in was asked for"
    );
    let splash = line.repeat(rate as usize * MEGABYTE / SPLASHES as usize / line.len() + 1);
    loop {
        let began = Instant::now();
        if std::io::stdout()
            .lock()
            .write_all(splash.as_bytes())
            .is_err()
        {
            return;
        }
        std::thread::sleep(Duration::from_millis(1000 / SPLASHES).saturating_sub(began.elapsed()));
    }
}

/// Takes memory, a megabyte at a time, writes to all of it, and keeps it.
fn devour(amount: u64) {
    log::line(format_args!(
        "The server takes {amount} MB of memory, as it was asked to"
    ));
    let mut taken: Vec<Vec<u8>> = Vec::new();
    while (taken.len() as u64) < amount {
        taken.push(std::hint::black_box(vec![0xA5; MEGABYTE]));
    }
    log::line(format_args!("The server has taken {amount} MB of memory"));
    std::thread::park();
    drop(taken);
}
