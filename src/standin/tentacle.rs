//! The stand-in for a listening Tentacle: it reads the variables of the vendor's Linux image,
//! registers at Octopus Server's API once as the vendor's script does, keeps its identity in
//! `/etc/octopus`, and answers a TLS handshake on its port. It runs no deployment, and says so.
//!
//! Of the vendor's script (OctopusTentacle, `docker/linux/scripts/configure-tentacle.sh` and
//! `configure-and-run.sh`): what is asked for, in which order it is refused, that a mark in
//! `/etc/octopus` keeps it from registering again, and that `register-with --force` updates what is
//! registered under its name.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use hyper::Method;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::Value;
use serde_json::json;
use sha2::Digest as _;
use tokio::net::TcpListener;
use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;
use tokio_rustls::TlsAcceptor;

use crate::config::Secret;
use crate::octopus;
use crate::spec::tentacle;

/// How long one exchange with the server may take.
const LIMIT: Duration = Duration::from_secs(10);
/// How long a client may take for its handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// The vendor's mark that it is configured.
const CONFIGURED: &str = ".configuredSemaphore";
const CERTIFICATE: &str = "standin-cert.pem";
const KEY: &str = "standin-key.pem";

/// Why it ends: the line that is logged.
struct Fatal(String);

impl Fatal {
    fn of(what: &str, error: impl std::fmt::Display) -> Self {
        Self(format!("ERROR: {what}: {error}"))
    }
}

/// Runs it until it is told to end: 0 then, and 1 when it cannot go on.
pub fn run() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let ended = match runtime {
        Ok(runtime) => runtime.block_on(serve(&variables(), Path::new(tentacle::IDENTITY))),
        Err(error) => Err(Fatal::of("no threads", error)),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(Fatal(why)) => {
            line(&why);
            ExitCode::FAILURE
        }
    }
}

/// A program in a container is told everything by its own environment.
fn variables() -> Variables {
    std::env::vars().collect()
}

type Variables = BTreeMap<String, String>;

fn line(text: &str) {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

/// As process 1 it gets no signal that it does not ask for, so it asks first of all.
async fn serve(vars: &Variables, identity: &Path) -> Result<(), Fatal> {
    let asked = |kind| signal(kind).map_err(|error| Fatal::of("no signals", error));
    let (mut terminate, mut interrupt) = (
        asked(SignalKind::terminate())?,
        asked(SignalKind::interrupt())?,
    );
    tokio::select! {
        // Cancel-safe: the loss of this one is the end of the process.
        never = live(vars, identity) => never.map(|never| match never {}),
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    }
}

async fn live(vars: &Variables, identity: &Path) -> Result<std::convert::Infallible, Fatal> {
    line("This is a stand-in for Octopus Tentacle, made by octo-local: it deploys nothing");
    let wanted = Wanted::read(vars)?;
    let mark = identity.join(CONFIGURED);
    let (acceptor, thumbprint) = certificate(identity)?;
    if mark.exists() {
        line("This Tentacle is already configured. Skipping configuration");
    } else {
        register(&wanted, &thumbprint).await?;
        std::fs::write(&mark, "").map_err(|error| Fatal::of("write the mark", error))?;
        line("Configuration successful.");
    }
    let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, tentacle::PORT));
    let listener = TcpListener::bind(address).await;
    let listener = listener.map_err(|error| Fatal::of("listen", error))?;
    line("Listening for connections");
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // No file descriptors: some are given back soon.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let acceptor = acceptor.clone();
        // Whoever greets is answered; a stand-in speaks no more than that.
        tokio::spawn(tokio::time::timeout(HANDSHAKE, async move {
            let _ = acceptor.accept(stream).await;
        }));
    }
}

/// What it registers as.
struct Wanted {
    server: String,
    key: Secret,
    space: String,
    name: String,
    host: String,
    /// Environments or pools, by name.
    belongs: Vec<String>,
    roles: Vec<String>,
    is_worker: bool,
}

