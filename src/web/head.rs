//! What a request's head must be, and what of it goes to a node; what of an answer's head goes
//! back. Pure. RFC 9110.

use std::net::IpAddr;

use hyper::HeaderMap;
use hyper::Method;
use hyper::StatusCode;
use hyper::Uri;
use hyper::Version;
use hyper::header;
use hyper::header::HeaderName;
use hyper::header::HeaderValue;
use hyper::http::request::Parts;
use hyper::http::uri::Authority;
use hyper::http::uri::PathAndQuery;

use super::forwarded;
use super::forwarded::Arrival;
use super::forwarded::FORWARDED_FOR;
use super::forwarded::WORD_OF_A_PROXY;

/// Fields that concern one connection only (RFC 9110 7.6.1), beside those that `Connection` names.
/// `HTTP2-Settings` belongs to an upgrade that is never made here.
const HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("http2-settings"),
    header::PROXY_AUTHORIZATION,
];
/// The upgrades that are handed through by name. Of `h2c` nothing is: its requests would pass by
/// all that is checked here.
const NO_UPGRADE: [&str; 3] = ["h2c", "h2", "tls"];

/// Which kinds of fields a head has. Most requests have few, and each look for one that is not
/// there costs as much as for one that is.
#[derive(Clone, Copy, Debug, Default)]
struct Kinds {
    hop_by_hop: bool,
    word_of_a_proxy: bool,
    expect: bool,
    cookie: bool,
}

impl Kinds {
    fn of(fields: &HeaderMap) -> Self {
        let mut kinds = Self::default();
        for name in fields.keys() {
            if HOP_BY_HOP.contains(name) {
                kinds.hop_by_hop = true;
            } else if WORD_OF_A_PROXY.contains(name) {
                kinds.word_of_a_proxy = true;
            } else {
                kinds.expect |= *name == header::EXPECT;
                kinds.cookie |= *name == header::COOKIE;
            }
        }
        kinds
    }
}

/// What a request asks for, beyond what hyper knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The protocol that the connection is to be upgraded to.
    pub upgrade: Option<HeaderValue>,
    /// The client, as far as proxies are believed.
    pub client: IpAddr,
}

/// Why a request is refused.
pub type Refused = (StatusCode, &'static str);

/// Checks a request's head and rewrites it into the one for a node.
pub fn inbound(parts: &mut Parts, arrival: Arrival<'_>) -> Result<Asked, Refused> {
    let bad = |why| (StatusCode::BAD_REQUEST, why);
    let kinds = Kinds::of(&parts.headers);
    let (mut upgrade, mut wants_trailers) = (None, false);
    if kinds.hop_by_hop {
        upgrade = asked_upgrade(parts).map_err(bad)?;
        let mut encodings = parts.headers.get_all(header::TE).iter();
        let is_trailers = |name: &str| name.eq_ignore_ascii_case("trailers");
        wants_trailers = encodings.any(|value| names(value).any(is_trailers));
    }
    if parts.method == Method::CONNECT || parts.method == Method::TRACE {
        return Err((
            StatusCode::METHOD_NOT_ALLOWED,
            "this method is not served here",
        ));
    }
    let expects = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"100-continue");
    if kinds.expect && !parts.headers.get_all(header::EXPECT).iter().all(expects) {
        return Err((
            StatusCode::EXPECTATION_FAILED,
            "only 100-continue can be expected",
        ));
    }
    let host = host(parts).map_err(bad)?;
    if let Some(target) = target(&parts.method, &parts.uri).map_err(bad)? {
        parts.uri = target;
    }
    if kinds.cookie {
        join_cookies(&mut parts.headers);
    }
    if kinds.hop_by_hop {
        remove_hop_by_hop(&mut parts.headers);
    }
    if kinds.expect {
        // The one who serves the connection says 100 when the node begins to take the body.
        parts.headers.remove(header::EXPECT);
    }
    let mut client = arrival.peer.address.to_canonical();
    if kinds.word_of_a_proxy {
        client = forwarded::client_behind(&parts.headers, arrival);
        forwarded::forget_strangers(&mut parts.headers, arrival);
    }
    forwarded::forwarded(&mut parts.headers, arrival.peer, &host);
    forwarded::via(&mut parts.headers, parts.version);
    parts.headers.insert(header::HOST, host);
    if let Some(protocol) = &upgrade {
        let connection = HeaderValue::from_static("upgrade");
        parts.headers.insert(header::CONNECTION, connection);
        parts.headers.insert(header::UPGRADE, protocol.clone());
        // It can only be 0.
        parts.headers.remove(header::CONTENT_LENGTH);
    } else if wants_trailers {
        parts
            .headers
            .insert(header::TE, HeaderValue::from_static("trailers"));
        parts
            .headers
            .insert(header::CONNECTION, HeaderValue::from_static("te"));
    }
    parts.version = Version::HTTP_11;
    Ok(Asked { upgrade, client })
}

