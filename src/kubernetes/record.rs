//! What is kept of an upgrade in the cluster: an annotation of the nodes' StatefulSet.

use serde::Deserialize;
use serde::Serialize;

/// The form of what is kept, which later programs read too.
pub const FORM: u32 = 1;
/// The annotation.
pub const ANNOTATION: &str = "octo-local/upgrade";

/// An upgrade that is under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// [`FORM`].
    pub form: u32,
    /// The image that ran.
    pub from: String,
    /// The image that is to run.
    pub to: String,
    /// How many nodes ran, and are to run.
    pub nodes: u32,
    /// The database that is backed up first; none where nobody does: then there is no way back.
    pub database: Option<String>,
    /// How far it is.
    pub stage: Stage,
}

/// How far an upgrade is. Each is written when what it says has happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "camelCase", tag = "is")]
pub enum Stage {
    /// The nodes of the old version end.
    Ending,
    /// No node runs, and the database was backed up.
    BackedUp {
        /// The file, as SQL Server sees it.
        file: String,
        /// The StatefulSet's generation then: a node that ran since would have made it another.
        generation: i64,
    },
    /// The new image is in the StatefulSet. From here on the database may be the new version's.
    Changed {
        /// The backup.
        file: Option<String>,
    },
    /// The new version did not come up: its nodes end, and the database is brought back.
    GoingBack {
        /// The backup.
        file: String,
        /// Why.
        why: String,
    },
    /// The database is as it was, and the old image is in the StatefulSet again.
    WentBack {
        /// Why.
        why: String,
    },
    /// There was no backup, nothing was changed, and the old nodes come back.
    GaveUp {
        /// Why.
        why: String,
    },
}

impl Record {
    /// The record at another stage.
    #[must_use]
    pub fn at(&self, stage: Stage) -> Self {
        Self {
            stage,
            ..self.clone()
        }
    }

    /// Reads the annotation.
    pub fn parse(text: &str) -> Result<Self, BadRecord> {
        let record: Self = serde_json::from_str(text).map_err(BadRecord::Unreadable)?;
        if record.form > FORM {
            return Err(BadRecord::Newer(record.form));
        }
        Ok(record)
    }

    /// The annotation's text.
    pub fn to_text(&self) -> String {
        serde_json::to_string(self).expect("a record has only texts for keys, so it serialises")
    }
}

/// Why the annotation says nothing.
#[derive(Debug, thiserror::Error)]
pub enum BadRecord {
    /// It is no record.
    #[error("the annotation {ANNOTATION} cannot be read: {0}")]
    Unreadable(#[source] serde_json::Error),
    /// A later octo-local wrote it.
    #[error("the annotation {ANNOTATION} is of a newer octo-local (form {0}): use that one")]
    Newer(u32),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stage_comes_back_as_it_was_and_a_newer_form_is_refused() {
        let (file, why) = ("/b/x.bak".to_owned(), "it \"fails\"".to_owned());
        let stages = [
            Stage::Ending,
            Stage::BackedUp {
                file: file.clone(),
                generation: 7,
            },
            Stage::Changed { file: None },
            Stage::GoingBack {
                file,
                why: why.clone(),
            },
            Stage::WentBack { why: why.clone() },
            Stage::GaveUp { why },
        ];
        let first = Record {
            form: FORM,
            from: "o:1".to_owned(),
            to: "o:2".to_owned(),
            nodes: 2,
            database: Some("Octopus".to_owned()),
            stage: Stage::Ending,
        };
        for stage in stages {
            let record = first.at(stage);
            assert_eq!(Record::parse(&record.to_text()).unwrap(), record);
        }
        // What is in clusters today stays readable.
        let kept = r#"{"form":1,"from":"o:1","to":"o:2","nodes":2,"database":null,"stage":{"is":"backed-up","file":"/b","generation":3}}"#;
        let generation = match Record::parse(kept).unwrap().stage {
            Stage::BackedUp { generation, .. } => generation,
            other => panic!("{other:?}"),
        };
        assert_eq!(generation, 3);
        let newer = first.to_text().replace("\"form\":1", "\"form\":2");
        assert!(matches!(Record::parse(&newer), Err(BadRecord::Newer(2))));
        assert!(matches!(Record::parse("{"), Err(BadRecord::Unreadable(_))));
    }
}
