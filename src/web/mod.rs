//! The front door: one address for all nodes, in a process of its own.
//!
//! `octo-local web --control SOCKET` owns the listening sockets and nothing else: no Docker socket,
//! no configuration, no state. Whoever supervises the stack connects to its control socket and
//! feeds it with a [`message::Feed`]: which listeners, which nodes, which limits. It goes on with
//! what it last knew when that one dies, and a newer program takes its sockets over without
//! refusing a connection.
//!
//! ```text
//!            ┌ listen ── serve ── guard ── proxy ──┬── pool ──> nodes (HTTP/1.1)
//! client ────┤            (TLS, HTTP/1.1, h2)      └── page (no node ready)
//!            └ listen ── tcp ───────────────────────────────> nodes (gRPC)
//!
//! daemon ── link ──unix socket──> control ──> front (nodes, limits, certificate)
//! ```
//!
//! Pure, and tried one by one: [`settings`], [`limits`] (what is wished), [`message`]
//! (what is said over the socket), [`balance`] (which node, who is out, when to try another),
//! [`framing`] (what is a request by the letter of RFC 9112), [`head`] (what of a head goes on),
//! [`forwarded`] (who asks, and how nodes are told),
//! [`page`] (what is answered without a node), [`tls`] (does a certificate fit its key). The rest
//! are effects.
//!
//! HTTP itself is hyper's work. Where hyper is lenient (bare line feeds, both kinds of length),
//! [`framing`] reads along and refuses first, so that what a strict server would refuse never
//! reaches a node.

pub mod balance;
pub mod forwarded;
pub mod framing;
pub mod head;
pub mod limits;
pub mod link;
pub mod message;
pub mod page;
pub mod process;
pub mod settings;
pub mod tls;

mod access;
mod control;
mod front;
mod guard;
mod listen;
mod pool;
mod probe;
mod proxy;
mod serve;
mod tcp;
mod tunnel;
mod wire;

pub use message::Feed;
pub use settings::Settings;
