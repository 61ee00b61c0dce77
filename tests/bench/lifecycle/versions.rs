//! Versions of Octopus Server without an end: each upgrade needs a newer one than the last.

use crate::kit::images::Images;
use crate::kit::images::ScratchImage;
use crate::kit::images::TAGS;
use crate::kit::stack::Stack;

/// Tags of the stand-in's image, from the lowest up, as long as this lives.
pub(crate) struct Versions {
    next: u32,
    images: Vec<ScratchImage>,
}

impl Versions {
    /// Has the stack begin with the lowest.
    pub(crate) fn of(stack: &Stack) -> Self {
        stack.set("OCTOPUS_SERVER_TAG", TAGS[0]);
        stack.set("STANDIN_OCTOPUS_VERSION", TAGS[0]);
        Self {
            next: 1,
            images: Vec::new(),
        }
    }

    /// Makes the next one, which the stand-in claims to be from its next container on. Its tag.
    pub(crate) fn next(&mut self, stack: &Stack) -> String {
        let tag = format!("2026.3.{}", self.next);
        self.next += 1;
        let repository = Images::octopus();
        let image = ScratchImage::tagged(
            &format!("{repository}:{}", TAGS[0]),
            &format!("{repository}:{tag}"),
        );
        self.images.push(image);
        stack.set("STANDIN_OCTOPUS_VERSION", &tag);
        tag
    }
}

/// Upgrades a stack, and has its `.env` go on saying what the product wrote into it.
pub(crate) fn upgrade(stack: &Stack, tag: &str) {
    stack.run(&["upgrade", tag, "--yes"]).ok();
    stack.set("OCTOPUS_SERVER_TAG", tag);
}
