//! `sp_getapplock`: named exclusive locks that connections hold against each other.

use std::collections::HashMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How often a waiting connection looks whether its client has gone or changed its mind.
const LOOK: Duration = Duration::from_millis(20);

/// Database and resource, lower case.
pub(super) type Resource = (String, String);

#[derive(Debug)]
struct Held {
    spid: u32,
    times: u32,
    /// Released when the transaction ends, not only with the session.
    transaction: bool,
}

/// All locks of the server.
#[derive(Debug, Default)]
pub(super) struct Locks {
    held: Mutex<HashMap<Resource, Held>>,
    freed: Condvar,
}

impl Locks {
    fn held(&self) -> MutexGuard<'_, HashMap<Resource, Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The procedure's return code: 0 granted, 1 granted after waiting, -1 timed out, -2 cancelled.
    pub(super) fn acquire(
        &self,
        spid: u32,
        resource: &Resource,
        transaction: bool,
        wait: Option<Duration>,
        cancelled: impl Fn() -> bool,
    ) -> i32 {
        let deadline = wait.map(|wait| Instant::now() + wait);
        let mut held = self.held();
        let mut granted = 0;
        loop {
            match held.get_mut(resource) {
                None => {
                    held.insert(
                        resource.clone(),
                        Held {
                            spid,
                            times: 1,
                            transaction,
                        },
                    );
                    return granted;
                }
                Some(lock) if lock.spid == spid => {
                    lock.times += 1;
                    return granted;
                }
                Some(_) => {}
            }
            if cancelled() {
                return -2;
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return -1;
            }
            granted = 1;
            held = self
                .freed
                .wait_timeout(held, LOOK)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Whether the connection held it.
    pub(super) fn release(&self, spid: u32, resource: &Resource) -> bool {
        let mut held = self.held();
        let Some(lock) = held.get_mut(resource).filter(|lock| lock.spid == spid) else {
            return false;
        };
        lock.times -= 1;
        if lock.times == 0 {
            held.remove(resource);
            self.freed.notify_all();
        }
        true
    }

    /// At the end of a transaction, or with `session` at the end of the connection.
    pub(super) fn release_all(&self, spid: u32, session: bool) {
        self.held()
            .retain(|_, lock| lock.spid != spid || (!session && !lock.transaction));
        self.freed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_holder_at_a_time_and_none_after_its_death() {
        let locks = Locks::default();
        let resource = ("db".to_owned(), "r".to_owned());
        let no_wait = Some(Duration::ZERO);
        assert_eq!(locks.acquire(1, &resource, false, no_wait, || false), 0);
        assert_eq!(locks.acquire(1, &resource, false, no_wait, || false), 0);
        assert_eq!(locks.acquire(2, &resource, false, no_wait, || false), -1);
        assert_eq!(locks.acquire(2, &resource, false, None, || true), -2);
        assert!(locks.release(1, &resource) && !locks.release(2, &resource));
        assert_eq!(locks.acquire(2, &resource, false, no_wait, || false), -1);
        locks.release_all(1, true);
        assert_eq!(locks.acquire(2, &resource, true, no_wait, || false), 0);
        locks.release_all(2, false);
        assert_eq!(locks.acquire(1, &resource, false, no_wait, || false), 0);
    }
}
