//! What older forms of the state file say in other words. Form 1 kept one key, nothing of whether
//! it was the right one, and a tag in place of a version.

use serde::Deserialize;

use super::Data;
use super::Key;
use super::Ran;
use super::Stored;
use crate::config::Secret;
use crate::spec::StackSpec;

/// What form 1 has and the present one has not.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Form1 {
    master_key: Option<Secret>,
    master_key_is_ours: bool,
    ran_tag: Option<String>,
}

impl Form1 {
    /// Says it in today's words.
    pub(super) fn translate(self, stored: &mut Stored) {
        let spec = stored.spec.as_ref();
        let data = spec.map(Data::of);
        // A key that was made here cannot be a wrong one. A given one counts once a node is seen to
        // be up with it, which a node that runs shows at once.
        let key_of = |key: Secret, generated: bool| Key {
            key,
            generated,
            data: data.clone(),
            proven: generated && self.ran_tag.is_some() && data.is_some(),
            gone: false,
        };
        // Nodes may run with another key than the one that was kept.
        let in_use = spec.and_then(key_of_nodes).cloned();
        match (self.master_key, in_use) {
            (Some(kept), Some(used)) if kept != used => {
                let unproven = Key {
                    proven: false,
                    ..key_of(kept, self.master_key_is_ours)
                };
                stored.keys.replaced.push(unproven);
                stored.keys.current = Some(key_of(used, false));
            }
            (Some(kept), _) => stored.keys.current = Some(key_of(kept, self.master_key_is_ours)),
            (None, Some(used)) => stored.keys.current = Some(key_of(used, false)),
            (None, None) => {}
        }
        if let Some(tag) = self.ran_tag {
            let octopus = stored.config.as_ref().map(|config| &config.octopus);
            let image = octopus.map_or("", |octopus| octopus.image.as_str());
            stored.ran.push(Ran {
                image: format!("{image}:{tag}"),
                data,
                ..Ran::default()
            });
        }
    }
}

/// The key in the environment of the nodes that a desired state has.
pub(super) fn key_of_nodes(spec: &StackSpec) -> Option<&Secret> {
    let key = spec.nodes.first()?.env.get("MASTER_KEY")?;
    (!key.is_empty()).then_some(key)
}