/// Rewrites an answer's head into the one for the client. `switched`: the answer is the 101 of an
/// upgrade, to this protocol.
pub fn outbound(fields: &mut HeaderMap, switched: Option<&HeaderValue>) {
    let upgrade = switched.and_then(|_| fields.get(header::UPGRADE).cloned());
    if fields.keys().any(|name| HOP_BY_HOP.contains(name)) {
        remove_hop_by_hop(fields);
    }
    if switched.is_some() {
        let connection = HeaderValue::from_static("upgrade");
        fields.insert(header::CONNECTION, connection);
        if let Some(protocol) = upgrade.or_else(|| switched.cloned()) {
            fields.insert(header::UPGRADE, protocol);
        }
    }
}

/// Where plain HTTP is sent for HTTPS: the same host and path at this port.
pub fn https_location(host: &HeaderValue, port: u16, target: &Uri) -> Option<HeaderValue> {
    let authority: Authority = host.to_str().ok()?.parse().ok()?;
    let port = match port {
        443 => String::new(),
        other => format!(":{other}"),
    };
    let path = target.path_and_query().map_or("/", PathAndQuery::as_str);
    HeaderValue::try_from(format!("https://{}{port}{path}", authority.host())).ok()
}

/// The upgrade that is asked for: named in `Upgrade`, announced in `Connection`, in HTTP/1.1, and
/// without a body, which would be the new protocol's first bytes to some.
fn asked_upgrade(parts: &Parts) -> Result<Option<HeaderValue>, &'static str> {
    let announced = parts
        .headers
        .get_all(header::CONNECTION)
        .iter()
        .any(|value| names(value).any(|name| name.eq_ignore_ascii_case("upgrade")));
    let mut wanted = parts.headers.get_all(header::UPGRADE).iter();
    let (first, second) = (wanted.next(), wanted.next());
    let Some(protocol) = first.filter(|_| announced && parts.version == Version::HTTP_11) else {
        return Ok(None);
    };
    let refused = names(protocol).any(|name| {
        let name = name.split('/').next().unwrap_or_default();
        NO_UPGRADE.iter().any(|no| name.eq_ignore_ascii_case(no))
    });
    if refused {
        return Ok(None);
    }
    if second.is_some() || names(protocol).count() != 1 {
        return Err("Upgrade names more than one protocol");
    }
    let has_length = parts
        .headers
        .get(header::CONTENT_LENGTH)
        .is_some_and(|length| length != "0");
    if has_length || parts.headers.contains_key(header::TRANSFER_ENCODING) {
        return Err("a request to upgrade has a body");
    }
    Ok(Some(protocol.clone()))
}

/// The one host that the request is for.
fn host(parts: &Parts) -> Result<HeaderValue, &'static str> {
    let mut all = parts.headers.get_all(header::HOST).iter();
    let (field, second) = (all.next(), all.next());
    if second.is_some() {
        return Err("Host comes twice");
    }
    if let Some(field) = field {
        check_host(field)?;
    }
    let Some(authority) = parts.uri.authority() else {
        let none = "there is no Host";
        return match (field, parts.version) {
            (Some(host), _) => Ok(host.clone()),
            (None, Version::HTTP_10) => Ok(HeaderValue::from_static("localhost")),
            (None, _) => Err(none),
        };
    };
    // RFC 9112 3.2.2: of an absolute target the target counts; RFC 9113 8.3.1: two that differ are
    // malformed.
    if parts.version == Version::HTTP_2
        && field.is_some_and(|host| {
            !host
                .as_bytes()
                .eq_ignore_ascii_case(authority.as_str().as_bytes())
        })
    {
        return Err("Host and :authority differ");
    }
    let host = HeaderValue::from_str(authority.as_str()).map_err(|_| "the host is malformed")?;
    check_host(&host)?;
    Ok(host)
}

