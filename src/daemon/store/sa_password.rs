//! What is kept of the password of `sa`: the one that SQL Server last accepted, and a change of it
//! that is not done. While one goes on SQL Server has one of two passwords, and both are kept.

use serde::Deserialize;
use serde::Serialize;

use super::Stored;
use super::upgrades::Applied;
use crate::config::Config;
use crate::config::Secret;
use crate::spec::build::with_passwords_of;

/// The password of `sa`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SaPassword {
    /// The one that the data knows, since it was last accepted.
    #[serde(rename = "sa_password")]
    pub known: Option<Secret>,
    /// A change that is not done.
    #[serde(rename = "sa_password_change")]
    pub change: Option<PasswordChange>,
    /// Why the last change was given up: the password of before counts on.
    #[serde(rename = "sa_password_kept")]
    pub failure: Option<String>,
}

/// A change of the password of `sa` that is not done.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PasswordChange {
    /// The password of before.
    pub from: Secret,
    /// The new one.
    pub to: Secret,
    /// SQL Server has the new one, and so has what is applied; the file with the variables may have
    /// the one of before. Until then SQL Server has either, and no node runs.
    pub is_made: bool,
}

impl SaPassword {
    /// The change that SQL Server has not confirmed yet.
    pub fn changing(&self) -> Option<&PasswordChange> {
        self.change.as_ref().filter(|change| !change.is_made)
    }

    /// Every password that SQL Server may have, the likeliest first.
    pub fn all(&self) -> impl Iterator<Item = &Secret> {
        let change = self.change.iter();
        let both = change.flat_map(|change| [&change.to, &change.from]);
        both.chain(&self.known)
    }
}

impl Stored {
    /// From now on SQL Server may have this password.
    pub fn begin_password_change(&mut self, to: &Secret) {
        let sql = self.config.as_ref().and_then(|config| config.sql.as_ref());
        let from = sql.map(|sql| sql.sa_password.clone());
        self.sa.failure = None;
        self.sa.change = from.map(|from| PasswordChange {
            from,
            to: to.clone(),
            is_made: false,
        });
    }

    /// SQL Server has the new password: it is applied, also to what a rollback would go back to.
    pub fn password_changed(&mut self) {
        let Some(change) = &mut self.sa.change else {
            return;
        };
        change.is_made = true;
        let PasswordChange { from, to, .. } = change.clone();
        self.sa.known = Some(to.clone());
        if let Some((sa, _)) = self.demo.generated.as_mut().filter(|(sa, _)| *sa == from) {
            *sa = to.clone();
            // A demo's is in no file.
            self.sa.change = None;
        }
        if let (Some(config), Some(spec)) = (&mut self.config, &mut self.spec)
            && let Some(changed) = config.with_sa_password(&to)
        {
            *spec = with_passwords_of(spec, &changed);
            *config = changed;
        }
        let upgrades = &mut self.backups.upgrades;
        let under_way = upgrades.upgrading.iter_mut();
        let before = under_way
            .map(|one| &mut one.upgrade)
            .chain(&mut upgrades.last);
        before.for_each(|upgrade| take_password(&mut upgrade.before, &to));
    }

    /// A configuration that was admitted while the password changed may have the one of before: it
    /// gets the new one, since SQL Server has no other.
    pub fn keep_changed_password(&mut self) {
        let change = self.sa.change.clone().filter(|change| change.is_made);
        let Some(PasswordChange { from, to, .. }) = change else {
            return;
        };
        let has_old = |config: &Config| {
            let sql = config.sql.as_ref();
            sql.is_some_and(|sql| sql.sa_password == from)
        };
        if let (Some(config), Some(spec)) = (&mut self.config, &mut self.spec)
            && has_old(config)
            && let Some(changed) = config.with_sa_password(&to)
        {
            *spec = with_passwords_of(spec, &changed);
            *config = changed;
        }
        let upgrading = self.backups.upgrades.upgrading.as_mut();
        let next = upgrading.and_then(|one| one.next.as_mut());
        if let Some(next) = next.filter(|next| has_old(&next.config)) {
            take_password(next, &to);
        }
    }

    /// The file with the variables says the new password.
    pub fn password_written(&mut self) {
        self.sa.change.take_if(|change| change.is_made);
    }

    /// The same where a configuration that is applied says it.
    pub fn settle_password(&mut self, config: &Config) {
        let now = config.sql.as_ref().map(|sql| &sql.sa_password);
        let change = &mut self.sa.change;
        change.take_if(|change| change.is_made && now == Some(&change.to));
    }

    /// SQL Server does not take the new password, and has the one of before.
    pub fn give_up_password_change(&mut self, why: &str) {
        self.sa.change = None;
        self.sa.failure = Some(why.to_owned());
    }
}

