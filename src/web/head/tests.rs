//! What a head carries on to a node, and what it does not.

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
    let upgrade = |fields: &[(&str, &str)]| come(&mut get(fields), &[]).map(|asked| asked.upgrade);
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
