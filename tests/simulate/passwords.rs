//! Another password of `sa`: what the model's server does with the statement, and what must be true
//! of it: somebody always knows the one that it has, and no node runs while it changes.

use octo_local::config::Config;
use octo_local::config::Secret;
use octo_local::daemon::admit::Login;
use octo_local::daemon::message::Event as CoreEvent;
use octo_local::daemon::message::PasswordNotChanged;
use octo_local::daemon::store::PasswordChange;
use octo_local::spec::ContainerSpec;
use octo_local::spec::UnitId;

use super::operator::Env;
use super::sim::Event;
use super::sim::Sim;
use super::world::DATA;
use super::world::Made;

/// The password of a number.
pub(super) fn of(number: u32) -> String {
    format!("Str0ng-enough-{number}")
}

/// The password of `sa` in what a container was given.
pub(super) fn given(wanted: &ContainerSpec) -> String {
    let variable = |name: &str| wanted.env.get(name).map(|value| value.expose().to_owned());
    if wanted.unit == UnitId::Sql {
        return variable("SA_PASSWORD").unwrap_or_default();
    }
    let string = variable("DB_CONNECTION_STRING").unwrap_or_default();
    let mut parts = string.split(';');
    let password = parts.find_map(|part| part.strip_prefix("Password="));
    password.unwrap_or_default().to_owned()
}

impl Sim {
    /// The number of the password that is applied.
    fn applied_password(&self) -> Option<u32> {
        let config = self.kept().config.as_ref()?;
        let password = config.sql.as_ref()?.sa_password.expose();
        password.rsplit('-').next()?.parse().ok()
    }

    /// The command writes what SQL Server has into the file, so that is what an `up` reads.
    pub(super) fn write_password_down(&self, env: &mut Env) {
        env.passwords = self.applied_password().unwrap_or(env.passwords);
    }

    /// A number that the last one did not have.
    pub(super) fn next_password(&self) -> u32 {
        self.applied_password()
            .unwrap_or_default()
            .max(self.env.passwords)
            + 1
    }

    /// What the server that runs says of a configured password.
    pub(super) fn sa_login(&self, config: &Config) -> Login {
        match (self.world.data(), &config.sql) {
            (Some(_), Some(_)) if !self.world.sql_is_up() => Login::Unknown,
            (Some(data), Some(sql)) if data.password == sql.sa_password.expose() => Login::Accepted,
            (Some(_), Some(_)) => Login::Refused,
            (None, _) | (_, None) => Login::Unknown,
        }
    }

    /// The daemon asks SQL Server for it.
    pub(super) fn begin_password_change(&mut self, container: String, change: Box<PasswordChange>) {
        let wait = self.chance.between(20, 1_500);
        let epoch = self.epoch;
        self.later(wait, Event::PasswordAsked(epoch, container, change));
    }

    /// The statement arrives, unless its sender died before.
    pub(super) fn password_asked(&mut self, epoch: u64, id: &str, change: &PasswordChange) {
        // What was sent is carried out, whether anybody hears of it or not.
        if !self.lives(epoch) && self.chance.percent(50) {
            return;
        }
        let result = self.server_takes(id, change);
        self.trace(|| format!("password {:?}: {result:?}", change.to.expose()));
        if result.is_ok() {
            self.forgave();
        }
        let is_lost = self.chaos && self.chance.percent(15);
        let lost = is_lost.then(|| Err(not_yet("the connection broke")));
        let result = lost.unwrap_or(result);
        self.deliver_event(epoch, CoreEvent::PasswordChanged(result));
    }

    fn server_takes(
        &mut self,
        id: &str,
        change: &PasswordChange,
    ) -> Result<(), PasswordNotChanged> {
        let serves = self.world.containers.get(id).is_some_and(Made::serves);
        let refuses = self.chaos && self.chance.percent(10);
        let running = self.world.node_by_us().map(|(id, ..)| id.clone());
        let data = self.world.volumes.get_mut(DATA);
        let data = data.and_then(|volume| volume.data.as_mut());
        let Some(data) = data.filter(|_| serves) else {
            return Err(not_yet("connection refused"));
        };
        let (from, to) = (change.from.expose(), change.to.expose());
        if data.password == to {
            return Ok(());
        }
        if data.password != from {
            let has = data.password.clone();
            self.must(false, || {
                format!("the server has {has}, and the daemon tries {from} and {to}")
            });
            return Err(not_yet("neither"));
        }
        if refuses {
            return Err(PasswordNotChanged {
                why: "error 15118".to_owned(),
                is_final: true,
            });
        }
        to.clone_into(&mut data.password);
        self.must(running.is_none(), || {
            format!("the password changes while {running:?} runs")
        });
        Ok(())
    }

    /// A node was started by the daemon: it can log in, or nobody can yet.
    pub(super) fn judge_password(&mut self, id: &str, unit: UnitId) {
        let Some(data) = self.world.data() else {
            return;
        };
        let has = data.password.clone();
        let given = self.world.containers[id].password.clone();
        self.must(!unit.is_server() || has == given, || {
            format!("{unit} is started with {given}, and SQL Server has {has}")
        });
    }

    /// Somebody knows the password that SQL Server has.
    pub(super) fn check_password(&mut self) {
        let Some(has) = self.world.data() else {
            return;
        };
        let has = has.password.clone();
        let file = &self.disk.file;
        let config = file.config.as_ref().and_then(|config| config.sql.as_ref());
        let config = config.map(|sql| sql.sa_password.expose());
        let mut known = file.sa.all().map(Secret::expose).chain(config);
        let is_known = config.is_none() || known.any(|one| one == has);
        drop(known);
        self.must(is_known, || {
            format!("nobody knows that SQL Server has {has}")
        });
    }
}

fn not_yet(why: &str) -> PasswordNotChanged {
    PasswordNotChanged {
        why: why.to_owned(),
        is_final: false,
    }
}
