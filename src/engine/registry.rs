//! Why an image could not be fetched, by the engine's words. The engine hands on what the registry or
//! the network said, in one line of text: with its own image store (moby `distribution`) and with
//! containerd's (`core/remotes/docker`) in different words.

use std::fmt;

/// What kept an image from being fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PullTrouble {
    /// The registry answered that it has no such image.
    NotThere,
    /// The registry wants a login, or another one; a private image looks like one that is not
    /// there.
    LoginNeeded,
    /// The registry gives no more images for a while.
    RateLimited,
    /// Nobody knows the registry's name.
    NameUnknown,
    /// The registry's certificate is not trusted, or it speaks no TLS.
    Certificate,
    /// No connection to the registry.
    Unreachable,
    /// The registry failed.
    RegistryFailed,
    /// There is none for this processor.
    WrongArchitecture,
    /// The disk is full.
    DiskFull,
    /// That is no reference to an image.
    InvalidReference,
    /// Something else.
    Other,
}

/// Words of the engine, in lower case, and what they mean. All parts must occur; the first that fits
/// counts.
const WORDS: &[(&[&str], PullTrouble)] = &[
    (&["no space left on device"], PullTrouble::DiskFull),
    (&["invalid reference format"], PullTrouble::InvalidReference),
    (&["repository name must be"], PullTrouble::InvalidReference),
    (
        &["no matching manifest for"],
        PullTrouble::WrongArchitecture,
    ),
    (&["no match for platform"], PullTrouble::WrongArchitecture),
    (
        &["does not match the specified platform"],
        PullTrouble::WrongArchitecture,
    ),
    (&["toomanyrequests"], PullTrouble::RateLimited),
    (&["too many requests"], PullTrouble::RateLimited),
    (&["rate limit"], PullTrouble::RateLimited),
    (&["x509:"], PullTrouble::Certificate),
    (&["tls: "], PullTrouble::Certificate),
    (
        &["gave http response to https client"],
        PullTrouble::Certificate,
    ),
    (&["no such host"], PullTrouble::NameUnknown),
    (&["server misbehaving"], PullTrouble::NameUnknown),
    (
        &["temporary failure in name resolution"],
        PullTrouble::NameUnknown,
    ),
    (&["lookup ", "i/o timeout"], PullTrouble::NameUnknown),
    (&["pull access denied"], PullTrouble::LoginNeeded),
    (&["no basic auth credentials"], PullTrouble::LoginNeeded),
    (&["insufficient_scope"], PullTrouble::LoginNeeded),
    (&["unauthorized"], PullTrouble::LoginNeeded),
    (&["authentication required"], PullTrouble::LoginNeeded),
    (&["access forbidden"], PullTrouble::LoginNeeded),
    (&["403 forbidden"], PullTrouble::LoginNeeded),
    (&["denied: "], PullTrouble::LoginNeeded),
    (&["manifest unknown"], PullTrouble::NotThere),
    (&["manifest for", "not found"], PullTrouble::NotThere),
    (&["name unknown"], PullTrouble::NotThere),
    (&["repository", "not found"], PullTrouble::NotThere),
    (
        &["failed to resolve reference", "not found"],
        PullTrouble::NotThere,
    ),
    (&["no such image"], PullTrouble::NotThere),
    (&["unexpected http status: 5"], PullTrouble::RegistryFailed),
    (&["500 internal server error"], PullTrouble::RegistryFailed),
    (&["502 bad gateway"], PullTrouble::RegistryFailed),
    (&["503 service unavailable"], PullTrouble::RegistryFailed),
    (&["504 gateway time"], PullTrouble::RegistryFailed),
    (&["connection refused"], PullTrouble::Unreachable),
    (&["connection reset"], PullTrouble::Unreachable),
    (&["network is unreachable"], PullTrouble::Unreachable),
    (&["no route to host"], PullTrouble::Unreachable),
    (&["proxyconnect"], PullTrouble::Unreachable),
    (&["i/o timeout"], PullTrouble::Unreachable),
    (&["handshake timeout"], PullTrouble::Unreachable),
    (&["request canceled"], PullTrouble::Unreachable),
    (&["deadline exceeded"], PullTrouble::Unreachable),
    (&["timeout exceeded"], PullTrouble::Unreachable),
    (&["unexpected eof"], PullTrouble::Unreachable),
    (&[": eof"], PullTrouble::Unreachable),
];

impl PullTrouble {
    /// What these words of the engine mean.
    pub fn of_words(words: &str) -> Self {
        let lower = words.to_lowercase();
        let fits = |(parts, _): &&(&[&str], Self)| parts.iter().all(|part| lower.contains(part));
        WORDS
            .iter()
            .find(fits)
            .map_or(Self::Other, |(_, trouble)| *trouble)
    }

