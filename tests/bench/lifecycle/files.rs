//! Files in the volumes that nodes share, read and written past the product.

use std::io::Read as _;

use bollard::query_parameters::DownloadFromContainerOptionsBuilder;
use bollard::query_parameters::UploadToContainerOptionsBuilder;
use futures_util::StreamExt as _;
use octo_local::backup::part::hex;
use sha2::Digest as _;
use sha2::Sha256;

use crate::kit::stack::Stack;

/// Where nodes mount the volumes that they share.
pub(crate) const DIRECTORIES: [&str; 4] =
    ["/repository", "/artifacts", "/taskLogs", "/eventExports"];

/// What a file is, and the sum of its bytes.
pub(crate) type File = (String, u8, u64, u64, u32, u64, String);

/// The place of a directory of a container on this host.
pub(crate) fn on_host(stack: &Stack, unit: &str, directory: &str) -> std::path::PathBuf {
    let shown = stack.witness.inspect(&stack.container(unit)).unwrap();
    let mounts = shown.mounts.unwrap();
    let mount = mounts
        .iter()
        .find(|mount| mount.destination.as_deref() == Some(directory));
    mount.unwrap().source.clone().unwrap().into()
}

/// Puts files into a directory of a container: those that are there are replaced.
pub(crate) fn put(stack: &Stack, unit: &str, directory: &str, files: &[(String, Vec<u8>)]) {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o640);
        header.set_uid(999);
        header.set_mtime(1_600_000_000);
        tar.append_data(&mut header, name, content.as_slice())
            .unwrap();
    }
    let options = UploadToContainerOptionsBuilder::default()
        .path(directory)
        .build();
    let body = bollard::body_full(tar.into_inner().unwrap().into());
    let (docker, name) = (stack.witness.docker(), stack.container(unit));
    let call = docker.upload_to_container(&name, Some(options), body);
    stack.witness.wait(call).unwrap();
}

/// All files of the shared volumes, save those that each run of the stand-in writes.
pub(crate) fn all(stack: &Stack, unit: &str) -> Vec<File> {
    DIRECTORIES
        .iter()
        .flat_map(|directory| of(stack, unit, directory))
        .collect()
}

fn of(stack: &Stack, unit: &str, directory: &str) -> Vec<File> {
    let options = DownloadFromContainerOptionsBuilder::default()
        .path(&format!("{directory}/."))
        .build();
    let docker = stack.witness.docker();
    let mut stream = docker.download_from_container(&stack.container(unit), Some(options));
    let bytes = stack.witness.wait(async {
        let mut bytes = Vec::new();
        while let Some(piece) = stream.next().await {
            bytes.extend_from_slice(&piece.unwrap());
        }
        bytes
    });
    let mut archive = tar::Archive::new(bytes.as_slice());
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        let header = entry.header();
        (
            format!("{directory}/{}", entry.path().unwrap().display()),
            header.entry_type().as_byte(),
            header.uid().unwrap(),
            header.gid().unwrap(),
            header.mode().unwrap(),
            header.mtime().unwrap(),
            hex(&Sha256::digest(&content)),
        )
    });
    let is_of_a_run = |name: &str| name.ends_with("/./") || name.contains("/./octopus");
    let mut files: Vec<File> = entries.filter(|file| !is_of_a_run(&file.0)).collect();
    files.sort();
    files
}
