//! What the children of the fake engine say. It is read as it comes, and also before each call of the
//! engine is noted: what a child said before it was asked anything is noted before what follows from
//! the answer, however busy the machine is.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::Weak;

use tokio::net::unix::pipe::Receiver;

use super::Shared;
use super::container::Log;
use super::lock;
use super::timeline::What;

/// The last lines of the stand-ins before they serve.
const SERVES: [&str; 2] = [
    "Recovery is complete.",
    "Web server is ready to process requests",
];

/// One pipe of a child.
#[derive(Debug)]
pub(super) struct Output {
    /// The container's name.
    name: String,
    is_err: bool,
    log: Log,
    pipe: Receiver,
    /// The beginning of a line whose end was not said yet.
    part: Mutex<Vec<u8>>,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Outputs(Mutex<Vec<Weak<Output>>>);

impl Output {
    pub(super) fn new(
        name: &str,
        is_err: bool,
        log: &Log,
        pipe: io::Result<OwnedFd>,
    ) -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            name: name.to_owned(),
            is_err,
            log: log.clone(),
            pipe: Receiver::from_owned_fd(pipe?)?,
            part: Mutex::default(),
        }))
    }

    /// Reads it to its end.
    pub(super) async fn keep(self: Arc<Self>, shared: Arc<Shared>) {
        while self.pipe.readable().await.is_ok() {
            if self.take_in(&shared, |buffer| self.pipe.try_read(buffer)) {
                return;
            }
        }
    }

    /// Reads what was said by now.
    fn catch_up(&self, shared: &Shared) {
        self.take_in(shared, |buffer| Ok(rustix::io::read(&self.pipe, buffer)?));
    }

    /// Keeps what was said, and notes the line with which the child begins to serve. True at its end.
    fn take_in(
        &self,
        shared: &Shared,
        mut read: impl FnMut(&mut [u8]) -> io::Result<usize>,
    ) -> bool {
        let mut part = lock(&self.part);
        let mut buffer = [0; 4096];
        loop {
            match read(&mut buffer) {
                Ok(0) => return true,
                Ok(read) => part.extend_from_slice(&buffer[..read]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
            while let Some(end) = part.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = part.drain(..=end).collect();
                let line = String::from_utf8_lossy(&line[..end]).into_owned();
                if SERVES.iter().any(|words| line.contains(words)) {
                    let served = What::Served(self.name.clone());
                    shared.world().timeline.note(served);
                }
                lock(&self.log).push((self.is_err, line));
            }
        }
    }
}

impl Outputs {
    pub(super) fn add(&self, output: &Arc<Output>) {
        lock(&self.0).push(Arc::downgrade(output));
    }

    /// Reads what was said by now.
    pub(super) fn catch_up(&self, shared: &Shared) {
        let all: Vec<_> = {
            let mut all = lock(&self.0);
            all.retain(|one| one.strong_count() > 0);
            all.iter().filter_map(Weak::upgrade).collect()
        };
        for output in all {
            output.catch_up(shared);
        }
    }
}
