//! Bodies are framed as they say, and what is ambiguous is refused.

use super::*;
use proptest::prelude::*;

fn read(text: &str) -> Result<Framing, Bad> {
    let mut framing = Framing::default();
    framing.read(text.as_bytes()).map_err(|(_, bad)| bad)?;
    Ok(framing)
}

#[test]
fn what_the_rfc_allows_comes_through() {
    let fine = [
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "\r\nGET / HTTP/1.0\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost:a\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: 3 \r\n\r\nabcGET / HTTP/1.1\r\n\r\n",
        "POST / HTTP/1.1\r\nTRANSFER-encoding:\tChunked\r\n\r\n3;a=\"b\"\r\nabc\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-Sum: 1\r\n\r\n",
        "M-SEARCH /a?b|c HTTP/1.1\r\nX: \u{e9}\r\nEmpty:\r\n\r\n",
        "PROPFIND / HTTP/1.1\r\n\r\n",
    ];
    for text in fine {
        let framing = read(text).unwrap_or_else(|bad| panic!("{text:?}: {bad}"));
        assert!(framing.is_between(), "{text:?}: {framing:?}");
    }
}

#[test]
fn what_could_be_read_in_two_ways_is_refused() {
    let te = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n";
    let bad = [
        (
            "GET / HTTP/1.1\nHost: a\r\n\r\n".to_owned(),
            Bad::RequestLine,
        ),
        ("GET / HTTP/1.1\r\nHost: a\n\r\n".to_owned(), Bad::LineEnd),
        ("GET / HTTP/1.1\r\nHost: a\r\n\n".to_owned(), Bad::LineEnd),
        ("GET / HTTP/1.1\r\nA: b\rc\r\n\r\n".to_owned(), Bad::LineEnd),
        (
            "GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n".to_owned(),
            Bad::Field,
        ),
        ("GET / HTTP/1.1\r\nA : b\r\n\r\n".to_owned(), Bad::Field),
        ("GET / HTTP/1.1\r\n: b\r\n\r\n".to_owned(), Bad::Field),
        ("GET / HTTP/1.1\r\nA: \0\r\n\r\n".to_owned(), Bad::Field),
        ("GET  / HTTP/1.1\r\n\r\n".to_owned(), Bad::RequestLine),
        ("GET /#a HTTP/1.1\r\n\r\n".to_owned(), Bad::RequestLine),
        ("GET / HTTP/1.2\r\n\r\n".to_owned(), Bad::RequestLine),
        ("GET /\r\n".to_owned(), Bad::RequestLine),
        (
            "\r\n\r\n\r\nGET / HTTP/1.1\r\n\r\n".to_owned(),
            Bad::RequestLine,
        ),
        (
            "A / HTTP/1.1\r\nContent-Length: +1\r\n".to_owned(),
            Bad::Length,
        ),
        (
            "A / HTTP/1.1\r\nContent-Length: 1, 1\r\n".to_owned(),
            Bad::Length,
        ),
        (
            "A / HTTP/1.1\r\nContent-Length:\r\n".to_owned(),
            Bad::Length,
        ),
        (
            "A / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n".to_owned(),
            Bad::Length,
        ),
        (format!("{te}Content-Length: 1\r\n"), Bad::Length),
        (format!("{te}{}", &te[17..]), Bad::Encoding),
        (te.replace("1.1", "1.0"), Bad::Encoding),
        (te.replace("chunked", "gzip, chunked"), Bad::Encoding),
        (te.replace("chunked", "\u{b}chunked"), Bad::Field),
        (te.replace("chunked", "xchunked"), Bad::Encoding),
        (format!("{te}\r\n\r\n"), Bad::Chunk),
        (format!("{te}\r\n0x1\r\n"), Bad::Chunk),
        (format!("{te}\r\n1 \r\n"), Bad::Chunk),
        (format!("{te}\r\n1\n"), Bad::Chunk),
        (format!("{te}\r\n1\r\nab"), Bad::Chunk),
        (format!("{te}\r\nffffffffffffffff\r\n"), Bad::Chunk),
        (format!("{te}\r\n1;{}\r\n", "a".repeat(300)), Bad::Chunk),
        (format!("{te}\r\n1;a\nb\r\n"), Bad::Chunk),
        (format!("{te}\r\n0\r\nContent-Length: 1\r\n"), Bad::Trailer),
        (format!("{te}\r\n0\r\nHost: a\r\n"), Bad::Trailer),
        (
            format!("{te}\r\n0\r\nA: {}\r\n", "b".repeat(9000)),
            Bad::Trailer,
        ),
    ];
    for (text, why) in bad {
        assert_eq!(read(&text).map(|_| ()), Err(why), "{text:?}");
    }
}

