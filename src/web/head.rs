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
mod tests {
    use super::*;
    use crate::config::network::Network;
    use crate::web::forwarded::Peer;
    use hyper::Request;
    use proptest::prelude::*;

    const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7));

    fn parts(version: Version, method: &str, uri: &str, fields: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder().version(version).method(method).uri(uri);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn come(parts: &mut Parts, trusted: &[Network]) -> Result<Asked, StatusCode> {
        let peer = Peer::new(PEER, false);
        let arrival = Arrival {
            peer: &peer,
            trusted,
        };
        inbound(parts, arrival).map_err(|(status, _)| status)
    }

    fn get(fields: &[(&str, &str)]) -> Parts {
        let all = [&[("host", "octo:8080")], fields].concat();
        parts(Version::HTTP_11, "GET", "/a?b", &all)
    }

    #[test]
    fn fields_of_the_connection_stay_on_it() {
        let mut head = get(&[
            (
                "connection",
                "close, X-Mine, Host, Content-Length, authorization",
            ),
            ("x-mine", "1"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("te", "gzip, trailers"),
            ("authorization", "Bearer x"),
            ("content-encoding", "gzip"),
        ]);
        come(&mut head, &[]).unwrap();
        for gone in ["x-mine", "keep-alive", "proxy-connection"] {
            assert!(!head.headers.contains_key(gone), "{gone}");
        }
        assert_eq!(head.headers["host"], "octo:8080");
        assert_eq!(head.headers["te"], "trailers");
        assert_eq!(head.headers["authorization"], "Bearer x");
        assert_eq!(head.headers["content-encoding"], "gzip");
        assert_eq!(head.headers["via"], "1.1 octo-local");
    }

    #[test]
    fn only_a_trusted_proxy_is_believed() {
        let claims = [
            ("x-forwarded-for", "203.0.113.1"),
            ("x-forwarded-proto", "https"),
            ("forwarded", "for=203.0.113.1"),
            ("x-real-ip", "203.0.113.1"),
            ("x-original-url", "/admin"),
        ];
        let mut head = get(&claims);
        come(&mut head, &[]).unwrap();
        assert_eq!(head.headers["x-forwarded-for"], "192.0.2.7");
        assert_eq!(head.headers["x-forwarded-proto"], "http");
        assert_eq!(
            head.headers["forwarded"],
            "for=192.0.2.7;host=\"octo:8080\";proto=http"
        );
        assert!(!head.headers.contains_key("x-real-ip"));
        assert!(!head.headers.contains_key("x-original-url"));

        let mut head = get(&claims);
        come(&mut head, &["192.0.2.0/24".parse().unwrap()]).unwrap();
        assert_eq!(head.headers["x-forwarded-for"], "203.0.113.1, 192.0.2.7");
        assert_eq!(head.headers["x-forwarded-proto"], "https");
        assert_eq!(head.headers["x-real-ip"], "203.0.113.1");
    }

    #[test]
    fn the_client_is_the_last_whom_nobody_believes() {
        let trusted: Vec<Network> = ["192.0.2.0/24", "10.0.0.0/8"]
            .iter()
            .map(|text| text.parse().unwrap())
            .collect();
        let client = |said: &str, trusted: &[Network]| {
            let mut head = get(&[("x-forwarded-for", said)]);
            come(&mut head, trusted).unwrap().client.to_string()
        };
        assert_eq!(client("203.0.113.1", &[]), "192.0.2.7");
        assert_eq!(client("203.0.113.1", &trusted), "203.0.113.1");
        assert_eq!(
            client("1.1.1.1, 203.0.113.1, 10.1.1.1", &trusted),
            "203.0.113.1"
        );
        assert_eq!(client("203.0.113.1, who", &trusted), "192.0.2.7");
        assert_eq!(client("[2001:db8::1]", &trusted), "2001:db8::1");
        assert_eq!(client("10.0.0.9", &trusted), "10.0.0.9");
    }

    #[test]
    fn a_host_is_one_and_well_formed() {
        let hosts = |all: &[(&str, &str)]| {
            let mut head = parts(Version::HTTP_11, "GET", "/", all);
            come(&mut head, &[]).map(|_| head.headers["host"].clone())
        };
        for fine in ["octo", "octo:8080", "[::1]:80", "10.0.0.1", "octo:"] {
            assert_eq!(hosts(&[("host", fine)]).unwrap(), fine);
        }
        let bad = [
            "", "a,b", "a b", "u@a", "a/b", "a:b", "a:99999", "[::1", "a\\b", "a?b", "a:80:80",
        ];
        for bad in bad {
            assert_eq!(
                hosts(&[("host", bad)]),
                Err(StatusCode::BAD_REQUEST),
                "{bad}"
            );
        }
        assert_eq!(
            hosts(&[("host", "a"), ("host", "a")]),
            Err(StatusCode::BAD_REQUEST)
        );
        assert_eq!(hosts(&[]), Err(StatusCode::BAD_REQUEST));
        let mut old = parts(Version::HTTP_10, "GET", "/", &[]);
        assert!(come(&mut old, &[]).is_ok());
        let mut differ = parts(Version::HTTP_2, "GET", "http://a/", &[("host", "b")]);
        assert_eq!(come(&mut differ, &[]), Err(StatusCode::BAD_REQUEST));
        let mut absolute = parts(Version::HTTP_11, "GET", "http://a:1/x", &[("host", "b")]);
        come(&mut absolute, &[]).unwrap();
        assert_eq!(absolute.headers["host"], "a:1");
        assert_eq!(absolute.uri.path(), "/x");
        assert_eq!(absolute.uri.authority(), None);
    }

    #[test]
    fn methods_targets_and_expectations_that_are_not_served() {
        let cases = [
            ("TRACE", "/", "", StatusCode::METHOD_NOT_ALLOWED),
            ("CONNECT", "a:80", "", StatusCode::METHOD_NOT_ALLOWED),
            ("GET", "*", "", StatusCode::BAD_REQUEST),
            ("GET", "ftp://a/", "", StatusCode::BAD_REQUEST),
            ("GET", "a:80", "", StatusCode::BAD_REQUEST),
            ("PUT", "/", "200-maybe", StatusCode::EXPECTATION_FAILED),
        ];
        for (method, uri, expect, status) in cases {
            let mut fields = vec![("host", "a")];
            fields.extend((!expect.is_empty()).then_some(("expect", expect)));
            let mut head = parts(Version::HTTP_11, method, uri, &fields);
            assert_eq!(come(&mut head, &[]), Err(status), "{method} {uri}");
        }
        let mut all = parts(Version::HTTP_11, "OPTIONS", "*", &[("host", "a")]);
        come(&mut all, &[]).unwrap();
        assert_eq!(all.uri.to_string(), "*");
    }

    #[test]
    fn only_an_announced_single_upgrade_without_a_body_is_one() {
        let upgrade =
            |fields: &[(&str, &str)]| come(&mut get(fields), &[]).map(|asked| asked.upgrade);
        let both = [
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "websocket"),
        ];
        assert_eq!(upgrade(&both).unwrap().unwrap(), "websocket");
        assert_eq!(upgrade(&both[1..]), Ok(None));
        assert_eq!(upgrade(&[both[0], ("upgrade", "h2c")]), Ok(None));
        assert_eq!(upgrade(&[both[0], ("upgrade", "TLS/1.2")]), Ok(None));
        let bad = Err(StatusCode::BAD_REQUEST);
        assert_eq!(upgrade(&[both[0], ("upgrade", "websocket, x")]), bad);
        assert_eq!(upgrade(&[both[0], both[1], ("upgrade", "x")]), bad);
        assert_eq!(upgrade(&[both[0], both[1], ("content-length", "4")]), bad);
        assert_eq!(
            upgrade(&[both[0], both[1], ("transfer-encoding", "chunked")]),
            bad
        );
    }

    #[test]
    fn an_answer_keeps_what_is_not_of_the_connection() {
        let mut fields = HeaderMap::new();
        for (name, value) in [
            ("connection", "close, x-hop"),
            ("x-hop", "1"),
            ("content-encoding", "br"),
            ("trailer", "x-sum"),
            ("upgrade", "websocket"),
        ] {
            fields.insert(name, HeaderValue::from_static(value));
        }
        let mut switched = fields.clone();
        outbound(&mut fields, None);
        let left: Vec<&str> = fields.keys().map(HeaderName::as_str).collect();
        assert_eq!(left.len(), 2, "{left:?}");
        outbound(&mut switched, Some(&HeaderValue::from_static("websocket")));
        assert_eq!(switched["connection"], "upgrade");
        assert_eq!(switched["upgrade"], "websocket");
    }

    #[test]
    fn plain_http_is_sent_to_the_same_place() {
        let host = |text| HeaderValue::from_str(text).unwrap();
        let at = |text, port| https_location(&host(text), port, &Uri::from_static("/a?b=c"));
        assert_eq!(at("octo:8080", 8443).unwrap(), "https://octo:8443/a?b=c");
        assert_eq!(at("[::1]:80", 443).unwrap(), "https://[::1]/a?b=c");
    }

    proptest! {
        /// Whatever fields come: a node gets one host, our word about the peer last, no field of
        /// the connection, and no length beside an upgrade.
        #[test]
        fn a_node_gets_one_host_and_our_word(
            fields in proptest::collection::vec(
                ("connection|host|te|upgrade|keep-alive|x-forwarded-for|forwarded|x-a|cookie",
                 "[ -~]{0,20}"),
                0..8,
            ),
        ) {
            let fields: Vec<(&str, &str)> =
                fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            let mut head = get(&fields);
            if let Ok(asked) = come(&mut head, &[]) {
                prop_assert_eq!(head.headers.get_all("host").iter().count(), 1);
                prop_assert_eq!(&head.headers["x-forwarded-for"], "192.0.2.7");
                prop_assert!(!head.headers.contains_key("keep-alive"));
                prop_assert_eq!(head.headers.contains_key("upgrade"), asked.upgrade.is_some());
                prop_assert!(head.headers.get_all("cookie").iter().count() < 2);
            }
        }
    }
}
