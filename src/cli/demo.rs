//! `--demo`: this very program as two one-file images, and passwords where none is given.

use crate::cli::outcome::FAILED;
use crate::cli::outcome::Failure;
use crate::cli::terminal::print;
use crate::config::Secret;
use crate::config::read::Demo;
use crate::engine::Engine;
use crate::standin::image;

/// The repositories of the stand-ins' images.
pub const SQL_REPOSITORY: &str = "octo-local-standin-sql";
/// See [`SQL_REPOSITORY`].
pub const OCTOPUS_REPOSITORY: &str = "octo-local-standin-octopus";

/// See [`SQL_REPOSITORY`].
pub const TENTACLE_REPOSITORY: &str = "octo-local-standin-tentacle";

/// The demo's images under their usual tag, with these passwords where the person gave none.
pub fn demo(tag: &str, passwords: &(Secret, Secret)) -> Demo {
    Demo {
        sql_image: format!("{SQL_REPOSITORY}:{tag}"),
        octopus_image: OCTOPUS_REPOSITORY.to_owned(),
        octopus_tag: tag.to_owned(),
        tentacle_image: format!("{TENTACLE_REPOSITORY}:{tag}"),
        sa_password: passwords.0.clone(),
        admin_password: passwords.1.clone(),
    }
}

/// The tag of the images that this very program would make.
pub fn own_tag() -> String {
    let identity = crate::api::Identity::own();
    format!("{}-{}", env!("CARGO_PKG_VERSION"), identity.built)
}

/// Makes the images, unless the engine has them.
pub async fn import(engine: &Engine, demo: &Demo) -> Result<(), Failure> {
    let octopus = format!("{}:{}", demo.octopus_image, demo.octopus_tag);
    if engine.image_id(&demo.sql_image).await?.is_some()
        && engine.image_id(&octopus).await?.is_some()
    {
        return Ok(());
    }
    print::tell("making the stand-ins' images of this program, once");
    let binary = image::own_program()
        .map_err(|error| Failure::new(FAILED, format!("read this program: {error}")))?;
    let archive = image::archive(&binary, &demo.sql_image, &octopus);
    let archive = archive
        .map_err(|error| Failure::new(FAILED, format!("make the stand-in images: {error}")))?;
    Ok(engine.load(archive).await?)
}
