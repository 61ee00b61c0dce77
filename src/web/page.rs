//! What the front door answers itself: errors, redirects, and the page that is shown while no node
//! is ready. Pure.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hyper::HeaderMap;
use hyper::Method;
use hyper::StatusCode;
use hyper::header;
use hyper::header::HeaderName;
use hyper::header::HeaderValue;
use serde_json::json;
use sha2::Digest as _;
use sha2::Sha256;

/// Where the page asks how things are. Octopus' own paths never begin with a dot.
pub const STATUS_PATH: &str = "/.octo-local/front-door/status";
/// Seconds until a client may ask again while no node is ready.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("5");
/// The most lines of what happens now that are shown.
const MOST_LINES: usize = 40;

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:40em;margin:15vh auto;\
    padding:0 1em;color:#1f2a37;background:#fff}h1{font-size:1.4em}li{margin:.2em 0}\
    @media(prefers-color-scheme:dark){body{color:#e5e7eb;background:#111827}}";
const SCRIPT: &str = "let list=document.getElementById('doing');async function look(){try{\
    let answer=await fetch('/.octo-local/front-door/status',{cache:'no-store'});\
    let now=await answer.json();if(now.ready){location.reload();return}\
    list.replaceChildren(...now.doing.map(text=>{let item=document.createElement('li');\
    item.textContent=text;return item}))}catch(error){}setTimeout(look,1000)}setTimeout(look,500)";

/// An answer of the front door's own.
#[derive(Clone, Debug)]
pub struct Own {
    /// The status.
    pub status: StatusCode,
    /// The fields, without the length.
    pub fields: HeaderMap,
    /// The body.
    pub body: String,
}

impl Own {
    /// One line of plain text.
    pub fn text(status: StatusCode, line: &str) -> Self {
        let mut own = Self::new(status, "text/plain; charset=utf-8", format!("{line}\n"));
        if status == StatusCode::SERVICE_UNAVAILABLE {
            own.fields.insert(header::RETRY_AFTER, RETRY_AFTER);
        }
        own
    }

    /// Sent to the same path elsewhere; the method stays.
    pub fn redirect(location: HeaderValue) -> Self {
        let mut own = Self::text(StatusCode::PERMANENT_REDIRECT, "use https");
        own.fields.insert(header::LOCATION, location);
        own
    }

    fn new(status: StatusCode, kind: &'static str, body: String) -> Self {
        let mut fields = HeaderMap::new();
        fields.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        fields.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        Self {
            status,
            fields,
            body,
        }
    }
}

/// Whether a person's browser asks for a page, rather than a program for data.
pub fn is_browser(method: &Method, fields: &HeaderMap) -> bool {
    let accepts = |value: &HeaderValue| {
        value
            .to_str()
            .is_ok_and(|text| text.to_ascii_lowercase().contains("text/html"))
    };
    (method == Method::GET || method == Method::HEAD)
        && fields.get_all(header::ACCEPT).iter().any(accepts)
}

/// The answer while no node is ready.
pub fn nobody(browser: bool, doing: &[String]) -> Own {
    if !browser {
        let line = "no Octopus node is ready; try again in some seconds";
        return Own::text(StatusCode::SERVICE_UNAVAILABLE, line);
    }
    let items: String = doing
        .iter()
        .take(MOST_LINES)
        .map(|line| format!("<li>{}</li>", escaped(line)))
        .collect();
    let body = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Octopus is on its way\
         </title><meta name=\"viewport\" content=\"width=device-width\"><noscript><meta \
         http-equiv=\"refresh\" content=\"3\"></noscript><style>{STYLE}</style><h1>Octopus is on \
         its way</h1><p>No node is ready yet. This page turns into Octopus by itself.</p>\
         <ul id=\"doing\">{items}</ul><script>{SCRIPT}</script></html>\n"
    );
    let kind = "text/html; charset=utf-8";
    let mut own = Own::new(StatusCode::SERVICE_UNAVAILABLE, kind, body);
    own.fields.insert(header::RETRY_AFTER, RETRY_AFTER);
    own.fields
        .insert(header::CONTENT_SECURITY_POLICY, content_policy());
    own.fields.insert(
        HeaderName::from_static("x-frame-options"),
        HeaderValue::from_static("DENY"),
    );
    own
}

/// The answer at [`STATUS_PATH`].
pub fn status(ready: bool, doing: &[String]) -> Own {
    let doing = &doing[..doing.len().min(MOST_LINES)];
    let body = json!({ "version": 1, "ready": ready, "doing": doing });
    Own::new(StatusCode::OK, "application/json", format!("{body}\n"))
}

/// Nothing but the page's own script and style, and questions to where it came from.
fn content_policy() -> HeaderValue {
    let digest = |text: &str| BASE64_STANDARD.encode(Sha256::digest(text));
    let policy = format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; connect-src 'self'; \
         frame-ancestors 'none'",
        digest(SCRIPT),
        digest(STYLE)
    );
    HeaderValue::try_from(policy).unwrap_or(HeaderValue::from_static("default-src 'none'"))
}

fn escaped(text: &str) -> String {
    text.chars()
        .map(|letter| match letter {
            '<' => "&lt;".to_owned(),
            '>' => "&gt;".to_owned(),
            '&' => "&amp;".to_owned(),
            '"' => "&quot;".to_owned(),
            other => other.to_string(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_browser_gets_a_page_and_a_program_a_line() {
        let accept = |value: &'static str| {
            let mut fields = HeaderMap::new();
            fields.insert(header::ACCEPT, HeaderValue::from_static(value));
            fields
        };
        let html = accept("text/html,application/xhtml+xml;q=0.9");
        assert!(is_browser(&Method::GET, &html) && !is_browser(&Method::POST, &html));
        assert!(!is_browser(&Method::GET, &accept("*/*")));
        let page = nobody(true, &["db: <starting> & \"so\"".to_owned()]);
        assert!(
            page.body
                .contains("db: &lt;starting&gt; &amp; &quot;so&quot;")
        );
        assert!(page.body.contains(STATUS_PATH));
        let line = nobody(false, &[]);
        for own in [page, line] {
            assert_eq!(own.status, StatusCode::SERVICE_UNAVAILABLE);
            assert!(own.fields.contains_key(header::RETRY_AFTER));
            assert_eq!(own.fields[header::CACHE_CONTROL], "no-store");
        }
    }

    #[test]
    fn the_status_is_json_with_a_version_and_bounded() {
        let lines = vec!["a".to_owned(); 1000];
        let own = status(false, &lines);
        let value: serde_json::Value = serde_json::from_str(&own.body).unwrap();
        assert_eq!(value["version"], 1);
        assert_eq!(value["ready"], false);
        assert_eq!(value["doing"].as_array().unwrap().len(), MOST_LINES);
    }
}