impl Wanted {
    /// Reads the variables in the vendor's order of complaints.
    fn read(vars: &Variables) -> Result<Self, Fatal> {
        let var = |name: &str| vars.get(name).filter(|value| !value.is_empty());
        let list = |name: &str| -> Vec<String> {
            let words = var(name).map_or("", String::as_str).split(',');
            words
                .filter(|word| !word.is_empty())
                .map(str::to_owned)
                .collect()
        };
        let wrong = |why: &str| Err(Fatal(format!("ERROR: {why}")));
        if var("ACCEPT_EULA").is_none_or(|value| !value.eq_ignore_ascii_case("y")) {
            return wrong("You must accept the EULA by setting ACCEPT_EULA to Y");
        }
        let Some(server) = var("ServerUrl") else {
            return wrong("Please specify an Octopus Server with the 'ServerUrl' variable");
        };
        let Some(key) = var("ServerApiKey") else {
            return wrong("Please specify the 'ServerApiKey' variable");
        };
        if var("ServerPort").or(var("ServerCommsAddress")).is_some() {
            return wrong("the stand-in does not poll: leave ServerPort out");
        }
        let (pools, environments) = (list("TargetWorkerPool"), list("TargetEnvironment"));
        let roles = list("TargetRole");
        let is_worker = !pools.is_empty();
        if is_worker && !(environments.is_empty() && roles.is_empty()) {
            return wrong("TargetWorkerPool goes with neither TargetEnvironment nor TargetRole");
        }
        if !is_worker && (environments.is_empty() || roles.is_empty()) {
            return wrong("Please specify TargetEnvironment and TargetRole, or TargetWorkerPool");
        }
        let host = var("CustomPublicHostName").or(var("HOSTNAME"));
        let host = host.cloned().unwrap_or_default();
        Ok(Self {
            server: server.clone(),
            key: Secret::new(key),
            space: var("Space")
                .cloned()
                .unwrap_or_else(|| "Default".to_owned()),
            name: var("TargetName").unwrap_or(&host).clone(),
            belongs: if is_worker { pools } else { environments },
            host,
            roles,
            is_worker,
        })
    }
}

/// Its certificate, made once; and the thumbprint by which a server knows it.
fn certificate(identity: &Path) -> Result<(TlsAcceptor, String), Fatal> {
    let failed = |error: &dyn std::fmt::Display| Fatal::of("its certificate", error);
    let (cert, key) = (identity.join(CERTIFICATE), identity.join(KEY));
    if !cert.exists() || !key.exists() {
        let made = rcgen::generate_simple_self_signed(["Octopus Tentacle".to_owned()])
            .map_err(|error| failed(&error))?;
        std::fs::write(&key, made.signing_key.serialize_pem()).map_err(|error| failed(&error))?;
        std::fs::write(&cert, made.cert.pem()).map_err(|error| failed(&error))?;
    }
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(&cert)
        .and_then(Iterator::collect)
        .map_err(|error| failed(&error))?;
    let thumbprint = chain.iter().flat_map(|cert| {
        let digest = sha2::Sha256::digest(cert.as_ref());
        digest
            .into_iter()
            .map(|byte| format!("{byte:02X}"))
            .collect::<Vec<_>>()
    });
    let thumbprint: String = thumbprint.collect();
    let key = PrivateKeyDer::from_pem_file(&key).map_err(|error| failed(&error))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(|error| failed(&error))?;
    Ok((TlsAcceptor::from(Arc::new(config)), thumbprint))
}

/// The server's API, as the vendor's client asks it.
struct Server<'a> {
    address: SocketAddr,
    key: &'a Secret,
}

impl Server<'_> {
    async fn ask(&self, method: Method, path: &str, body: &Value) -> Result<Value, Fatal> {
        let bytes = match body {
            Value::Null => Vec::new(),
            body => body.to_string().into_bytes(),
        };
        let answer = octopus::ask(self.address, self.key, LIMIT, method, path, bytes).await;
        let answer = answer.map_err(|why| match why.words.as_str() {
            "the API answers 401" => Fatal("The API key you provided was not valid.".to_owned()),
            _ => Fatal(format!("ERROR: {path}: {why}")),
        })?;
        Ok(serde_json::from_slice(&answer).unwrap_or_default())
    }

    async fn list(&self, path: &str) -> Result<Vec<Value>, Fatal> {
        let answer = self.ask(Method::GET, path, &Value::Null).await?;
        Ok(answer["Items"].as_array().cloned().unwrap_or_default())
    }
}

