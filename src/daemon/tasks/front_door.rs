//! Keeps the front door as it is wished: starts or adopts it, feeds it, passes on what it reports,
//! and ends it when none is wished any more.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::sync::watch;

use crate::daemon::message::DoorReport;
use crate::daemon::message::DoorWish;
use crate::daemon::message::Event;
use crate::web::link;
use crate::web::link::Link;
use crate::web::link::LinkError;
use crate::web::link::Start;

/// How long one that was just started may take until it can be told to end.
const STARTS_WITHIN: Duration = Duration::from_secs(5);

/// Works until nobody wishes anything any more. A front door that is wished then stays.
pub(in crate::daemon) async fn keep(
    start: Start,
    mut wished: watch::Receiver<Option<Box<DoorWish>>>,
    queue: mpsc::Sender<impl From<Event>>,
) {
    loop {
        let wish = wished.borrow_and_update().clone();
        let goes_on = match wish {
            Some(wish) => serve(&start, *wish, &mut wished, &queue).await,
            None => {
                let report = match end(&start).await {
                    Ok(()) => DoorReport::Ended,
                    Err(error) => {
                        tracing::warn!(%error, "the front door was not told to end");
                        DoorReport::Silent
                    }
                };
                tell(&queue, report).await;
                wished.changed().await.is_ok()
            }
        };
        if !goes_on {
            return;
        }
    }
}

/// Feeds it until none is wished, or one with another certificate. False: nobody wishes any more.
async fn serve(
    start: &Start,
    wish: DoorWish,
    wished: &mut watch::Receiver<Option<Box<DoorWish>>>,
    queue: &mpsc::Sender<impl From<Event>>,
) -> bool {
    let (feed, feeds) = watch::channel(wish.feed);
    let (state, mut states) = watch::channel(None);
    let keeping = link::keep(start.clone(), wish.certificate.clone(), feeds, state);
    tokio::pin!(keeping);
    let mut told = None;
    loop {
        tokio::select! {
            () = &mut keeping => return true,
            changed = states.changed() => {
                let now = states.borrow_and_update().clone();
                if changed.is_ok() && now != told {
                    told.clone_from(&now);
                    let is = |state| DoorReport::Is(Box::new(state));
                    tell(queue, now.map_or(DoorReport::Silent, is)).await;
                }
            }
            changed = wished.changed() => {
                if changed.is_err() {
                    return false;
                }
                let next = wished.borrow_and_update().clone();
                if let Some(next) = next.filter(|next| next.certificate == wish.certificate) {
                    feed.send_replace(next.feed);
                    continue;
                }
                wished.mark_changed();
                // One that is just starting can only be told once it answers.
                let answers = states.wait_for(Option::is_some);
                let _ = tokio::time::timeout(STARTS_WITHIN, async {
                    tokio::select! {
                        () = &mut keeping => {}
                        _ = answers => {}
                    }
                }).await;
                return true;
            }
        }
    }
}

async fn tell(queue: &mpsc::Sender<impl From<Event>>, report: DoorReport) {
    // Fails only when the daemon ends.
    let _ = queue.send(Event::FrontDoor(report).into()).await;
}

async fn end(start: &Start) -> Result<(), LinkError> {
    match Link::connect(&start.control).await {
        Ok(mut link) => link.end().await.map(drop),
        Err(LinkError::Absent) => Ok(()),
        Err(error) => Err(error),
    }
}
