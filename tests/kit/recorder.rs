//! Keeps everything that the engine tells about one stack. The engine itself remembers its last 256
//! events only, which many tests at once use up in seconds.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::Mutex;
use std::thread::JoinHandle;

use tokio::sync::oneshot;

use super::docker::Told;
use super::docker::Witness;

/// A thread that follows the engine's events. Dropping it ends it.
pub(crate) struct Recorder {
    told: Arc<Mutex<BTreeSet<Told>>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Recorder {
    /// Begins with what was told about containers with this label since a time (nanoseconds since
    /// 1970).
    pub(crate) fn new(label: &str, since: i64) -> Self {
        let (stop, stopped) = oneshot::channel();
        let told = Arc::new(Mutex::new(BTreeSet::new()));
        let (kept, label) = (Arc::clone(&told), label.to_owned());
        let keep = move |one| {
            kept.lock().unwrap().insert(one);
        };
        let thread =
            std::thread::spawn(move || Witness::new().follow(&label, since, stopped, keep));
        Self {
            told,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// Everything told since then, in order. `latest` is what the engine answers now: the thread
    /// may be a moment late.
    pub(crate) fn since(&self, since: i64, latest: Vec<Told>) -> Vec<Told> {
        let mut told = self.told.lock().unwrap();
        told.extend(latest);
        told.iter().filter(|one| one.at >= since).cloned().collect()
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        drop(self.stop.take());
        let _ = self.thread.take().map(JoinHandle::join);
    }
}
