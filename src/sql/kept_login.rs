//! A login that stays between probes: a handshake of TLS and a login cost far more than the question
//! whether the databases are open, and each one shows in the server's own counters.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use super::Connection;
use super::DATABASES;
use super::SqlError;
use super::judge;
use super::login;
use super::rows;
use super::where_to_log_in;
use crate::reconcile::health::Probe;
use crate::spec::DatabaseTarget;

/// So many questions are asked over one login: that logins work is to be seen as well.
const QUESTIONS: u32 = 12;

/// The login of the last probe, while it can be used again.
#[derive(Default)]
pub struct KeptLogin(Mutex<Option<Kept>>);

struct Kept {
    target: DatabaseTarget,
    client: Connection,
    questions: u32,
}

impl KeptLogin {
    /// Asks whether the server serves, as [`super::probe`] does. `limit` bounds each phase.
    pub async fn probe(&self, target: &DatabaseTarget, limit: Duration) -> Probe {
        if let Some(mut kept) = self.take(target) {
            match rows(&mut kept.client, DATABASES, limit).await {
                Ok(states) => {
                    self.keep(Kept {
                        questions: kept.questions + 1,
                        ..kept
                    });
                    return judge(&states, &target.database);
                }
                // The server that it was of is gone; another one may serve.
                Err(SqlError::Closed { .. } | SqlError::Broken { .. }) => {}
                Err(error) => return super::judge_error(&error),
            }
        }
        // A session in the application's database would keep others from restoring it.
        if where_to_log_in(target)[0] != super::SYSTEM[0] {
            return super::probe(target, limit).await;
        }
        let asking = async {
            let mut client = login(target, super::SYSTEM[0], limit).await?;
            let states = rows(&mut client, DATABASES, limit).await?;
            Ok((client, states))
        };
        match asking.await {
            Ok((client, states)) => {
                self.keep(Kept {
                    target: target.clone(),
                    client,
                    questions: 1,
                });
                judge(&states, &target.database)
            }
            Err(error) => super::judge_error(&error),
        }
    }

    /// The login, if it is of this target and has not been used for too long.
    fn take(&self, target: &DatabaseTarget) -> Option<Kept> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        kept.filter(|kept| kept.target == *target && kept.questions < QUESTIONS)
    }

    fn keep(&self, kept: Kept) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(kept);
    }
}