#[test]
fn h2_is_told_from_what_only_begins_like_it() {
    assert!(
        read("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0")
            .unwrap()
            .is_opaque()
    );
    assert_eq!(
        read("PRI * HTTP/2.0\r\n\r\nXX").map(|_| ()),
        Err(Bad::RequestLine)
    );
    assert!(read("PRI /").unwrap().in_head());
    assert!(!read("").unwrap().in_head());
}

/// A request with one meaning, and what it means: method, and its body's bytes.
fn request() -> impl Strategy<Value = (String, Vec<u8>)> {
    let body = proptest::collection::vec(any::<u8>(), 0..40);
    (body, proptest::option::of(1..9_usize), "[A-Z]{1,8}").prop_map(|(body, chunks, method)| {
        let mut bytes = format!("{method} /x HTTP/1.1\r\nHost: a\r\n").into_bytes();
        match chunks {
            None => bytes.extend(format!("Content-Length: {}\r\n\r\n", body.len()).bytes()),
            Some(_) => bytes.extend(b"Transfer-Encoding: chunked\r\n\r\n"),
        }
        match chunks {
            None => bytes.extend(&body),
            Some(size) => {
                for chunk in body.chunks(size) {
                    bytes.extend(format!("{:x}\r\n", chunk.len()).bytes());
                    bytes.extend(chunk);
                    bytes.extend(b"\r\n");
                }
                bytes.extend(b"0\r\n\r\n");
            }
        }
        (method, bytes)
    })
}

proptest! {
    /// However the bytes are cut, well-formed requests come through and end between two.
    #[test]
    fn well_formed_requests_come_through_however_they_are_cut(
        requests in proptest::collection::vec(request(), 1..4),
        cuts in proptest::collection::vec(1..30_usize, 1..10),
    ) {
        let bytes: Vec<u8> = requests.into_iter().flat_map(|(_, bytes)| bytes).collect();
        let mut framing = Framing::default();
        let (mut rest, mut turn) = (&bytes[..], 0);
        while !rest.is_empty() {
            let (part, later) = rest.split_at(cuts[turn % cuts.len()].min(rest.len()));
            prop_assert_eq!(framing.read(part), Ok(()));
            (rest, turn) = (later, turn + 1);
        }
        prop_assert!(framing.is_between());
    }

    /// The verdict and its place do not depend on how the bytes arrive, and nothing panics.
    #[test]
    fn a_refusal_does_not_depend_on_how_the_bytes_arrive(
        head in "(GET|POST|PRI|\r\n| ){0,2} ?[/ *]{0,2} ?HTTP/1.[0-2]\r?\n",
        rest in "(Content-Length: ?[0-9+, ]{0,3}|Transfer-Encoding: ?(chunked|x)|A:b| c|\r|\n|\r\n|[0-9a-f]{1,2}){0,12}",
    ) {
        let bytes = [head.as_bytes(), rest.as_bytes()].concat();
        let mut whole = Framing::default();
        let at_once = whole.read(&bytes);
        let mut single = Framing::default();
        let one_by_one = bytes
            .iter()
            .enumerate()
            .try_for_each(|(place, byte)| single.read(&[*byte]).map_err(|(_, bad)| (place, bad)));
        prop_assert_eq!(at_once, one_by_one);
    }

    /// Any bytes at all: no panic, and nothing with a bare line feed in its head comes through.
    #[test]
    fn a_bare_line_feed_never_ends_a_line(junk in "[ -~]{0,20}", more in "[ -~\r\n]{0,40}") {
        let text = format!("GET / HTTP/1.1\r\nA: {junk}\n{more}\r\n\r\n");
        prop_assert!(read(&text).is_err());
    }
}
