//! What becomes of a wish whose daemon is gone before it was true: one place judges that, for `up`
//! and for `down`.

use crate::cli::context::Context;
use crate::cli::daemon_client::daemon_process;
use crate::config::Config;
use crate::daemon::store;
use crate::daemon::store::Stored;
use crate::reconcile::status::GoalWord;
use crate::reconcile::status::Status;

/// How often one command puts another daemon in the place of one that went.
pub const REPLACED: u32 = 5;

/// What is being followed.
#[derive(Clone, Copy, Debug)]
pub struct Followed<'a> {
    /// The goal that was wished, as the status has it.
    pub goal: GoalWord,
    /// The generation that the wish was given.
    pub generation: u64,
    /// The configuration that is to be up, if that is the wish.
    pub config: Option<&'a Config>,
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
    match fate(followed, &kept, context.paths.socket().exists()) {
        Fate::Overruled => Next::Overruled,
        Fate::Killed => Next::AskAgain,
        Fate::KilledAndRestarted => {
            daemon_process::successor(context).await;
            Next::AskAgain
        }
        Fate::Left if daemon_process::successor(context).await => Next::AskAgain,
        Fate::Left => Next::Gone,
    }
}

/// One that leaves in order takes its socket along. A `down` is in the file before anybody is told
/// of it. Another `up` of the same configuration wishes the same.
fn fate(followed: Followed<'_>, kept: &Stored, has_socket: bool) -> Fate {
    let Followed {
        goal,
        generation,
        config,
        last,
    } = followed;
    let is_kept = config.is_some()
        && kept.config.as_ref() == config
        && kept.is_up()
        && kept.stopped.is_empty();
    let is_same =
        |status: &Status| status.goal == goal && (status.generation == generation || is_kept);
    if !last.is_none_or(is_same) || (kept.is_going_down() && goal == GoalWord::Up) {
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
    use crate::config::read::Input;
    use crate::config::read::read;
    use crate::daemon::store::Wish;

    #[test]
    fn only_a_wish_that_nobody_overruled_is_made_again() {
        use GoalWord::Down;
        use GoalWord::Halt;
        use GoalWord::Hold;
        use GoalWord::Up;
        let said = |goal: GoalWord, generation, ends_when_down| {
            Some(Status {
                generation,
                goal,
                ends_when_down,
                ..Status::default()
            })
        };
        for (goal, last, goes_down, has_socket, fate_of_it) in [
            (Up, said(Up, 2, true), false, true, Fate::Killed),
            (
                Up,
                said(Up, 2, false),
                false,
                true,
                Fate::KilledAndRestarted,
            ),
            (Up, None, false, true, Fate::KilledAndRestarted),
            (Up, said(Up, 2, true), false, false, Fate::Left),
            (Up, said(Up, 3, true), false, true, Fate::Overruled),
            (Up, said(Down, 3, true), true, true, Fate::Overruled),
            (Up, said(Hold, 2, true), false, true, Fate::Overruled),
            (Up, said(Halt, 2, false), false, false, Fate::Overruled),
            (Up, said(Up, 2, true), true, true, Fate::Overruled),
            (Down, said(Down, 2, true), true, true, Fate::Killed),
            (Down, said(Down, 3, true), true, true, Fate::Overruled),
            (Down, None, true, false, Fate::Left),
        ] {
            let followed = Followed {
                goal,
                generation: 2,
                config: None,
                last: last.as_ref(),
            };
            let wish = if goes_down {
                Wish::Down { volumes: false }
            } else {
                Wish::Up
            };
            let kept = Stored {
                wish,
                ..Stored::default()
            };
            assert_eq!(
                fate(followed, &kept, has_socket),
                fate_of_it,
                "{followed:?}"
            );
        }
    }

    #[test]
    fn another_up_of_the_same_configuration_overrules_none() {
        let config = |tag: &str| {
            let vars = [
                ("SA_PASSWORD", "Str0ng-enough"),
                ("ADMIN_PASSWORD", "Adm1n-enough"),
                ("ACCEPT_EULA", "Y"),
                ("ACCEPT_OCTOPUS_EULA", "Y"),
                ("OCTOPUS_SERVER_TAG", tag),
            ];
            let vars = vars
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into();
            read(&Input {
                vars,
                ..Input::default()
            })
            .unwrap()
            .config
        };
        let (ours, theirs) = (config("2026.1"), config("2026.2"));
        let last = Status {
            goal: GoalWord::Up,
            generation: 3,
            ends_when_down: true,
            ..Status::default()
        };
        let followed = Followed {
            goal: GoalWord::Up,
            generation: 2,
            config: Some(&ours),
            last: Some(&last),
        };
        let kept = |config: &Config| Stored {
            wish: Wish::Up,
            config: Some(config.clone()),
            ..Stored::default()
        };
        assert_eq!(fate(followed, &kept(&ours), true), Fate::Killed);
        assert_eq!(fate(followed, &kept(&theirs), true), Fate::Overruled);
        let stopped = Stored {
            stopped: [crate::spec::UnitId::Sql].into(),
            ..kept(&ours)
        };
        assert_eq!(fate(followed, &stopped, true), Fate::Overruled);
    }
}
