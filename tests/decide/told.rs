//! What people are told before something is done.

use octo_local::reconcile::preview;
use octo_local::reconcile::preview::Step;
use octo_local::spec::Digest;

use super::scene::ONE;
use super::scene::Scene;
use super::scene::of;

/// After a fetch that failed what runs is still of the image before, and nobody knows its
/// definition any more.
#[test]
fn where_a_fetch_failed_both_images_are_named() {
    let mut scene = Scene::all_ready();
    scene.change(|seen| {
        let node = of(seen, ONE);
        node.digest = Digest("of before".to_owned());
        node.image = "octopus:0".to_owned();
    });
    let spec = scene.state.desired.spec.as_ref().unwrap();
    let changes = preview::changes(Some(spec), spec, &scene.state.seen, false);
    let told: Vec<_> = changes
        .iter()
        .filter(|change| change.what == Step::Recreate)
        .map(|change| (change.name.as_str(), change.why.join(", ")))
        .collect();
    let expected = (
        "p-octopus-server-1",
        "image octopus:0 -> octopus:1".to_owned(),
    );
    assert_eq!(told, [expected]);
}
