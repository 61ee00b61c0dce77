//! A real browser without a screen, told what to do by WebDriver over plain HTTP (w3.org/TR/webdriver2):
//! Debian's chromium and chromium-driver. Its profile is a directory that goes with it, and so do all
//! its processes.

use std::io::BufRead as _;
use std::io::BufReader;
use std::io::Read as _;
use std::io::Write as _;
use std::net::TcpStream;
use std::os::unix::process::CommandExt as _;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::Pid;
use rustix::process::Signal;
use serde_json::Value;
use serde_json::json;
use tempfile::TempDir;

use super::process::wait_until;

/// How long one command may take: the first one starts the browser, on a machine that has other
/// work.
const PATIENCE: Duration = Duration::from_secs(180);
const DRIVER: &str = "chromedriver";
const BROWSER: &str = "/usr/bin/chromium";

/// A browser with one window.
pub(crate) struct Browser {
    driver: Child,
    port: u16,
    /// The path of its session.
    session: String,
    profile: TempDir,
}

impl Browser {
    /// Starts one.
    pub(crate) fn start() -> Self {
        let profile = tempfile::Builder::new()
            .prefix("octo-browser-")
            .tempdir()
            .unwrap();
        let mut command = Command::new(DRIVER);
        command
            .arg("--port=0")
            .env("HOME", profile.path())
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut driver = command.spawn().unwrap_or_else(|error| {
            panic!(
                "there is no browser to test with ({DRIVER}: {error}): on Debian, `apt-get install \
                 chromium chromium-driver`"
            )
        });
        let port = port_of(&mut driver);
        let mut browser = Self {
            driver,
            port,
            session: String::new(),
            profile,
        };
        let data = browser.profile.path().join("profile").display().to_string();
        let arguments = [
            "--headless=new",
            // There is no other user to be, in a container of CI.
            "--no-sandbox",
            "--disable-dev-shm-usage",
            "--disable-gpu",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            &format!("--user-data-dir={data}"),
        ];
        let options = json!({ "binary": BROWSER, "args": arguments });
        let wanted =
            json!({ "capabilities": { "alwaysMatch": { "goog:chromeOptions": options } } });
        let made = browser.ask("POST", "/session", Some(&wanted));
        let id = made["sessionId"].as_str().expect("a session has an ID");
        browser.session = format!("/session/{id}");
        browser
    }

    /// Opens an address, as somebody who types it.
    pub(crate) fn open(&self, url: &str) {
        self.command("POST", "/url", Some(&json!({ "url": url })));
    }

    /// The title of the page that is shown.
    pub(crate) fn title(&self) -> String {
        let title = self.command("GET", "/title", None);
        title.as_str().unwrap_or_default().to_owned()
    }

    /// What a person reads on the page.
    pub(crate) fn text(&self) -> String {
        let script = "return document.body ? document.body.innerText : ''";
        let asked = json!({ "script": script, "args": [] });
        let text = self.command("POST", "/execute/sync", Some(&asked));
        text.as_str().unwrap_or_default().to_owned()
    }

    fn command(&self, method: &str, path: &str, body: Option<&Value>) -> Value {
        self.ask(method, &format!("{}{path}", self.session), body)
    }

    fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Value {
        let answer = exchange(self.port, method, path, body).expect("the driver answers");
        let answer: Value = serde_json::from_str(&answer).expect("the driver answers in JSON");
        let value = answer["value"].clone();
        // A page that is just giving way to the next has nothing to read.
        let is_on_its_way = value["error"] == "stale element reference"
            || value["message"]
                .as_str()
                .is_some_and(|why| why.contains("context"));
        assert!(
            value.get("error").is_none() || is_on_its_way,
            "{method} {path}: {value}"
        );
        value
    }

    /// The processes that have the profile's directory among their words.
    fn processes(&self) -> Vec<Pid> {
        let profile = self.profile.path().display().to_string();
        let is_its = |pid: &i32| {
            let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&words).contains(&profile)
        };
        let all = std::fs::read_dir("/proc").unwrap().flatten();
        let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        pids.filter(is_its).filter_map(Pid::from_raw).collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if !self.session.is_empty() {
            let _ = exchange(self.port, "DELETE", &self.session, None);
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
        for process in self.processes() {
            let _ = rustix::process::kill_process(process, Signal::KILL);
        }
        if !std::thread::panicking() {
            wait_until("the browser is gone", || {
                self.processes().is_empty().then_some(())
            });
        }
    }
}

/// The driver says on which port it listens.
fn port_of(driver: &mut Child) -> u16 {
    let out = driver.stdout.take().expect("its output is read");
    let mut lines = BufReader::new(out).lines();
    let port = |line: String| {
        let (_, rest) = line.split_once("successfully on port ")?;
        rest.trim_end_matches('.').parse().ok()
    };
    let port = lines.by_ref().map_while(Result::ok).find_map(port);
    // What it says later is nobody's business, and must not fill the pipe.
    std::thread::spawn(move || lines.for_each(drop));
    port.expect("the driver says on which port it listens")
}

fn exchange(port: u16, method: &str, path: &str, body: Option<&Value>) -> Option<String> {
    let mut tcp = TcpStream::connect(("127.0.0.1", port)).ok()?;
    tcp.set_read_timeout(Some(PATIENCE)).ok()?;
    let body = body.map(ToString::to_string).unwrap_or_default();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    tcp.write_all(head.as_bytes()).ok()?;
    tcp.write_all(body.as_bytes()).ok()?;
    let mut answer = BufReader::new(tcp);
    let mut length = 0;
    loop {
        let mut line = String::new();
        answer.read_line(&mut line).ok()?;
        if line.trim().is_empty() {
            break;
        }
        if let Some(count) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = count.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    answer.read_exact(&mut body).ok()?;
    String::from_utf8(body).ok()
}
