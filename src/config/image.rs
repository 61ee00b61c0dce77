//! References to images by the grammar of the distribution project (`reference/reference.go` and
//! `regexp.go`), which is what every engine reads them by.
//!
//! Our own reader, because the crates that have one drag a registry client with them, and none says
//! which part is wrong.

use std::fmt;

/// The registry of a name that names none.
const DEFAULT_REGISTRY: &str = "docker.io";
/// Where that registry keeps names of one component.
const OFFICIAL: &str = "library/";
/// The longest name, registry and path, that is taken.
const MAX_NAME: usize = 255;

/// A reference to an image: `[registry/]path[:tag][@digest]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageRef {
    /// Registry and path as they were written.
    pub name: String,
    /// The tag, if one is given.
    pub tag: Option<String>,
    /// `sha256:…`, if one is given.
    pub digest: Option<String>,
}

/// Why a text is no reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// White space at an end or inside.
    #[error("white space stands in it")]
    WhiteSpace,
    /// An address where a name is wanted.
    #[error("an image reference has no `https://` before it")]
    Scheme,
    /// Capitals in the path; only a registry's host name may have them.
    #[error("the name of an image has no capital letters")]
    Capitals,
    /// The path or the registry has a character or an order of them that names do not have.
    #[error(
        "its name has a character, or two separators together, that names of images do not have"
    )]
    Name,
    /// More than 255 characters.
    #[error("its name is longer than 255 characters")]
    TooLong,
    /// Not a tag.
    #[error(
        "its tag is none: up to 128 letters, digits, `_`, `.` and `-`, the first no `.` or `-`"
    )]
    Tag,
    /// Not a digest.
    #[error("its digest is none: `sha256:` and 64 of the digits 0-9 and a-f")]
    Digest,
}

impl ImageRef {
    /// Reads a reference.
    pub fn parse(text: &str) -> Result<Self, ImageError> {
        if text.contains(char::is_whitespace) {
            return Err(ImageError::WhiteSpace);
        }
        if text.contains("://") {
            return Err(ImageError::Scheme);
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest)),
            None => (text, None),
        };
        let slash = rest.rfind('/').map_or(0, |at| at + 1);
        let (name, tag) = match rest[slash..].split_once(':') {
            Some((last, tag)) => (&rest[..slash + last.len()], Some(tag)),
            None => (rest, None),
        };
        check_name(name)?;
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(ImageError::Tag);
        }
        if digest.is_some_and(|digest| !is_digest(digest)) {
            return Err(ImageError::Digest);
        }
        Ok(Self {
            name: name.to_owned(),
            tag: tag.map(str::to_owned),
            digest: digest.map(str::to_owned),
        })
    }

    /// The same reference with the tag that every engine takes where neither a tag nor a digest is
    /// given.
    #[must_use]
    pub fn with_tag(mut self) -> Self {
        if self.tag.is_none() && self.digest.is_none() {
            self.tag = Some("latest".to_owned());
        }
        self
    }

    /// The full form by which two spellings of one reference are equal: with registry, the official
    /// namespace and a tag, as `docker.io/library/nginx:latest`.
    pub fn normal(&self) -> String {
        let (registry, path) = split_registry(&self.name);
        let registry = match registry {
            "index.docker.io" | "registry-1.docker.io" => DEFAULT_REGISTRY,
            other => other,
        };
        let is_official = registry == DEFAULT_REGISTRY && !path.contains('/');
        let namespace = if is_official { OFFICIAL } else { "" };
        let whole = Self {
            name: format!("{registry}/{namespace}{path}"),
            ..self.clone()
        };
        whole.with_tag().to_string()
    }
}

impl fmt::Display for ImageRef {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.name)?;
        if let Some(tag) = &self.tag {
            write!(out, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(out, "@{digest}")?;
        }
        Ok(())
    }
}

/// A text in the normal form of references, by which an engine's spelling of one is a person's; as it
/// is where it is none.
pub fn normal(text: &str) -> String {
    ImageRef::parse(text).map_or_else(|_| text.to_owned(), |read| read.normal())
}

/// Whether two texts name the same image. `localhost/name`, as Podman shows what was built there,
/// equals a name without a registry.
pub fn is_same(one: &str, other: &str) -> bool {
    let plain = |text: &str| normal(text.strip_prefix("localhost/").unwrap_or(text));
    one == other || plain(one) == plain(other)
}

