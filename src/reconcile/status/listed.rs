//! Nodes that left and are still on Octopus Server's list, as far as people must see to that.

use super::note::Note;
use crate::reconcile::Desired;
use crate::reconcile::Observed;
use crate::reconcile::UnitRecords;
use crate::reconcile::roster::is_complete;

/// Those who left and whom only a person can take off the list.
pub(super) fn notes(desired: &Desired, seen: &Observed, records: &UnitRecords) -> Vec<Note> {
    let Some(spec) = desired.spec.as_ref().filter(|spec| is_complete(spec, seen)) else {
        return Vec::new();
    };
    let why = |name: &String| match (spec.api_key(), records.unlisted.get(name)) {
        (None, _) => Some("there is no ADMIN_API_KEY to do it with".to_owned()),
        (Some(_), Some(refusal)) if refusal.retry_at.is_none() => Some(refusal.why.clone()),
        (Some(_), _) => None,
    };
    let note = |name: &String| {
        Some(Note::StillListed {
            node: name.clone(),
            why: why(name)?,
        })
    };
    records.durable.who_left(spec).filter_map(note).collect()
}
