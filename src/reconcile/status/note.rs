//! Things that people should know of a stack and cannot see elsewhere: typed, so that nobody
//! decides by the text that is shown.

use serde::Deserialize;
use serde::Deserializer;
use serde::Serialize;
use serde::Serializer;

/// One thing to know. For machines it is an object with its `kind`, what it is about, and the
/// `text` that people read, which stands beside each kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(remote = "Self", tag = "kind", rename_all = "kebab-case")]
pub enum Note {
    /// The state file cannot be written: what is wished now may be forgotten.
    #[error("the state file cannot be written: {why}")]
    StateUnwritable {
        /// The disk's words.
        why: String,
    },
    /// The state file was damaged and set aside.
    #[error(
        "the state file was damaged and set aside as {aside}; {}",
        if *.copied {
            "nothing is lost: its copy counts"
        } else {
            "`octo-local up` applies the configuration anew"
        }
    )]
    StateDamaged {
        /// The name that it has now.
        aside: String,
        /// Whether its copy was whole and counts instead.
        copied: bool,
    },
    /// Neither the state file nor its copy can be read: nothing is written over what they hold.
    #[error(
        "the state file cannot be read, nor its copy, so nothing is written over what they hold: {why}; make it readable, or bring it back from a backup, and start the daemon anew"
    )]
    StateUnreadable {
        /// The disk's words.
        why: String,
    },
    /// The state file was written by a newer octo-local: it is obeyed and not written.
    #[error(
        "the state file has form {form}, of a newer octo-local: nothing is written; use that version"
    )]
    StateNewer {
        /// The file's form.
        form: u32,
    },
    /// A `down` was begun, is not finished, and nobody goes on with it.
    #[error("a `down` was begun and is not finished: `octo-local down` ends it")]
    Unfinished,
    /// The volume with the project's database is gone: nothing is started in its place.
    #[error(
        "the volume {volume} with this project's database is gone, so nothing is started: bring the volume back (is the engine's data directory mounted?), or `octo-local up --fresh` if a new, empty database is meant"
    )]
    DataGone {
        /// Its name.
        volume: String,
    },
    /// Another octo-local looks after this project on this engine: nothing is done from here.
    #[error(
        "another octo-local looks after this project on this engine, so nothing is done from here: {by}"
    )]
    LookedAfter {
        /// Who.
        by: String,
    },
    /// Nothing is known of this project here, and the engine has what looks like its own.
    #[error(
        "the engine has what looks like this project's and is not octo-local's to look after: {what}"
    )]
    Beside {
        /// What.
        what: String,
    },
    /// A `down` leaves this where it is, because somebody else uses it.
    #[error("{what} is left where it is: {why}")]
    LeftToOthers {
        /// What.
        what: String,
        /// Who uses it, as far as the engine tells.
        why: String,
    },
    /// Something carries this project's label and is not ours: nothing is done to it.
    #[error("{what}: labelled as this project's, under a name that is not; it is left alone")]
    NotOurs {
        /// What.
        what: String,
    },
    /// What runs was made from another configuration than the one that was read.
    #[error(
        "what runs was made from another configuration: it is left as it is until `octo-local up`"
    )]
    MadeOtherwise,
    /// What is kept is about another engine than the one at hand.
    #[error(
        "what is kept of this project is about the Docker Engine at {there}, and this is the one at {here}"
    )]
    Elsewhere {
        /// The engine that is meant.
        there: String,
        /// The engine at hand.
        here: String,
    },
    /// A restore goes on, or was broken off: no node runs before it is finished.
    #[error(
        "a restore of backup {set} is not finished, and no node is started before: if none goes on, `octo-local backup restore {set} --force` again{}",
        if *.kept {
            ", or `octo-local backup restore --back` to what was there before"
        } else {
            ""
        }
    )]
    RestoreUnfinished {
        /// The name of the set.
        set: String,
        /// What it replaces is kept.
        kept: bool,
    },
    /// What a restore replaced is kept until the stack is ready.
    #[error(
        "what the restore of backup {set} replaced is kept until the stack is ready: `octo-local backup restore --back` brings it back"
    )]
    ReplacedKept {
        /// The name of the set.
        set: String,
    },
    /// A rollback goes on, or was broken off: no node runs before it is finished.
    #[error(
        "a rollback with backup {set} is not finished, and no node is started before: `octo-local rollback` goes on with it"
    )]
    RollbackUnfinished {
        /// The name of the set that is brought back.
        set: String,
    },
    /// A rollback failed halfway.
    #[error("the rollback failed halfway: {why}; mend that, then `octo-local rollback` again")]
    RollbackFailed {
        /// Why.
        why: String,
    },
    /// What was upgraded to does not come up.
    #[error(
        "{to} does not come up: `octo-local rollback` goes back to {from} with the data of before; or mend what the unit names, then the same `octo-local upgrade`, or `octo-local up` where the variables say the new version"
    )]
    UpgradeFailed {
        /// The image of before.
        from: String,
        /// The one that does not come up.
        to: String,
    },
    /// An upgrade or a rollback was not begun, and everything runs on as it was.
    #[error("the version was not changed, and what was applied goes on: {why}")]
    VersionKept {
        /// Why.
        why: String,
    },
    /// The password of `sa` changes, and no node runs meanwhile.
    #[error(
        "the password of sa is being changed, and no node runs meanwhile{}",
        .why.as_ref().map(|why| format!(": {why}")).unwrap_or_default()
    )]
    PasswordChanging {
        /// Why it takes so long, if that is known.
        why: Option<String>,
    },
    /// SQL Server has a new password of `sa`, and the variables may say the one of before.
    #[error(
        "sa has a new password, which is not written where the variables are: `octo-local sa-password rotate` writes it"
    )]
    PasswordUnwritten,
    /// The password of `sa` was to be changed and is not.
    #[error("the password of sa was not changed, and the one of before counts: {why}")]
    PasswordKept {
        /// Why.
        why: String,
    },
    /// The last scheduled backup failed.
    #[error("the last scheduled backup failed: {why}; `octo-local backup` makes one now")]
    BackupFailed {
        /// Why.
        why: String,
    },
    /// The host refuses privileged containers, and this demo goes on without.
    #[error(
        "this host cannot run privileged containers: the demo goes on without (it needs no Docker-in-Docker)"
    )]
    Unprivileged,
    /// A reference to an image stands for another image than at the last `up`.
    #[error("{image} stands for another image now than at the last `up`; the next one uses it")]
    ImageMoved {
        /// The reference.
        image: String,
    },
    /// A node that is no more is still on Octopus Server's list, as far as is known.
    #[error(
        "node {node} is still listed by Octopus Server and counts for its licence ({why}): delete it under Configuration > Nodes"
    )]
    StillListed {
        /// Its name there.
        node: String,
        /// Why it is left to a person.
        why: String,
    },
    /// A note of another version of octo-local, of which only the text is understood.
    #[serde(skip)]
    #[error("{0}")]
    Other(String),
}

