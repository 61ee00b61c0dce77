//! Reads where a person wants data to be.

use std::collections::BTreeMap;

use super::Reader;
use crate::config::storage::KINDS;
use crate::config::storage::Place;
use crate::config::storage::Places;

impl Reader<'_> {
    pub(super) fn storage(&mut self, has_sql: bool) -> Places {
        let mut places = Places::new();
        let mut first_at = BTreeMap::new();
        // A demo's stand-ins open volumes of their own, and nobody's data.
        let kinds = KINDS.iter().filter(|_| self.input.demo.is_none());
        for kind in kinds {
            let Some(text) = self.given(kind.variable).map(str::to_owned) else {
                continue;
            };
            if kind.of_sql && !has_sql {
                self.problem(
                    kind.variable,
                    "the database is somebody else's (SQL_IMAGE is empty), so nothing would be in it",
                    "leave it out",
                );
                continue;
            }
            match Place::parse(&text) {
                Ok(place) => {
                    if let Some(other) = first_at.insert(place.clone(), kind.variable) {
                        self.problem(
                            kind.variable,
                            format!("it is the same place as {other}"),
                            "choose one place for each",
                        );
                    }
                    places.insert(kind.key.to_owned(), place);
                }
                Err((why, fix)) => self.problem(kind.variable, why, fix),
            }
        }
        places
    }
}

#[cfg(test)]
mod tests {
    use super::super::read;
    use super::super::tests::keys_of;
    use super::super::tests::with;
    use crate::config::storage::Place;

    #[test]
    fn places_are_taken_as_given_and_what_is_wrong_is_named() {
        let good = [("SQL_DATA", "/srv/sql"), ("IMPORT", "stuff")];
        let config = read(&with(&good)).unwrap().config;
        assert_eq!(
            config.storage["sql-data"],
            Place::Directory("/srv/sql".to_owned())
        );
        assert_eq!(config.storage["import"], Place::Volume("stuff".to_owned()));
        assert_eq!(config.storage.len(), 2);
        for (more, named) in [
            (&[("ARTIFACTS", "a/b")][..], vec!["ARTIFACTS"]),
            (
                &[("ARTIFACTS", "/a"), ("REPOSITORY", "/a")],
                vec!["ARTIFACTS"],
            ),
            (&[("TASK_LOGS", "")], vec![]),
        ] {
            assert_eq!(keys_of(read(&with(more))), named, "{more:?}");
        }
    }

    #[test]
    fn a_place_for_a_database_of_somebody_else_is_refused() {
        let external = [
            ("SQL_IMAGE", ""),
            (
                "DB_CONNECTION_STRING",
                "Server=sql.example.com;Database=Octopus;User Id=octo;Password=Str0ng-enough",
            ),
            ("SQL_DATA", "/srv/sql"),
        ];
        assert_eq!(keys_of(read(&with(&external))), ["SQL_DATA"]);
    }
}