fn check_host(host: &HeaderValue) -> Result<(), &'static str> {
    let malformed = "the host is malformed";
    if is_name_and_port(host.as_bytes()) {
        return Ok(());
    }
    let text = host.to_str().map_err(|_| malformed)?;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:[]%!$&'()*+;=".contains(&byte);
    if text.is_empty() || !text.bytes().all(is_plain) {
        return Err(malformed);
    }
    let authority: Authority = text.parse().map_err(|_| malformed)?;
    let port = &text[authority.host().len()..];
    let is_port = |port: &str| port.is_empty() || port.parse::<u16>().is_ok();
    match port.strip_prefix(':') {
        Some(port) if is_port(port) => Ok(()),
        None if port.is_empty() => Ok(()),
        _ => Err(malformed),
    }
}

/// What nearly every host is: a name or an IPv4 address, and perhaps a port.
fn is_name_and_port(host: &[u8]) -> bool {
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
    let name = host.iter().take_while(|byte| is_name(byte)).count();
    match &host[name..] {
        [] => name > 0,
        [b':', port @ ..] => {
            let digit = |all: u32, byte: &u8| all * 10 + u32::from(byte.wrapping_sub(b'0'));
            let is_number = port.len() <= 5 && port.iter().all(u8::is_ascii_digit);
            name > 0 && is_number && u16::try_from(port.iter().fold(0, digit)).is_ok()
        }
        _ => false,
    }
}

/// The target as a node gets it, where it is another one: a path, or `*` of `OPTIONS`.
fn target(method: &Method, uri: &Uri) -> Result<Option<Uri>, &'static str> {
    if uri
        .scheme_str()
        .is_some_and(|scheme| scheme != "http" && scheme != "https")
    {
        return Err("the target is of another scheme");
    }
    let Some(path) = uri.path_and_query() else {
        return Err("the target has no path");
    };
    let visible = path
        .as_str()
        .bytes()
        .all(|byte| matches!(byte, 0x21..=0x7e));
    match path.as_str() {
        "*" if method == Method::OPTIONS => Ok(Some(Uri::from_static("*"))),
        "" if uri.authority().is_some() => Ok(Some(Uri::from_static("/"))),
        text if visible && text.starts_with('/') => {
            let is_path_alone = uri.scheme().is_none() && uri.authority().is_none();
            Ok((!is_path_alone).then(|| Uri::from(path.clone())))
        }
        text if visible && text.starts_with('?') && uri.scheme().is_some() => format!("/{text}")
            .parse()
            .map(Some)
            .map_err(|_| "the target is malformed"),
        _ => Err("the target is no path"),
    }
}

/// The comma-separated words of a field's value.
fn names(value: &HeaderValue) -> impl Iterator<Item = &str> {
    value
        .to_str()
        .unwrap_or_default()
        .split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty())
}

fn remove_hop_by_hop(fields: &mut HeaderMap) {
    let named: Vec<HeaderName> = fields
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(names)
        .filter_map(|name| name.parse().ok())
        .filter(is_removable)
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        fields.remove(name);
    }
}

/// What `Connection` names goes, except what would change the meaning or the framing: a client must
/// not take away what we or the node rely on.
fn is_removable(name: &HeaderName) -> bool {
    ![
        header::HOST,
        header::CONTENT_LENGTH,
        header::CONTENT_TYPE,
        header::CONTENT_ENCODING,
        header::AUTHORIZATION,
        header::COOKIE,
        header::CACHE_CONTROL,
        FORWARDED_FOR,
    ]
    .contains(name)
}

/// h2 may send a cookie in pieces; in HTTP/1 it is one field (RFC 9113 8.2.3).
fn join_cookies(fields: &mut HeaderMap) {
    let pieces: Vec<&[u8]> = fields
        .get_all(header::COOKIE)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect();
    if pieces.len() < 2 {
        return;
    }
    if let Ok(whole) = HeaderValue::from_bytes(&pieces.join(&b"; "[..])) {
        fields.insert(header::COOKIE, whole);
    }
}

#[cfg(test)]
mod tests;