/// The ID of what has a name.
fn id_of(rows: &[Value], name: &str, what: &str) -> Result<String, Fatal> {
    let is_it = |row: &&Value| {
        let known = row["Name"].as_str();
        known.is_some_and(|known| known.eq_ignore_ascii_case(name))
    };
    let found = rows.iter().find(is_it).and_then(|row| row["Id"].as_str());
    found.map(str::to_owned).ok_or_else(|| {
        Fatal(format!(
            "Could not find the {what} named {name} on the Octopus Server. Ensure the {what} \
             exists and you have permission to access it."
        ))
    })
}

async fn register(wanted: &Wanted, thumbprint: &str) -> Result<(), Fatal> {
    let host = wanted
        .server
        .strip_prefix("http://")
        .unwrap_or(&wanted.server);
    line(&format!("Registering with {host} as {}", wanted.name));
    let found = tokio::net::lookup_host(host.trim_end_matches('/')).await;
    let mut found = found.map_err(|error| Fatal::of(host, error))?;
    let address = found
        .next()
        .ok_or_else(|| Fatal::of(host, "it has no address"))?;
    let key = &wanted.key;
    let server = Server { address, key };
    let space = id_of(&server.list("/api/spaces").await?, &wanted.space, "space")?;
    let (kind, of, what, field) = if wanted.is_worker {
        ("workers", "workerpools", "worker pool", "WorkerPoolIds")
    } else {
        ("machines", "environments", "environment", "EnvironmentIds")
    };
    let there = server.list(&format!("/api/{space}/{of}")).await?;
    let ids = wanted.belongs.iter().map(|name| id_of(&there, name, what));
    let ids: Vec<String> = ids.collect::<Result<_, _>>()?;
    let body = json!({
        "Name": wanted.name,
        field: ids,
        "Roles": wanted.roles,
        "Endpoint": {
            "CommunicationStyle": "TentaclePassive",
            "Thumbprint": thumbprint,
            "Uri": format!("https://{}:{}/", wanted.host, tentacle::PORT),
        },
    });
    let known = server.list(&format!("/api/{space}/{kind}")).await?;
    match id_of(&known, &wanted.name, kind) {
        Ok(id) => {
            server
                .ask(Method::PUT, &format!("/api/{space}/{kind}/{id}"), &body)
                .await?
        }
        Err(_) => {
            server
                .ask(Method::POST, &format!("/api/{space}/{kind}"), &body)
                .await?
        }
    };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Wanted, String> {
        let always = [
            ("ACCEPT_EULA", "Y"),
            ("ServerUrl", "http://octopus-server-1:8080"),
            ("ServerApiKey", "API-1"),
        ];
        let vars = always.iter().chain(pairs);
        let vars = vars.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Wanted::read(&vars.collect()).map_err(|Fatal(why)| why)
    }

    #[test]
    fn it_takes_and_refuses_what_the_vendors_script_does() {
        let target = [
            ("TargetEnvironment", "Test,Production"),
            ("TargetRole", "web"),
        ];
        let read_target = read(&target).unwrap_or_else(|why| panic!("{why}"));
        assert_eq!(read_target.belongs, ["Test", "Production"]);
        assert!(!read_target.is_worker && read_target.space == "Default");
        for bad in [
            &[][..],
            &[("TargetEnvironment", "Test")],
            &[("TargetRole", "web")],
            &[("TargetWorkerPool", "P"), ("TargetRole", "web")],
            &[("TargetWorkerPool", "P"), ("ServerPort", "10943")],
            &[("TargetWorkerPool", "P"), ("ACCEPT_EULA", "N")],
            &[("TargetWorkerPool", "P"), ("ServerUrl", "")],
        ] {
            assert!(
                read(bad).is_err_and(|why| why.starts_with("ERROR: ")),
                "{bad:?}"
            );
        }
    }

    #[test]
    fn its_identity_is_made_once() {
        let dir = tempfile::tempdir().unwrap();
        let thumbprint = || certificate(dir.path()).map_err(|Fatal(why)| why).unwrap().1;
        let first = thumbprint();
        assert_eq!((first.len(), thumbprint()), (64, first));
    }
}
