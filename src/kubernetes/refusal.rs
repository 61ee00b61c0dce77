//! What kubectl says when it fails, as a type. Its words are kubectl's own and the API server's
//! (kubernetes, `cmd/util/helpers.go`, `apimachinery/pkg/api/errors`), in English: it is run with
//! the C locale.

/// Why kubectl did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The person may not do that.
    #[error("you may not {verb} {resource} in the namespace {namespace}")]
    Forbidden {
        /// `get`, `patch`, `create`, …
        verb: String,
        /// `statefulsets.apps`, `pods/exec`, …
        resource: String,
        /// The namespace; empty for what belongs to the whole cluster.
        namespace: String,
    },
    /// There is no such thing.
    #[error("{0} is not there")]
    NotFound(String),
    /// Somebody changed it meanwhile.
    #[error("it was changed meanwhile: {0}")]
    Conflict(String),
    /// It is there already.
    #[error("{0}")]
    AlreadyExists(String),
    /// A rule of the cluster is against it.
    #[error("the cluster refuses it: {0}")]
    Invalid(String),
    /// Nobody is logged in.
    #[error("the cluster does not know you: {0}; log in as you do for kubectl")]
    Unauthorized(String),
    /// The configuration of kubectl has no such context, or none at all.
    #[error("{0}; `kubectl config get-contexts` shows what there is, --context names one")]
    NoContext(String),
    /// The API server does not answer.
    #[error("the cluster does not answer: {0}")]
    Unreachable(String),
    /// It answers that it cannot now.
    #[error("the cluster cannot now: {0}")]
    Busy(String),
    /// A program in a pod failed.
    #[error("it ended with exit code {code}: {said}")]
    Ended {
        /// Its exit code.
        code: i32,
        /// Its last words.
        said: String,
    },
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

impl Refusal {
    /// Whether the same may succeed a little later.
    pub fn passes(&self) -> bool {
        matches!(
            self,
            Self::Conflict(_) | Self::Unreachable(_) | Self::Busy(_)
        )
    }

    /// Reads standard error.
    pub fn parse(said: &str) -> Self {
        let text = essential(said);
        if let Some(code) = exit_code(said) {
            return Self::Ended { code, said: text };
        }
        let lower = text.to_lowercase();
        let has = |words: &[&str]| words.iter().any(|word| lower.contains(word));
        match reason_of(&text) {
            Some("Forbidden") => return forbidden(&text),
            Some("NotFound") => return Self::NotFound(subject(&text)),
            Some("Conflict") => return Self::Conflict(text),
            Some("AlreadyExists") => return Self::AlreadyExists(text),
            Some("Invalid" | "BadRequest") => return Self::Invalid(text),
            Some(
                "Timeout" | "ServerTimeout" | "TooManyRequests" | "ServiceUnavailable"
                | "InternalError",
            ) => {
                return Self::Busy(text);
            }
            Some(_) | None => {}
        }
        if has(&["is forbidden:"]) {
            forbidden(&text)
        } else if has(&["(unauthorized)", "must be logged in", "provide credentials"]) {
            Self::Unauthorized(text)
        } else if has(&[
            "context was not found",
            "no context exists",
            "context \"",
            "invalid configuration",
            "localhost:8080 was refused",
        ]) {
            Self::NoContext(text)
        } else if has(&[
            "unable to connect to the server",
            "was refused",
            "connection refused",
            "no such host",
            "i/o timeout",
            "tls handshake timeout",
            "context deadline exceeded",
            "client.timeout",
            "connection reset",
            ": eof",
            "lost connection",
            "no route to host",
        ]) {
            Self::Unreachable(text)
        } else if has(&[" is invalid", "denied request"]) {
            Self::Invalid(text)
        } else {
            Self::Other(text)
        }
    }
}

/// The lines that say something: neither klog's (`E1129 18:23:27.3 …`) nor warnings, as one.
fn essential(said: &str) -> String {
    let is_klog = |line: &str| {
        let mut letters = line.chars();
        let level = letters.next().is_some_and(|letter| "IWEF".contains(letter));
        level && letters.take(4).filter(char::is_ascii_digit).count() == 4
    };
    let lines: Vec<&str> = said
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !is_klog(line) && !line.starts_with("Warning:"))
        .collect();
    let lines = if lines.is_empty() {
        said.lines().last().into_iter().collect()
    } else {
        lines
    };
    let mut text = lines.join(" ");
    if let Some(at) = text.char_indices().nth(SAID).map(|(at, _)| at) {
        text.truncate(at);
    }
    text
}

/// So much of the words of others is shown.
const SAID: usize = 600;

/// `Error from server (REASON): …`
fn reason_of(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once("Error from server (")?;
    rest.split_once(')').map(|(reason, _)| reason)
}

/// What is not found: `Error from server (NotFound): statefulsets.apps "octopus" not found`.
fn subject(text: &str) -> String {
    let rest = text.split_once("): ").map_or(text, |(_, rest)| rest);
    let rest = rest.strip_suffix(" not found").unwrap_or(rest);
    rest.replace('"', "").trim().to_owned()
}

