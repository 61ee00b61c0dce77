//! What becomes of a wish whose daemon is gone before it was true: one place judges that, for `up` and for `down`.

use super::context::Context;
use super::spawn;
use crate::daemon::store;
use crate::reconcile::status::Status;

/// How often one command puts another daemon in the place of one that went.
pub const REPLACED: u32 = 5;

/// What is being followed.
#[derive(Clone, Copy, Debug)]
pub struct Followed<'a> {
    /// The goal that was wished, as the status has it.
    pub goal: &'a str,
    /// The generation that the wish was given.
    pub generation: u64,
    /// What the daemon said last, if it said anything since.
    pub last: Option<&'a Status>,
}

/// What whoever followed it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Asks the daemon in its place for the same again, and starts it if need be.
    AskAgain,
    /// Nothing: somebody wished something else since.
    Overruled,
    /// Nothing: it was told to go, and nobody came in its place.
    Gone,
}

/// How a daemon went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Overruled,
    /// Killed, and only whoever follows it puts another one in its place.
    Killed,
    /// Killed, and systemd may start it again.
    KilledAndRestarted,
    /// In order. It is only replaced by whoever made it leave.
    Left,
}

/// Judges how the daemon went, and waits for another one where one may come.
pub async fn next(context: &Context, followed: Followed<'_>) -> Next {
    let kept = store::read(&context.paths.store()).unwrap_or_default();
    match fate(followed, kept.is_going_down(), context.paths.socket().exists()) {
        Fate::Overruled => Next::Overruled,
        Fate::Killed => Next::AskAgain,
        Fate::KilledAndRestarted => {
            spawn::successor(context).await;
            Next::AskAgain
        }
        Fate::Left if spawn::successor(context).await => Next::AskAgain,
        Fate::Left => Next::Gone,
    }
}

/// One that leaves in order takes its socket along. A `down` is in the file before anybody is told of it.
fn fate(followed: Followed<'_>, goes_down: bool, has_socket: bool) -> Fate {
    let Followed { goal, generation, last } = followed;
    let is_same = |status: &Status| status.goal == goal && status.generation == generation;
    if !last.is_none_or(is_same) || (goes_down && goal == "up") {
        return Fate::Overruled;
    }
    match last {
        _ if !has_socket => Fate::Left,
        Some(status) if status.ends_when_down => Fate::Killed,
        Some(_) | None => Fate::KilledAndRestarted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_wish_that_nobody_overruled_is_made_again() {
        let said = |goal: &str, generation, ends_when_down| {
            Some(Status { goal: goal.to_owned(), generation, ends_when_down, ..Status::default() })
        };
        for (goal, last, goes_down, has_socket, fate_of_it) in [
            ("up", said("up", 2, true), false, true, Fate::Killed),
            ("up", said("up", 2, false), false, true, Fate::KilledAndRestarted),
            ("up", None, false, true, Fate::KilledAndRestarted),
            ("up", said("up", 2, true), false, false, Fate::Left),
            ("up", said("up", 3, true), false, true, Fate::Overruled),
            ("up", said("down", 3, true), true, true, Fate::Overruled),
            ("up", said("hold", 2, true), false, true, Fate::Overruled),
            ("up", said("halt", 2, false), false, false, Fate::Overruled),
            ("up", said("up", 2, true), true, true, Fate::Overruled),
            ("down", said("down", 2, true), true, true, Fate::Killed),
            ("down", said("down", 3, true), true, true, Fate::Overruled),
            ("down", None, true, false, Fate::Left),
        ] {
            let followed = Followed { goal, generation: 2, last: last.as_ref() };
            assert_eq!(fate(followed, goes_down, has_socket), fate_of_it, "{followed:?}");
        }
    }
}
