//! What a door holds for a long body and for connections on which nobody asks.

use std::io::Read as _;
use std::io::Write as _;
use std::net::TcpStream;

use rustix::process::Resource;
use rustix::process::Rlimit;
use tokio::time::Instant;

use crate::Bench;
use crate::doors::Door;
use crate::table::Row;
use crate::table::Samples;
use crate::table::Unit;

/// Bytes of the upload, and of the pieces that it is sent in.
const UPLOAD: usize = 4 << 30;
const PIECE: usize = 1 << 20;
/// Pieces between two looks at the door's memory.
const LOOK_EVERY: usize = 16;
const IDLE: usize = 5000;
const REQUEST: &[u8] = b"GET /small HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";

/// One long body.
pub(crate) fn upload(bench: &Bench) -> Vec<Row> {
    let door = &bench.doors.ours;
    answered(&mut connected(door));
    let before = door.memory();
    let mut stream = connected(door);
    let head =
        format!("PUT /upload HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {UPLOAD}\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let piece = vec![b'x'; PIECE];
    let began = Instant::now();
    let mut most = before;
    for count in 0..UPLOAD / PIECE {
        stream.write_all(&piece).unwrap();
        if count % LOOK_EVERY == 0 {
            most = most.max(door.memory());
        }
    }
    read_answer(&mut stream);
    let a_second = UPLOAD as f64 / began.elapsed().as_secs_f64() / 1e6;
    vec![
        Row::new(
            "upload of 4 GiB: more memory",
            Unit::Mebibytes,
            Samples::of([(most - before) / 1024.0]),
        )
        .must(8.0)
        .aim(2.0)
        .peer(format!("{a_second:.0} MB a second")),
    ]
}

/// Many connections, each of which was asked on once.
pub(crate) fn idle(bench: &Bench) -> Vec<Row> {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    rustix::process::setrlimit(Resource::Nofile, raised).unwrap();
    let peers = bench.doors.peers.iter();
    let peers = peers.map(|door| format!("{} {:.1} KiB", door.name, each(door)));
    let peers: Vec<String> = peers.collect();
    vec![
        Row::new(
            "memory of each of 5,000 idle connections",
            Unit::Kibibytes,
            Samples::of([each(&bench.doors.ours)]),
        )
        .must(20.0)
        .aim(8.0)
        .peer(peers.join(", ")),
    ]
}

/// KiB that a connection takes on which nothing is asked any more.
fn each(door: &Door) -> f64 {
    answered(&mut connected(door));
    let before = door.memory();
    let mut all: Vec<TcpStream> = (0..IDLE).map(|_| connected(door)).collect();
    all.iter_mut().for_each(answered);
    (door.memory() - before) / IDLE as f64
}

fn connected(door: &Door) -> TcpStream {
    TcpStream::connect(door.address()).unwrap()
}

fn answered(stream: &mut TcpStream) {
    stream.write_all(REQUEST).unwrap();
    read_answer(stream);
}

/// Reads the head and as much more as the small answer has.
fn read_answer(stream: &mut TcpStream) {
    let mut bytes = Vec::new();
    loop {
        let mut piece = [0; 4096];
        let count = stream.read(&mut piece).unwrap();
        bytes.extend_from_slice(&piece[..count]);
        let end = bytes.windows(4).position(|end| end == b"\r\n\r\n");
        if end.is_some_and(|end| bytes.len() >= end + 4 + crate::nodes::SMALL) {
            assert!(bytes.starts_with(b"HTTP/1.1 200"), "an answer that is none");
            return;
        }
        assert!(count > 0, "closed before the answer's end");
    }
}