/// `… User "x" cannot patch resource "statefulsets" in API group "apps" in the namespace "y"`.
fn forbidden(text: &str) -> Refusal {
    let quoted_after = |word: &str| {
        let (_, rest) = text.split_once(word)?;
        rest.split_once('"').map(|(name, _)| name.to_owned())
    };
    let verb = text
        .split_once(" cannot ")
        .and_then(|(_, rest)| rest.split_whitespace().next());
    let (Some(verb), Some(resource)) = (verb, quoted_after("resource \"")) else {
        // Pod Security, a quota, or a webhook: not for lack of rights.
        return Refusal::Invalid(text.to_owned());
    };
    let group = quoted_after("API group \"").unwrap_or_default();
    // `pods/exec` has the part behind the slash in the middle of its name.
    let resource = match (group.as_str(), resource.split_once('/')) {
        ("", _) => resource,
        (group, None) => format!("{resource}.{group}"),
        (group, Some((kind, part))) => format!("{kind}.{group}/{part}"),
    };
    Refusal::Forbidden {
        verb: verb.to_owned(),
        resource,
        namespace: quoted_after("namespace \"").unwrap_or_default(),
    }
}

/// `command terminated with exit code 2`, of `kubectl exec`.
fn exit_code(said: &str) -> Option<i32> {
    let (_, rest) = said.rsplit_once("command terminated with exit code ")?;
    rest.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_right_is_named_by_verb_and_resource() {
        let of = |said: &str| match Refusal::parse(said) {
            Refusal::Forbidden {
                verb,
                resource,
                namespace,
            } => format!("{verb} {resource} {namespace}"),
            other => panic!("{other:?}"),
        };
        assert_eq!(
            of(
                "Error from server (Forbidden): statefulsets.apps \"octopus\" is forbidden: User \"me\" cannot patch resource \
                \"statefulsets\" in API group \"apps\" in the namespace \"octo\""
            ),
            "patch statefulsets.apps octo"
        );
        assert_eq!(
            of(
                "Error from server (Forbidden): pods \"mssql-0\" is forbidden: User \"me\" cannot create resource \"pods/exec\" in \
                API group \"\" in the namespace \"octo\""
            ),
            "create pods/exec octo"
        );
        assert_eq!(
            of(
                "Error from server (Forbidden): statefulsets.apps \"octopus\" is forbidden: User \"me\" cannot patch resource \
                \"statefulsets/scale\" in API group \"apps\" in the namespace \"octo\": no RBAC policy matched"
            ),
            "patch statefulsets.apps/scale octo"
        );
        let pod_security = "Error from server (Forbidden): error when creating \"STDIN\": pods \"x\" is forbidden: violates \
                            PodSecurity \"restricted:latest\": privileged";
        assert!(matches!(Refusal::parse(pod_security), Refusal::Invalid(_)));
    }

    #[test]
    fn what_passes_is_told_from_what_does_not() {
        let cases = [
            (
                "Error from server (Conflict): Operation cannot be fulfilled on statefulsets.apps \"octopus\": the object has been \
              modified; please apply your changes to the latest version and try again",
                true,
            ),
            (
                "The connection to the server 10.0.0.1:6443 was refused - did you specify the right host or port?",
                true,
            ),
            (
                "Unable to connect to the server: dial tcp: lookup nowhere: no such host",
                true,
            ),
            (
                "Unable to connect to the server: net/http: request canceled (Client.Timeout exceeded while awaiting headers)",
                true,
            ),
            (
                "Error from server (Timeout): the server was unable to return a response in the time allotted",
                true,
            ),
            (
                "Error from server (InternalError): an error on the server (\"\") has prevented the request",
                true,
            ),
            (
                "Error from server (NotFound): namespaces \"x\" not found",
                false,
            ),
            (
                "error: You must be logged in to the server (Unauthorized)",
                false,
            ),
            (
                "Error in configuration: context was not found for specified context: nope",
                false,
            ),
            (
                "The connection to the server localhost:8080 was refused - did you specify the right host or port?",
                false,
            ),
            (
                "The statefulsets \"octopus\" is invalid: : ValidatingAdmissionPolicy 'g' with binding 'g' denied request: no",
                false,
            ),
            (
                "Msg 3201, Level 16: Cannot open backup device\ncommand terminated with exit code 1",
                false,
            ),
            ("", false),
        ];
        for (said, passes) in cases {
            assert_eq!(
                Refusal::parse(said).passes(),
                passes,
                "{said}: {:?}",
                Refusal::parse(said)
            );
        }
    }

    #[test]
    fn kubectls_own_log_lines_are_no_words_and_programs_have_their_codes() {
        let said = "E1129 18:23:27.387644   12626 memcache.go:265] \"Unhandled Error\" err=\"couldn't get list\"\n\
                    The connection to the server 10.1.1.1:6443 was refused - did you specify the right host or port?";
        let Refusal::Unreachable(text) = Refusal::parse(said) else {
            panic!("{:?}", Refusal::parse(said));
        };
        assert!(text.starts_with("The connection"), "{text}");
        let ended = Refusal::parse("tar: not found\ncommand terminated with exit code 127");
        assert!(
            matches!(ended, Refusal::Ended { code: 127, .. }),
            "{ended:?}"
        );
        assert_eq!(
            Refusal::parse("Error from server (NotFound): statefulsets.apps \"octopus\" not found"),
            Refusal::NotFound("statefulsets.apps octopus".to_owned())
        );
    }
}