/// The registry that a name begins with, else the default one, and the path after it. A first
/// component is a registry when it looks like a host or is `localhost`. Engines also take one with
/// capitals for a host, which is a mistyped name here: it is refused as that.
fn split_registry(name: &str) -> (&str, &str) {
    match name.split_once('/') {
        Some((first, path)) if is_registry(first) => (first, path),
        _ => (DEFAULT_REGISTRY, name),
    }
}

fn is_registry(first: &str) -> bool {
    first.contains(['.', ':']) || first == "localhost"
}

fn check_name(name: &str) -> Result<(), ImageError> {
    if name.len() > MAX_NAME {
        return Err(ImageError::TooLong);
    }
    let (registry, path) = split_registry(name);
    let is_hexadecimal = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    // A bare identifier of an image is never taken for a name.
    if name.len() == 64 && name.bytes().all(is_hexadecimal) {
        return Err(ImageError::Name);
    }
    if !is_host(registry) {
        return Err(ImageError::Name);
    }
    if path.chars().any(char::is_uppercase) {
        return Err(ImageError::Capitals);
    }
    if path.split('/').all(is_component) {
        Ok(())
    } else {
        Err(ImageError::Name)
    }
}

/// A host name or address, and a port if there is one.
fn is_host(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, port)) => (Err(address), port),
        None => {
            let at = text.find(':').unwrap_or(text.len());
            (Ok(&text[..at]), &text[at..])
        }
    };
    let is_label = |label: &str| {
        let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(is_inner)
    };
    let has_good_host = match host {
        Ok(name) => name.split('.').all(is_label),
        Err(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
    };
    let digits = port.strip_prefix(':');
    let has_good_port = port.is_empty()
        || digits.is_some_and(|port| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()));
    has_good_host && has_good_port
}

/// Runs of lower-case letters and digits, between them one `.`, one or two `_`, or any number of
/// `-`.
fn is_component(text: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let mut rest = text;
    loop {
        let run = rest.bytes().take_while(|byte| is_inner(*byte)).count();
        if run == 0 {
            return false;
        }
        rest = &rest[run..];
        if rest.is_empty() {
            return true;
        }
        let separator = rest.find(|letter| !matches!(letter, '.' | '_' | '-'));
        let (separator, after) = rest.split_at(separator.unwrap_or(rest.len()));
        let is_good = matches!(separator, "." | "_" | "__")
            || (!separator.is_empty() && separator.bytes().all(|byte| byte == b'-'));
        if !is_good {
            return false;
        }
        rest = after;
    }
}

/// Whether a text is a tag.
pub fn is_tag(text: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let bytes = text.as_bytes();
    bytes.len() <= 128
        && bytes.first().is_some_and(|first| is_word(*first))
        && bytes
            .iter()
            .all(|byte| is_word(*byte) || matches!(byte, b'.' | b'-'))
}

