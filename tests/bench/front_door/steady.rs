//! Load at a given rate: requests begin at random times, as those of many who do not know each
//! other, and each is measured from its own beginning. wrk cannot do that: its pauses are whole
//! milliseconds, at whose ends everybody asks at once.

use std::io::ErrorKind;
use std::io::Read as _;
use std::io::Write as _;
use std::net::SocketAddr;
use std::net::TcpStream;
use std::num::NonZeroU64;
use std::time::Duration;

use rustix::event::PollFd;
use rustix::event::PollFlags;
use rustix::event::poll;
use rustix::time::Timespec;
use tokio::time::Instant;

/// Connections; far more than are busy at once.
const CONNECTIONS: usize = 32;
const REQUEST: &[u8] = b"GET /small HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";
/// The kernel wakes sleepers this much later, in nanoseconds, to wake some at once.
const SLACK: u64 = 1;

/// How long requests took, in microseconds.
pub(crate) struct Took(Vec<f64>);

impl Took {
    /// What so much of a hundred took at most.
    pub(crate) fn percentile(&self, percent: usize) -> f64 {
        self.0[(self.0.len() * percent / 100).min(self.0.len() - 1)]
    }
}

struct Connection {
    stream: TcpStream,
    /// When it asked, until it is answered.
    asked: Option<Instant>,
    /// Bytes of the answer so far.
    came: usize,
}

/// Asks so often a second for so long.
pub(crate) fn ask(address: SocketAddr, a_second: f64, lasts: Duration) -> Took {
    rustix::thread::set_current_timer_slack(NonZeroU64::new(SLACK)).unwrap();
    let (mut connections, answer) = connect(address);
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut pause = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let part = (random >> 11) as f64 / (1_u64 << 53) as f64;
        Duration::from_secs_f64(-(1.0 - part).ln() / a_second)
    };
    let begin = Instant::now();
    let mut next = begin;
    let mut took = Vec::new();
    while next - begin < lasts {
        let now = Instant::now();
        if let Some(free) = connections.iter_mut().find(|one| one.asked.is_none())
            && now >= next
        {
            free.asked = Some(Instant::now());
            assert_eq!(free.stream.write(REQUEST).unwrap(), REQUEST.len());
            next += pause();
            continue;
        }
        wait(&connections, next.saturating_duration_since(now));
        for one in connections.iter_mut().filter(|one| one.asked.is_some()) {
            took.extend(one.read(answer));
        }
    }
    took.sort_by(f64::total_cmp);
    assert!(
        took.len() as f64 > a_second * lasts.as_secs_f64() * 0.9,
        "it lags behind"
    );
    Took(took)
}

/// Connections that were used once, and the length of an answer.
fn connect(address: SocketAddr) -> (Vec<Connection>, usize) {
    let mut answer = 0;
    let connections = (0..CONNECTIONS).map(|_| {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.write_all(REQUEST).unwrap();
        answer = whole_answer(&mut stream);
        stream.set_nonblocking(true).unwrap();
        Connection {
            stream,
            asked: None,
            came: 0,
        }
    });
    (connections.collect(), answer)
}

/// Reads one answer and tells its length.
fn whole_answer(stream: &mut TcpStream) -> usize {
    let mut bytes = Vec::new();
    loop {
        let mut piece = [0; 4096];
        let count = stream.read(&mut piece).unwrap();
        assert!(count > 0, "closed before the answer's end");
        bytes.extend_from_slice(&piece[..count]);
        let text = String::from_utf8_lossy(&bytes).to_ascii_lowercase();
        if let Some((head, _)) = text.split_once("\r\n\r\n") {
            let length = head.split("content-length: ").nth(1).unwrap();
            let length: usize = length.lines().next().unwrap().parse().unwrap();
            let all = head.len() + 4 + length;
            if bytes.len() >= all {
                return all;
            }
        }
    }
}

/// Waits for the first byte of any answer, for at most so long.
fn wait(connections: &[Connection], most: Duration) {
    let busy = connections.iter().filter(|one| one.asked.is_some());
    let mut fds: Vec<PollFd<'_>> = busy
        .map(|one| PollFd::new(&one.stream, PollFlags::IN))
        .collect();
    let most = Timespec::try_from(most).unwrap();
    poll(&mut fds, Some(&most)).unwrap();
}

impl Connection {
    /// Reads what is there; how long it took when it is all, in microseconds.
    fn read(&mut self, answer: usize) -> Option<f64> {
        let mut piece = [0; 4096];
        match self.stream.read(&mut piece) {
            Ok(count @ 1..) => self.came += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return None,
            other => panic!("no answer: {other:?}"),
        }
        if self.came < answer {
            return None;
        }
        self.came = 0;
        Some(self.asked.take()?.elapsed().as_secs_f64() * 1e6)
    }
}