    /// What happened and what helps, as a fragment.
    pub fn words(self) -> &'static str {
        match self {
            Self::NotThere => "the registry has no such image (look at its name and tag)",
            Self::LoginNeeded => {
                "there is no such image, or the registry wants a login (`docker login` as the user who runs octo-local)"
            }
            Self::RateLimited => {
                "the registry gives no more images for now; it is asked again by itself (a `docker login` raises the limit)"
            }
            Self::NameUnknown => {
                "the registry's name is not known here (look at the DNS of this host)"
            }
            Self::Certificate => {
                "the registry's certificate is not trusted (give it to the engine: /etc/docker/certs.d)"
            }
            Self::Unreachable => {
                "the registry cannot be reached; it is asked again by itself (network, proxy, firewall)"
            }
            Self::RegistryFailed => "the registry failed; it is asked again by itself",
            Self::WrongArchitecture => "there is no such image for this processor",
            Self::DiskFull => "the disk is full",
            Self::InvalidReference => "that is no reference to an image",
            Self::Other => "the engine could not fetch it",
        }
    }
}

impl fmt::Display for PullTrouble {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.words())
    }
}

#[cfg(test)]
mod tests {
    use super::PullTrouble as Trouble;

    /// The answers of moby 20.10 to 29 with its own store, and of 28 and 29 with containerd's.
    const CASES: &[(&str, Trouble)] = &[
        (
            "manifest for alpine:nope not found: manifest unknown: manifest unknown",
            Trouble::NotThere,
        ),
        (
            r#"failed to resolve reference "docker.io/library/alpine:nope": docker.io/library/alpine:nope: not found"#,
            Trouble::NotThere,
        ),
        (
            "pull access denied for nope, repository does not exist or may require 'docker login': denied: requested access to the resource is denied",
            Trouble::LoginNeeded,
        ),
        (
            r#"failed to resolve reference "docker.io/library/nope:1": pull access denied, repository does not exist or may require authorization: server message: insufficient_scope: authorization failed"#,
            Trouble::LoginNeeded,
        ),
        (
            "Get \"https://r.example/v2/a/manifests/1\": no basic auth credentials",
            Trouble::LoginNeeded,
        ),
        (
            "Head \"https://r.example/v2/a/manifests/1\": unauthorized: authentication required",
            Trouble::LoginNeeded,
        ),
        (
            r#"failed to resolve reference "r.example/a:1": unexpected status from HEAD request to https://r.example/v2/a/manifests/1: 403 Forbidden"#,
            Trouble::LoginNeeded,
        ),
        (
            "toomanyrequests: You have reached your pull rate limit. You may increase the limit by authenticating and upgrading: https://www.docker.com/increase-rate-limit",
            Trouble::RateLimited,
        ),
        (
            "failed to copy: httpReadSeeker: failed open: unexpected status code https://r.example/v2/a/blobs/x: 429 Too Many Requests - Server message: toomanyrequests",
            Trouble::RateLimited,
        ),
        (
            "Get \"https://r.example/v2/\": dial tcp: lookup r.example on 127.0.0.11:53: no such host",
            Trouble::NameUnknown,
        ),
        (
            "Get \"https://r.example/v2/\": dial tcp: lookup r.example on 10.0.0.2:53: read udp 10.0.0.1:4->10.0.0.2:53: i/o timeout",
            Trouble::NameUnknown,
        ),
        (
            "Get \"https://r.example/v2/\": tls: failed to verify certificate: x509: certificate signed by unknown authority",
            Trouble::Certificate,
        ),
        (
            "Get \"https://r.example/v2/\": http: server gave HTTP response to HTTPS client",
            Trouble::Certificate,
        ),
        (
            "Get \"https://r.example/v2/\": dial tcp 10.9.9.9:443: connect: connection refused",
            Trouble::Unreachable,
        ),
        (
            "Get \"https://r.example/v2/\": net/http: request canceled while waiting for connection (Client.Timeout exceeded while awaiting headers)",
            Trouble::Unreachable,
        ),
        (
            "Get \"https://r.example/v2/\": net/http: TLS handshake timeout",
            Trouble::Unreachable,
        ),
        (
            "received unexpected HTTP status: 500 Internal Server Error",
            Trouble::RegistryFailed,
        ),
        (
            r#"failed to resolve reference "r.example/a:1": unexpected status from HEAD request to https://r.example/v2/a/manifests/1: 503 Service Unavailable"#,
            Trouble::RegistryFailed,
        ),
        (
            "no matching manifest for linux/arm64/v8 in the manifest list entries: no match for platform in manifest: not found",
            Trouble::WrongArchitecture,
        ),
        ("invalid reference format", Trouble::InvalidReference),
        (
            "write /var/lib/docker/tmp/x: no space left on device",
            Trouble::DiskFull,
        ),
        ("something new", Trouble::Other),
    ];

    #[test]
    fn what_a_registry_refuses_is_told_apart_in_the_words_of_both_image_stores() {
        for (words, trouble) in CASES {
            assert_eq!(Trouble::of_words(words), *trouble, "{words}");
        }
    }
}
