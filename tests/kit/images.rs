//! The stand-ins' images for the time of a test. They are made once for all tests that run at the
//! same time, and removed by the last one.

use std::sync::Mutex;
use std::sync::OnceLock;

use bollard::models::ContainerCreateBody;
use bollard::query_parameters as query;
use octo_local::standin::image;
use octo_local::standin::image::Kind;

use super::docker::Witness;
use super::process::PROGRAM;

/// How many tests use the images now.
static USERS: Mutex<u32> = Mutex::new(0);
/// The archive of both images: making it takes longer than loading it.
static ARCHIVE: OnceLock<Vec<u8>> = OnceLock::new();

/// Octopus tags that real configurations in tests name, lowest first.
pub(crate) const TAGS: [&str; 3] = ["2026.1.100", "2026.2.7", "2026.3.12"];

/// The right to use the images. The last one to go removes them.
pub(crate) struct Images(());

impl Images {
    /// Makes the images, unless they are there.
    pub(crate) fn acquire(witness: &Witness) -> Self {
        let mut users = USERS
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        *users += 1;
        let images = Self(());
        if *users == 1 {
            make(witness);
        }
        images
    }

    /// Makes the images in an engine that ends with its test, and they with it.
    pub(crate) fn load_into(witness: &Witness) {
        load_and_tag(witness);
    }

    /// The SQL stand-in's image for a real configuration.
    pub(crate) fn sql() -> String {
        format!("octo-local-test-{}-sql:1", std::process::id())
    }

    /// The Tentacle stand-in's image for a real configuration.
    pub(crate) fn tentacle() -> String {
        format!("octo-local-test-{}-tentacle:1", std::process::id())
    }

    /// The Octopus stand-in's image for a real configuration, without its tag.
    pub(crate) fn octopus() -> String {
        format!("octo-local-test-{}-octopus", std::process::id())
    }
}

/// An image reference of one test. Dropping it takes it away.
pub(crate) struct ScratchImage {
    name: String,
    witness: Witness,
}

impl ScratchImage {
    /// Another reference to an image.
    pub(crate) fn tagged(image: &str, name: &str) -> Self {
        let scratch = Self {
            name: name.to_owned(),
            witness: Witness::new(),
        };
        tag(&scratch.witness, image, name);
        scratch
    }

    /// An image like the stand-ins', with this in the place of their program.
    pub(crate) fn of_program(program: &[u8]) -> Self {
        let name = |what: &str| format!("octo-local-test-{}-{what}:1", std::process::id());
        let scratch = Self {
            name: name("scratch"),
            witness: Witness::new(),
        };
        let archive = image::archive(program, &scratch.name, &name("scratch-octopus")).unwrap();
        load(&scratch.witness, archive);
        let _ = scratch.witness.wait(scratch.witness.docker().remove_image(
            &name("scratch-octopus"),
            None::<query::RemoveImageOptions>,
            None,
        ));
        scratch
    }

    /// The reference.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for ScratchImage {
    fn drop(&mut self) {
        // The test's containers may still be there: they are removed after this.
        let options = query::RemoveImageOptionsBuilder::default()
            .force(true)
            .build();
        let _ = self.witness.wait(self.witness.docker().remove_image(
            &self.name,
            Some(options),
            None,
        ));
    }
}

impl Drop for Images {
    fn drop(&mut self) {
        let mut users = USERS
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        *users -= 1;
        if *users == 0 {
            remove(&Witness::new());
        }
    }
}

/// The tag that `up --demo` gives to the images of this very program.
fn demo_tag() -> String {
    let written = std::fs::metadata(PROGRAM).unwrap().modified().unwrap();
    let built = written
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    format!("{}-{built}", env!("CARGO_PKG_VERSION"))
}

fn demo_images() -> [String; 2] {
    [
        format!("octo-local-standin-sql:{}", demo_tag()),
        format!("octo-local-standin-octopus:{}", demo_tag()),
    ]
}

fn pin(number: usize) -> String {
    format!("octo-local-test-{}-pin-{number}", std::process::id())
}

/// One image for each reference that tests name.
fn load_and_tag(witness: &Witness) {
    let archive = ARCHIVE.get_or_init(|| {
        let [sql, octopus] = demo_images();
        let own_sql = Images::sql();
        let tagged = TAGS.map(|tag| format!("{}:{tag}", Images::octopus()));
        let mut nodes = vec![octopus.as_str()];
        nodes.extend(tagged.iter().map(String::as_str));
        let tentacle = Images::tentacle();
        let nodes = nodes.into_iter().map(|node| (Kind::Octopus, node));
        let others = [
            (Kind::Sql, sql.as_str()),
            (Kind::Sql, &own_sql),
            (Kind::Tentacle, &tentacle),
        ];
        let all: Vec<(Kind, &str)> = others.into_iter().chain(nodes).collect();
        let program = std::fs::read(PROGRAM).unwrap();
        image::archive_of_kinds(&program, &all).unwrap()
    });
    load(witness, archive.clone());
}

fn make(witness: &Witness) {
    load_and_tag(witness);
    // While a container exists, no `down --volumes` of one test takes the images away from another.
    for (number, image) in demo_images().into_iter().enumerate() {
        let options = query::CreateContainerOptionsBuilder::default()
            .name(&pin(number))
            .build();
        let body = ContainerCreateBody {
            image: Some(image),
            ..ContainerCreateBody::default()
        };
        witness
            .wait(witness.docker().create_container(Some(options), body))
            .unwrap();
    }
}

fn load(witness: &Witness, archive: Vec<u8>) {
    use futures_util::TryStreamExt as _;
    let options = query::ImportImageOptionsBuilder::default()
        .quiet(true)
        .build();
    let body = bollard::body_full(archive.into());
    witness
        .wait(
            witness
                .docker()
                .import_image(options, body, None)
                .try_collect::<Vec<_>>(),
        )
        .unwrap();
}

fn tag(witness: &Witness, image: &str, reference: &str) {
    let (repo, tag) = reference.split_once(':').unwrap();
    let options = query::TagImageOptionsBuilder::default()
        .repo(repo)
        .tag(tag)
        .build();
    witness
        .wait(witness.docker().tag_image(image, Some(options)))
        .unwrap();
}

fn remove(witness: &Witness) {
    (0..2).for_each(|number| witness.remove(&pin(number)));
    let tags = TAGS.map(|tag| format!("{}:{tag}", Images::octopus()));
    // The daemon of a demo makes this one when it needs it.
    let of_demo = format!("octo-local-standin-tentacle:{}", demo_tag());
    let own = [Images::sql(), Images::tentacle(), of_demo];
    for image in demo_images().into_iter().chain(tags).chain(own) {
        let _ = witness.wait(witness.docker().remove_image(
            &image,
            None::<query::RemoveImageOptions>,
            None,
        ));
    }
}
