//! Who asks, and how it is told to nodes: `Forwarded`, `X-Forwarded-…` and `Via`, and whose word
//! about it counts. Pure. RFC 9110 7.6.3, RFC 7239.

use std::net::IpAddr;

use hyper::HeaderMap;
use hyper::Version;
use hyper::body::Bytes;
use hyper::header;
use hyper::header::Entry;
use hyper::header::HeaderName;
use hyper::header::HeaderValue;

use crate::config::network::Network;

/// Fields by which a proxy tells who the client is and what it asked for. From anybody else they
/// would be believed as ours.
pub(super) const WORD_OF_A_PROXY: [HeaderName; 9] = [
    header::FORWARDED,
    FORWARDED_FOR,
    FORWARDED_HOST,
    FORWARDED_PROTO,
    HeaderName::from_static("x-forwarded-port"),
    HeaderName::from_static("x-forwarded-prefix"),
    HeaderName::from_static("x-real-ip"),
    HeaderName::from_static("x-original-url"),
    HeaderName::from_static("x-rewrite-url"),
];
pub(super) const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// The other end of a connection, and how it is told to nodes: the same for each of its requests.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The client, or the proxy before us.
    pub address: IpAddr,
    /// Over TLS.
    pub tls: bool,
    text: HeaderValue,
    /// The begin of its element of `Forwarded`.
    element: String,
}

impl Peer {
    /// Of this address.
    pub fn new(address: IpAddr, tls: bool) -> Self {
        let plain = address.to_canonical();
        let text = plain.to_string();
        let element = match plain {
            IpAddr::V4(_) => format!("for={text};host=\""),
            IpAddr::V6(_) => format!("for=\"[{text}]\";host=\""),
        };
        // An address has no byte that a field's value may not have.
        let text = HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("unknown"));
        Self {
            address,
            tls,
            text,
            element,
        }
    }

    fn proto(&self) -> &'static str {
        if self.tls { "https" } else { "http" }
    }
}

/// How a request came in.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a> {
    /// From whom.
    pub peer: &'a Peer,
    /// Whose word counts.
    pub trusted: &'a [Network],
}

/// Who asks: the last of those that the request came through whom nobody believes. What is said
/// before it may be anything.
pub(super) fn client_behind(fields: &HeaderMap, arrival: Arrival<'_>) -> IpAddr {
    let is_trusted = |ip: IpAddr| arrival.trusted.iter().any(|range| range.contains(ip));
    let said = fields.get_all(FORWARDED_FOR).iter();
    let said = said.filter_map(|value| value.to_str().ok());
    let said: Vec<&str> = said.flat_map(|value| value.split(',')).collect();
    let mut client = arrival.peer.address.to_canonical();
    for said in said.into_iter().rev() {
        let said = said.trim().trim_start_matches('[').trim_end_matches(']');
        match said.parse::<IpAddr>() {
            Ok(before) if is_trusted(client) => client = before.to_canonical(),
            Ok(_) | Err(_) => break,
        }
    }
    client
}

/// Takes away what a proxy would say, unless the one before us is believed.
pub(super) fn forget_strangers(fields: &mut HeaderMap, arrival: Arrival<'_>) {
    let peer = arrival.peer.address;
    if !arrival.trusted.iter().any(|range| range.contains(peer)) {
        for name in &WORD_OF_A_PROXY {
            fields.remove(name);
        }
    }
}

pub(super) fn forwarded(fields: &mut HeaderMap, peer: &Peer, host: &HeaderValue) {
    // As many as are added here and by `via`.
    fields.reserve(5);
    let proto = peer.proto();
    append(fields, FORWARDED_FOR, peer.text.clone());
    let pieces = [
        peer.element.as_bytes(),
        host.as_bytes(),
        b"\";proto=",
        proto.as_bytes(),
    ];
    // Of valid pieces; a host with other bytes was refused.
    if let Ok(element) = HeaderValue::from_maybe_shared(Bytes::from(pieces.concat())) {
        append(fields, header::FORWARDED, element);
    }
    // Of these the first proxy's word counts.
    fields
        .entry(FORWARDED_PROTO)
        .or_insert_with(|| HeaderValue::from_static(proto));
    fields.entry(FORWARDED_HOST).or_insert_with(|| host.clone());
}

/// Names this hop.
pub(super) fn via(fields: &mut HeaderMap, version: Version) {
    let own = HeaderValue::from_static(match version {
        Version::HTTP_10 => "1.0 octo-local",
        Version::HTTP_2 => "2.0 octo-local",
        _ => "1.1 octo-local",
    });
    append(fields, header::VIA, own);
}

/// Appends to a field that is a list, as one line.
fn append(fields: &mut HeaderMap, name: HeaderName, value: HeaderValue) {
    let mut before = match fields.entry(name) {
        Entry::Vacant(none) => {
            none.insert(value);
            return;
        }
        Entry::Occupied(before) => before,
    };
    let mut all: Vec<&[u8]> = before.iter().map(HeaderValue::as_bytes).collect();
    all.retain(|one| !one.is_empty());
    all.push(value.as_bytes());
    if let Ok(all) = HeaderValue::from_bytes(&all.join(&b", "[..])) {
        before.insert(all);
    }
}
