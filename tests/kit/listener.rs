//! Hears what the engine tells while a test runs. The engine itself remembers its last 256 events only, whoever they are
//! about, so what many tests do at the same time pushes out what one of them asks for later.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::thread::JoinHandle;

use bollard::Docker;
use bollard::query_parameters as query;
use futures_util::StreamExt as _;
use tokio::sync::oneshot;

use super::docker::Told;
use super::docker::told_of;

/// A thread that listens until it is dropped.
pub(crate) struct Listener {
    heard: Arc<Mutex<Vec<Told>>>,
    over: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Listener {
    /// Listens to what is told about containers with this label.
    pub(crate) fn to(docker: &Docker, label: &str) -> Self {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let (over, ended) = oneshot::channel();
        let (docker, label, all) = (docker.clone(), label.to_owned(), heard.clone());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                tokio::select! {
                    () = listen(&docker, &label, &all) => {}
                    _ = ended => {}
                }
            });
        });
        Self { heard, over: Some(over), thread: Some(thread) }
    }

    /// Everything heard so far, together with what the engine still remembers; each event once, in order.
    pub(crate) fn with(&self, remembered: Vec<Told>) -> Vec<Told> {
        let mut all = self.heard.lock().unwrap_or_else(PoisonError::into_inner).clone();
        all.extend(remembered);
        all.sort_by(|one, other| (one.at, &one.name, &one.action).cmp(&(other.at, &other.name, &other.action)));
        all.dedup();
        all
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        drop(self.over.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn listen(docker: &Docker, label: &str, heard: &Mutex<Vec<Told>>) {
    let filters = HashMap::from([("label", vec![label.to_owned()]), ("type", vec!["container".to_owned()])]);
    let options = query::EventsOptionsBuilder::default().filters(&filters).build();
    let mut events = Box::pin(docker.events(Some(options)));
    while let Some(Ok(event)) = events.next().await {
        heard.lock().unwrap_or_else(PoisonError::into_inner).extend(told_of(event));
    }
}