fn take_password(applied: &mut Applied, to: &Secret) {
    if let Some(changed) = applied.config.with_sa_password(to) {
        applied.spec = with_passwords_of(&applied.spec, &changed);
        applied.config = changed;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Input;
    use crate::config::project::ProjectName;
    use crate::config::read::read;
    use crate::daemon::store::Upgrade;
    use crate::spec::StackSpec;
    use crate::spec::build::BuildInput;
    use crate::spec::build::build;

    fn applied(sa: &str, more: &[(&str, &str)]) -> (Config, StackSpec) {
        let vars = [
            ("SA_PASSWORD", sa),
            ("ADMIN_PASSWORD", "Adm1n-enough"),
            ("ACCEPT_EULA", "Y"),
            ("ACCEPT_OCTOPUS_EULA", "Y"),
            ("OCTOPUS_NODES", "2"),
        ];
        let vars = vars.iter().chain(more);
        let vars = vars.map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let input = Input {
            vars: vars.collect(),
            ..Input::default()
        };
        let config = read(&input).unwrap().config;
        let spec = build(
            &config,
            &BuildInput {
                project: &ProjectName::given("p").unwrap(),
                working_dir: "/",
                master_key: &Secret::new("key"),
                may_be_privileged: true,
            },
        );
        (config, spec)
    }

    fn stored(more: &[(&str, &str)]) -> Stored {
        let (config, spec) = applied("Str0ng-old", more);
        let before = Applied {
            config: config.clone(),
            spec: spec.clone(),
            ..Applied::default()
        };
        let mut stored = Stored {
            config: Some(config),
            spec: Some(spec),
            ..Stored::default()
        };
        stored.backups.upgrades.last = Some(Upgrade {
            before: Box::new(before),
            ..Upgrade::default()
        });
        stored
    }

    #[test]
    fn what_is_applied_is_what_a_file_with_the_new_password_would_give() {
        let own = "Server=db;Database=O;User Id=SA;Password=";
        let other = "Server=db;Database=O;User Id=app;Password=x";
        let with = |password: &str| format!("{own}'{password}'");
        let (old, new) = (with("Str0ng-old"), with("Str0ng;new"));
        for (before, after) in [("", ""), (&old, &new), (other, other)] {
            let of = |string| [("DB_CONNECTION_STRING", string)];
            let mut kept = stored(&of(before)[..usize::from(!before.is_empty())]);
            let to = Secret::new("Str0ng;new");
            kept.begin_password_change(&to);
            assert_eq!(kept.sa.changing().unwrap().from.expose(), "Str0ng-old");
            kept.password_changed();
            let (config, spec) =
                applied("Str0ng;new", &of(after)[..usize::from(!after.is_empty())]);
            assert_eq!(kept.config.as_ref(), Some(&config));
            assert_eq!(kept.spec.as_ref(), Some(&spec));
            let last = kept.backups.upgrades.last.as_ref().unwrap();
            assert_eq!((&last.before.config, &last.before.spec), (&config, &spec));
            assert_eq!(
                (kept.sa.known.as_ref(), kept.sa.changing()),
                (Some(&to), None)
            );
            assert!(kept.sa.change.is_some(), "the file may not say it yet");
            kept.settle_password(&config);
            assert_eq!(kept.sa.change, None);
        }
    }

    #[test]
    fn until_it_is_confirmed_both_passwords_are_kept_and_afterwards_too() {
        let mut kept = stored(&[]);
        kept.sa.known = Some(Secret::new("Str0ng-old"));
        kept.begin_password_change(&Secret::new("Str0ng-new"));
        kept.password_written();
        let all = |kept: &Stored| {
            kept.sa
                .all()
                .map(|one| one.expose().to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(all(&kept)[..2], ["Str0ng-new", "Str0ng-old"]);
        let (other, _) = applied("Str0ng-new", &[]);
        kept.settle_password(&other);
        assert!(
            kept.sa.changing().is_some(),
            "SQL Server did not confirm it"
        );
        let mut given_up = kept.clone();
        given_up.give_up_password_change("no");
        assert_eq!(all(&given_up), ["Str0ng-old"]);
        kept.password_changed();
        assert_eq!(all(&kept)[..2], ["Str0ng-new", "Str0ng-old"]);
        kept.password_written();
        assert_eq!(all(&kept), ["Str0ng-new"]);
    }

    #[test]
    fn a_demos_password_is_in_no_file() {
        let mut kept = stored(&[]);
        kept.demo.generated = Some((Secret::new("Str0ng-old"), Secret::new("x")));
        kept.begin_password_change(&Secret::new("Str0ng-new"));
        kept.password_changed();
        assert_eq!(
            kept.demo.generated.as_ref().unwrap().0.expose(),
            "Str0ng-new"
        );
        assert_eq!(kept.sa.change, None);
    }
}
