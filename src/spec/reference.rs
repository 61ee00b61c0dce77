//! References to images, told apart by what they mean and not by how they are written: engines write
//! them out in full, people do not.

/// The normal form of a reference (distribution/reference, `ParseNormalizedNamed`): registry and
/// `library/` are filled in, and `:latest` where there is neither tag nor digest.
pub fn normal(reference: &str) -> String {
    let (rest, digest) = match reference.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest)),
        None => (reference, None),
    };
    let (name, tag) = match rest.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        Some(_) | None => (rest, None),
    };
    let (registry, path) = match name.split_once('/') {
        Some((first, path)) if first.contains(['.', ':']) || first == "localhost" => (first, path),
        Some(_) | None => ("docker.io", name),
    };
    let registry = match registry {
        "index.docker.io" | "registry-1.docker.io" => "docker.io",
        other => other,
    };
    let library = if registry == "docker.io" && !path.contains('/') {
        "library/"
    } else {
        ""
    };
    let mut normal = format!("{registry}/{library}{path}");
    match (tag, digest) {
        (None, None) => normal.push_str(":latest"),
        (tag, digest) => {
            normal.extend(tag.into_iter().flat_map(|tag| [":", tag]));
            normal.extend(digest.into_iter().flat_map(|digest| ["@", digest]));
        }
    }
    normal
}

#[cfg(test)]
mod tests {
    use super::normal;

    #[test]
    fn references_that_mean_the_same_have_one_form() {
        let same = [
            ("alpine", "docker.io/library/alpine:latest"),
            ("docker.io/alpine:3", "docker.io/library/alpine:3"),
            (
                "octopusdeploy/octopusdeploy:2026.2",
                "index.docker.io/octopusdeploy/octopusdeploy:2026.2",
            ),
            ("r.example:5000/a/b", "r.example:5000/a/b:latest"),
            ("localhost/x:1", "localhost/x:1"),
            ("a@sha256:12", "docker.io/library/a@sha256:12"),
            ("a:1@sha256:12", "docker.io/library/a:1@sha256:12"),
        ];
        for (one, other) in same {
            assert_eq!(normal(one), normal(other), "{one} {other}");
        }
        assert_ne!(normal("r.example:5000/a"), normal("r.example/a"));
        assert_ne!(normal("a:1"), normal("a:2"));
    }
}