/// Whether a text is a digest: of the three algorithms that are registered.
pub fn is_digest(text: &str) -> bool {
    let Some((algorithm, digits)) = text.split_once(':') else {
        return false;
    };
    let length = match algorithm {
        "sha256" => 64,
        "sha384" => 96,
        "sha512" => 128,
        _ => return false,
    };
    digits.len() == length
        && digits
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn digest() -> String {
        format!("sha256:{}", "0123456789abcdef".repeat(4))
    }

    #[test]
    fn what_engines_take_is_taken() {
        let digest = digest();
        for (text, name, tag, has_digest) in [
            ("nginx", "nginx", None, false),
            (
                "octopusdeploy/octopusdeploy:2026.2",
                "octopusdeploy/octopusdeploy",
                Some("2026.2"),
                false,
            ),
            ("localhost:5000/a/b", "localhost:5000/a/b", None, false),
            ("localhost/a:1", "localhost/a", Some("1"), false),
            (
                "Registry.Example.com/a__b/c--d:V_1",
                "Registry.Example.com/a__b/c--d",
                Some("V_1"),
                false,
            ),
            ("[::1]:5000/a", "[::1]:5000/a", None, false),
            (
                "10.0.0.1:5000/a.b_c:x",
                "10.0.0.1:5000/a.b_c",
                Some("x"),
                false,
            ),
            (&format!("a/b@{digest}"), "a/b", None, true),
            (&format!("a/b:1@{digest}"), "a/b", Some("1"), true),
        ] {
            let read = ImageRef::parse(text).unwrap();
            assert_eq!(read.name, name, "{text}");
            assert_eq!(read.tag.as_deref(), tag, "{text}");
            assert_eq!(read.digest.is_some(), has_digest, "{text}");
            assert_eq!(read.to_string(), text);
        }
    }

    #[test]
    fn what_engines_refuse_is_refused_with_the_part_that_is_wrong() {
        let long = "a".repeat(256);
        let identifier = "0123456789abcdef".repeat(4);
        for (text, error) in [
            ("", ImageError::Name),
            ("Octopus", ImageError::Capitals),
            ("octopusdeploy/OctopusDeploy:1", ImageError::Capitals),
            ("a:1:2", ImageError::Tag),
            ("a:", ImageError::Tag),
            ("a:-1", ImageError::Tag),
            ("a/", ImageError::Name),
            ("/a", ImageError::Name),
            ("a//b", ImageError::Name),
            ("a..b", ImageError::Name),
            ("a___b", ImageError::Name),
            ("a_-b", ImageError::Name),
            ("-a", ImageError::Name),
            ("a-", ImageError::Name),
            ("a b", ImageError::WhiteSpace),
            (" a", ImageError::WhiteSpace),
            ("https://host/a", ImageError::Scheme),
            ("host:port/a", ImageError::Name),
            ("-host.example/a", ImageError::Name),
            ("a@sha256:12", ImageError::Digest),
            ("a@", ImageError::Digest),
            ("a/bä", ImageError::Name),
            ("a$b", ImageError::Name),
            (&long, ImageError::TooLong),
            (&identifier, ImageError::Name),
        ] {
            assert_eq!(ImageRef::parse(text), Err(error), "{text}");
        }
    }

    #[test]
    fn spellings_of_one_image_are_the_same() {
        for (one, other) in [
            ("nginx", "docker.io/library/nginx:latest"),
            ("index.docker.io/library/nginx", "nginx:latest"),
            (
                "octopusdeploy/octopusdeploy:1",
                "docker.io/octopusdeploy/octopusdeploy:1",
            ),
            ("mine:1", "localhost/mine:1"),
            ("mine:1", "docker.io/library/mine:1"),
            (
                "mcr.microsoft.com/mssql/server",
                "mcr.microsoft.com/mssql/server:latest",
            ),
            ("sha256:abc", "sha256:abc"),
        ] {
            assert!(is_same(one, other) && is_same(other, one), "{one} {other}");
        }
        for (one, other) in [
            ("nginx:1", "nginx:2"),
            ("a/nginx", "nginx"),
            ("ghcr.io/a/b", "a/b"),
            ("localhost:5000/a", "a"),
        ] {
            assert!(!is_same(one, other), "{one} {other}");
        }
    }

    #[test]
    fn references_that_mean_the_same_have_one_form() {
        let digest = digest();
        for (one, other) in [
            ("alpine", "docker.io/library/alpine:latest"),
            ("docker.io/alpine:3", "docker.io/library/alpine:3"),
            (
                "octopusdeploy/octopusdeploy:2026.2",
                "registry-1.docker.io/octopusdeploy/octopusdeploy:2026.2",
            ),
            ("r.example:5000/a/b", "r.example:5000/a/b:latest"),
            (
                &format!("a@{digest}"),
                &format!("docker.io/library/a@{digest}"),
            ),
            (
                &format!("a:1@{digest}"),
                &format!("docker.io/library/a:1@{digest}"),
            ),
        ] {
            assert_eq!(normal(one), normal(other), "{one} {other}");
        }
        assert_ne!(normal("r.example:5000/a"), normal("r.example/a"));
        assert_ne!(normal("localhost/x:1"), normal("x:1"), "to an engine");
    }

    proptest! {
        #[test]
        fn what_is_read_is_written_as_it_was(text in "[a-cA-C0-9._:/@-]{0,24}") {
            if let Ok(read) = ImageRef::parse(&text) {
                prop_assert_eq!(read.to_string(), text);
                let normal = ImageRef::parse(&read.normal());
                prop_assert_eq!(normal.map(|it| it.normal()), Ok(read.normal()));
            }
        }

        #[test]
        fn no_text_is_a_panic(text in "\\PC{0,40}") {
            let _ = ImageRef::parse(&text);
            prop_assert!(is_same(&text, &text));
        }
    }
}
