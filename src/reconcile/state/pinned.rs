//! Which image each reference stands for: the one that it stood for at the last `up`.

use std::collections::BTreeMap;

use super::State;
use crate::reconcile::images;
use crate::reconcile::observed::Run;

impl State {
    /// References stand for the images that they stood for when they were first seen after an `up`.
    /// One that the engine has no more stands for what runs of it, so that another that is fetched
    /// later changes nothing unasked.
    pub(super) fn pin_images(&mut self) {
        let Some(spec) = &self.desired.spec else {
            return;
        };
        let wanted = spec.images();
        self.desired
            .images
            .retain(|image, _| wanted.contains(&image.as_str()));
        for image in wanted
            .into_iter()
            .filter(|image| !self.desired.refresh.contains(*image))
        {
            let id = || {
                self.seen
                    .images
                    .get(image)
                    .cloned()
                    .or_else(|| images::running(spec, &self.seen, image))
            };
            if !self.desired.images.contains_key(image)
                && let Some(id) = id()
            {
                self.desired.images.insert(image.to_owned(), id);
            }
        }
    }

    /// A new container that is of another image than the pinned one proves that its reference
    /// moved, although the look that said otherwise is not old: its like would be made and removed
    /// again and again.
    pub(super) fn learn_of_moved_images(&mut self) {
        let pinned = &self.desired.images;
        self.moved.retain(|image, id| pinned.get(image) == Some(id));
        let fresh = self
            .seen
            .containers
            .iter()
            .filter(|one| one.run == Run::Created && !one.image_id.is_empty());
        for container in fresh {
            if let Some(id) = pinned
                .get(&container.image)
                .filter(|id| **id != container.image_id)
            {
                self.moved.insert(container.image.clone(), id.clone());
            }
        }
    }

    /// References that stand for another image now than at the last `up`, with the image that they
    /// stood for.
    pub fn moved_images(&self) -> BTreeMap<String, String> {
        let moved = |(image, id): &(&String, &String)| {
            self.seen.images.get(*image) != Some(*id) || self.moved.get(*image) == Some(*id)
        };
        let pinned = self.desired.images.iter().filter(moved);
        pinned
            .map(|(image, id)| (image.clone(), id.clone()))
            .collect()
    }
}
