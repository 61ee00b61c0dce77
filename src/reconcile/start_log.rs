//! What the log of a run says while it starts: whether it moves, and whether SQL Server says that
//! it is open.

use super::Mono;

/// What SQL Server writes once every database of a start is recovered. It says that it is "ready
/// for client connections" before logins work (mssql-docker issue 748), so that is not waited for.
const OPEN: &str = "recovery is complete";
/// What SQL Server writes of a refused login, which may be one of our probes: two lines each, with
/// 18401 while it upgrades its own databases.
const REFUSED_LOGIN: [&str; 3] = ["login failed", "error: 18456", "error: 18401"];

/// What was read of the log of a run that starts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StartLog {
    /// The last lines that were not of refused logins.
    lines: Vec<String>,
    /// When it was first seen to say that the server is open.
    pub open_since: Option<Mono>,
}

impl StartLog {
    /// Takes in the last lines of the log, oldest first. True when it moved: our own refused logins
    /// are no progress.
    pub fn take_in(&mut self, lines: &[String], now: Mono) -> bool {
        let own_words = lines.iter().filter(|line| !is_of_refused_login(line));
        let own_words: Vec<String> = own_words.cloned().collect();
        if own_words.iter().any(|line| contains(line, OPEN)) {
            self.open_since = self.open_since.or(Some(now));
        }
        let moved = !own_words.is_empty() && own_words != self.lines;
        if moved {
            self.lines = own_words;
        }
        moved
    }

    /// Whether the log can be read and the server has not said yet that it is open.
    pub fn is_still_opening(&self) -> bool {
        !self.lines.is_empty() && self.open_since.is_none()
    }
}

fn is_of_refused_login(line: &str) -> bool {
    REFUSED_LOGIN.iter().any(|words| contains(line, words))
}

fn contains(line: &str, words: &str) -> bool {
    line.to_lowercase().contains(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(lines: &[&str]) -> Vec<String> {
        lines.iter().map(|line| (*line).to_owned()).collect()
    }

    #[test]
    fn our_own_refused_logins_are_no_progress_and_hide_none() {
        let mut log = StartLog::default();
        let now = Mono::default();
        let ours = [
            "Error: 18456, Severity: 14, State: 7.",
            "Login failed for user 'sa'.",
        ];
        assert!(!log.take_in(&lines(&ours), now));
        assert!(!log.is_still_opening(), "nothing is known");
        assert!(log.take_in(&lines(&["upgrading master", ours[0], ours[1]]), now));
        assert!(!log.take_in(&lines(&["upgrading master", ours[1]]), now));
        assert!(log.is_still_opening());
        let upgrading = [
            "Error: 18401, Severity: 14, State: 1.",
            "Login failed for user 'sa'. Reason: Server is in script upgrade mode.",
        ];
        let after = lines(&["upgrading master", upgrading[0], upgrading[1]]);
        assert!(!log.take_in(&after, now));
        assert!(log.take_in(&lines(&["upgrading msdb", ours[0]]), now));
        let open = "Recovery is complete. This is an informational message only.";
        assert!(log.take_in(&lines(&[open]), now));
        assert_eq!((log.open_since, log.is_still_opening()), (Some(now), false));
    }
}
