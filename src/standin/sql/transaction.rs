//! BEGIN, COMMIT and ROLLBACK of a connection.

use super::engine::Engine;
use super::error::SqlError;
use super::tokens::Reply;

impl Engine {
    pub(super) fn begin(&mut self, reply: &mut Reply) {
        self.transactions += 1;
        if self.transactions == 1 {
            reply.transaction(8, u64::from(self.spid));
        }
    }

    pub(super) fn commit(&mut self, reply: &mut Reply) -> Result<(), SqlError> {
        match self.transactions {
            0 => {
                return Err(SqlError::new(
                    3902,
                    16,
                    "The COMMIT TRANSACTION request has no corresponding BEGIN TRANSACTION.",
                ));
            }
            1 => {
                if self.begun {
                    self.patiently(|engine| engine.connection.execute_batch("COMMIT"))?;
                }
                self.finish_transaction(9, reply);
            }
            _ => self.transactions -= 1,
        }
        Ok(())
    }

    pub(super) fn rollback(&mut self, reply: &mut Reply) -> Result<(), SqlError> {
        if self.transactions == 0 {
            return Err(SqlError::new(
                3903,
                16,
                "The ROLLBACK TRANSACTION request has no corresponding BEGIN TRANSACTION.",
            ));
        }
        if self.begun {
            self.patiently(|engine| engine.connection.execute_batch("ROLLBACK"))?;
        }
        self.finish_transaction(10, reply);
        Ok(())
    }

    pub(super) fn finish_transaction(&mut self, what: u8, reply: &mut Reply) {
        self.transactions = 0;
        self.begun = false;
        self.server.locks.release_all(self.spid, false);
        reply.transaction(what, u64::from(self.spid));
    }
}