/// The form on the wire: the note itself, and its text.
#[derive(Serialize)]
struct Told<'a> {
    #[serde(flatten, with = "Note")]
    note: &'a Note,
    text: String,
}

impl Serialize for Note {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        if let Self::Other(text) = self {
            return serde_json::json!({ "kind": "other", "text": text }).serialize(to);
        }
        Told {
            note: self,
            text: self.to_string(),
        }
        .serialize(to)
    }
}

impl<'de> Deserialize<'de> for Note {
    /// Takes what another version says for its text: a note that is not understood stops nobody.
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(from)?;
        let text = value.get("text").unwrap_or(&value);
        let text = text
            .as_str()
            .map_or_else(|| text.to_string(), str::to_owned);
        Ok(Self::deserialize(&value).unwrap_or(Self::Other(text)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_an_object_that_comes_back() {
        for note in [
            Note::Unfinished,
            Note::StateUnwritable { why: "full".into() },
            Note::StateNewer { form: 9 },
            Note::StateUnreadable { why: "io".into() },
            Note::DataGone { volume: "v".into() },
            Note::LookedAfter { by: "x".into() },
            Note::Beside { what: "x".into() },
            Note::RestoreUnfinished {
                set: "x".into(),
                kept: true,
            },
            Note::ReplacedKept { set: "x".into() },
            Note::BackupFailed { why: "x".into() },
            Note::RollbackUnfinished { set: "x".into() },
            Note::RollbackFailed { why: "x".into() },
            Note::UpgradeFailed {
                from: "a".into(),
                to: "b".into(),
            },
            Note::VersionKept { why: "x".into() },
            Note::PasswordChanging { why: None },
            Note::PasswordUnwritten,
            Note::PasswordKept { why: "x".into() },
            Note::LeftToOthers {
                what: "network".into(),
                why: "x".into(),
            },
            Note::NotOurs {
                what: "volume v".into(),
            },
            Note::StillListed {
                node: "octopus-2".into(),
                why: "x".into(),
            },
            Note::Other("something new".into()),
        ] {
            let wire = serde_json::to_value(&note).unwrap();
            assert_eq!(wire["text"], note.to_string());
            assert!(wire["kind"].is_string(), "{wire}");
            assert_eq!(serde_json::from_value::<Note>(wire).unwrap(), note);
        }
    }

    #[test]
    fn what_another_version_says_is_shown_as_it_is() {
        for (wire, text) in [
            (serde_json::json!("plain text"), "plain text"),
            (
                serde_json::json!({"kind": "of-tomorrow", "n": 1, "text": "told"}),
                "told",
            ),
        ] {
            let note: Note = serde_json::from_value(wire).unwrap();
            assert_eq!(note, Note::Other(text.to_owned()));
        }
    }
}
