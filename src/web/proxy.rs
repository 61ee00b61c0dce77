//! One request: checked, given to a node, tried on another where that is safe, answered.

use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;

use hyper::Request;
use hyper::Response;
use hyper::StatusCode;
use hyper::Version;
use hyper::body::Body;
use hyper::body::Bytes;
use hyper::body::Frame;
use hyper::body::Incoming;
use hyper::body::SizeHint;
use hyper::header;
use hyper::header::HeaderValue;
use hyper::http::request::Parts;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::sync::watch;
use tokio::time::Instant;

use super::access::Line;
use super::balance;
use super::balance::Load;
use super::balance::Lost;
use super::balance::Next;
use super::balance::Run;
use super::forwarded::Arrival;
use super::front::Front;
use super::front::Lease;
use super::guard::Client;
use super::guard::Running;
use super::head;
use super::message::Feed;
use super::message::Node;
use super::page;
use super::page::Own;
use super::pool;
use super::pool::Progress;
use super::pool::Sender;
use super::pool::Upload;
use super::probe;
use super::tunnel;

/// Answers one request.
pub(super) async fn answer(
    front: Arc<Front>,
    client: Arc<Client>,
    mut request: Request<Incoming>,
) -> Response<Answer> {
    let running = client.begin();
    let upgrade = hyper::upgrade::on(&mut request);
    let (mut parts, body) = request.into_parts();
    let version = parts.version;
    let mut log = Note::of(&front, &client, &parts);
    let feed = front.feed();
    let arrival = Arrival {
        peer: &client.peer,
        trusted: &feed.trusted,
    };
    let asked = match head::inbound(&mut parts, arrival) {
        Ok(asked) => asked,
        Err((status, why)) => {
            let own = Own::text(status, why);
            return finish(&front, version, own_answer(own, running, log), true);
        }
    };
    if let Some(log) = &mut log {
        log.line.client = asked.client;
    }
    if let Some(own) = own_path(&front, &feed, client.peer.tls, &parts) {
        return finish(&front, version, own_answer(own, running, log), false);
    }
    let browser = page::is_browser(&parts.method, &parts.headers);
    let upload = Upload::of(body);
    let has_body = upload.is_some();
    let mut job = Job::of(&front, &feed, &upload);
    let (lease, sender, response) = match job.run(Request::from_parts(parts, upload)).await {
        Ok(answered) => answered,
        Err(failure) => {
            let own = failure.own(browser, &feed.doing);
            return finish(&front, version, own_answer(own, running, log), has_body);
        }
    };
    if let Some(log) = &mut log {
        lease.node().name.clone_into(&mut log.line.node);
    }
    let switched = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    if switched {
        let Some(protocol) = asked.upgrade else {
            let own = Failure::Broken.own(browser, &[]);
            return finish(&front, version, own_answer(own, running, log), true);
        };
        client.open();
        return switch(
            &front,
            &feed,
            response,
            &protocol,
            upgrade,
            (lease, running, log),
        );
    }
    let response = response.map(|body| FromNode {
        body,
        done: false,
        sender: Some(sender),
        lease,
        note: log,
        _running: running,
    });
    finish(&front, version, passed_on(response), false)
}

/// A node's answer as the client gets it.
fn passed_on(response: Response<FromNode>) -> Response<Answer> {
    let (mut parts, mut from) = response.into_parts();
    head::outbound(&mut parts.headers, None);
    parts.version = Version::HTTP_11;
    if let Some(note) = &mut from.note {
        note.line.status = parts.status.as_u16();
    }
    Response::from_parts(parts, Answer::Node(Box::new(from)))
}

/// What is answered without a node even when one is ready.
fn own_path(front: &Front, feed: &Feed, tls: bool, parts: &Parts) -> Option<Own> {
    if let Some(port) = feed.redirect_to.filter(|_| !tls) {
        // A trusted proxy that speaks TLS with the client is as good as TLS.
        let says_https = parts
            .headers
            .get("x-forwarded-proto")
            .is_some_and(|proto| proto == "https");
        let location = head::https_location(parts.headers.get(header::HOST)?, port, &parts.uri);
        if let Some(location) = location.filter(|_| !says_https) {
            return Some(Own::redirect(location));
        }
    }
    if parts.uri.path() == page::STATUS_PATH {
        let ready = front.nodes().any_serves();
        return Some(page::status(ready, &feed.doing));
    }
    None
}

/// `close`: what may still come of the request is not read, so the connection cannot go on.
fn finish(
    front: &Front,
    version: Version,
    mut response: Response<Answer>,
    close: bool,
) -> Response<Answer> {
    if version != Version::HTTP_2 && (close || front.is_leaving()) {
        response
            .headers_mut()
            .insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

fn own_answer(own: Own, running: Running, note: Option<Note>) -> Response<Answer> {
    if let Some(mut note) = note {
        note.line.status = own.status.as_u16();
        note.line.bytes = own.body.len() as u64;
    }
    let body = Answer::Own(Some(Bytes::from(own.body)), running);
    let mut response = Response::new(body);
    *response.status_mut() = own.status;
    *response.headers_mut() = own.fields;
    response
}

/// Why no node answered.
enum Failure {
    /// None is ready.
    Nobody,
    /// One took the request and broke off.
    Broken,
    /// One took it and says nothing.
    Silent,
    /// The client did not send it all.
    Client,
}

impl Failure {
    fn own(&self, browser: bool, doing: &[String]) -> Own {
        match self {
            Self::Nobody => page::nobody(browser, doing),
            Self::Broken => Own::text(StatusCode::BAD_GATEWAY, "the node broke off"),
            Self::Silent => Own::text(StatusCode::GATEWAY_TIMEOUT, "the node does not answer"),
            Self::Client => Own::text(StatusCode::BAD_REQUEST, "the request is not whole"),
        }
    }
}

type Answered = (Lease, Sender, Response<Incoming>);

/// One request on its way to a node.
struct Job<'a> {
    front: &'a Arc<Front>,
    feed: &'a Feed,
    /// Of its body, if it has one.
    progress: Option<Arc<Progress>>,
    tried: Vec<Run>,
    /// How many nodes it was sent to.
    sent: usize,
}

impl<'a> Job<'a> {
    fn of(front: &'a Arc<Front>, feed: &'a Feed, upload: &Upload) -> Self {
        Self {
            front,
            feed,
            progress: upload.progress(),
            tried: Vec::new(),
            sent: 0,
        }
    }

    async fn run(&mut self, mut request: Request<Upload>) -> Result<Answered, Failure> {
        let method = request.method().clone();
        let has_body = self.progress.is_some();
        let repeatable = !has_body && method.is_idempotent();
        let copy = repeatable.then(|| request_copy(&request));
        let hold = Duration::from_millis(self.feed.hold_ms);
        // What makes it possible to wait is made when there is something to wait for.
        let mut waiting: Option<(watch::Receiver<u64>, Instant)> = None;
        loop {
            let picked = self
                .front
                .nodes()
                .pick(&self.tried, |node| node.web.is_some());
            let Some(node) = picked else {
                if !balance::holds(hold, self.front.held(), self.feed.limits.held) {
                    return Err(Failure::Nobody);
                }
                let Some((news, deadline)) = &mut waiting else {
                    // Looks once more: what came before is no news.
                    waiting = Some((self.front.news(), Instant::now() + hold));
                    continue;
                };
                let _held = self.front.hold();
                let changed = tokio::time::timeout_at(*deadline, news.changed());
                changed.await.map_err(|_| Failure::Nobody)?.ok();
                self.tried.clear();
                continue;
            };
            let lease = self.front.lease(&node, Load::Request);
            let lost = match self.send(&node, request).await {
                Ok((sender, response)) => return Ok((lease, sender, response)),
                Err(lost) => lost,
            };
            self.tried.push(Run::of(&node));
            request = match lost {
                NotAnswered::Unsent(request) => *request,
                NotAnswered::Failed(failure) => return Err(failure),
                NotAnswered::Sent => {
                    self.sent += 1;
                    tokio::spawn(probe::suspect(self.front.clone(), node));
                    let next = balance::next(Lost::Sent, &method, has_body, self.sent);
                    match copy.as_ref().filter(|_| next == Next::Another) {
                        Some(copy) => request_copy(copy),
                        None => return Err(Failure::Broken),
                    }
                }
            };
        }
    }

    /// Sends to one node: over a kept connection, or over a new one where that turns out closed.
    async fn send(
        &self,
        node: &Node,
        mut request: Request<Upload>,
    ) -> Result<(Sender, Response<Incoming>), NotAnswered> {
        loop {
            let kept = self.front.pools.take(node);
            let is_kept = kept.is_some();
            let mut sender = match kept {
                Some(sender) => sender,
                None => match self.connect(node).await {
                    Some(sender) => sender,
                    None => return Err(NotAnswered::Unsent(Box::new(request))),
                },
            };
            let sending = sender.try_send_request(request);
            let Some(answer) = self.watched(sending).await else {
                return Err(NotAnswered::Failed(Failure::Silent));
            };
            let mut error = match answer {
                Ok(response) => return Ok((sender, response)),
                Err(error) => error,
            };
            match error.take_message() {
                Some(unsent) if is_kept => request = unsent,
                Some(unsent) => return Err(NotAnswered::Unsent(Box::new(unsent))),
                None if self.is_broken() => {
                    return Err(NotAnswered::Failed(Failure::Client));
                }
                None => return Err(NotAnswered::Sent),
            }
        }
    }

    fn is_broken(&self) -> bool {
        self.progress.as_ref().is_some_and(|body| body.is_broken())
    }

    fn pieces(&self) -> u64 {
        self.progress.as_ref().map_or(0, |body| body.pieces())
    }

    async fn connect(&self, node: &Node) -> Option<Sender> {
        let address = node.web?;
        let limit = Duration::from_millis(self.feed.limits.connect_ms);
        match pool::connect(address, limit).await {
            Ok(sender) => Some(sender),
            Err(error) => {
                self.front.failed(&Run::of(node), &error.to_string());
                None
            }
        }
    }

    /// None when for too long neither the request moved nor an answer began.
    async fn watched<F: Future>(&self, sending: F) -> Option<F::Output> {
        let limit = Duration::from_millis(self.feed.limits.silence_ms);
        let mut sending = std::pin::pin!(sending);
        loop {
            let seen = self.pieces();
            match tokio::time::timeout(limit, sending.as_mut()).await {
                Ok(answer) => return Some(answer),
                Err(_) if self.pieces() != seen => {}
                Err(_) => return None,
            }
        }
    }
}

/// Why one node gave no answer.
enum NotAnswered {
    /// It saw nothing of the request, which is here again.
    Unsent(Box<Request<Upload>>),
    /// It may have seen it.
    Sent,
    Failed(Failure),
}

/// The same head without a body.
fn request_copy(request: &Request<Upload>) -> Request<Upload> {
    let mut copy = Request::new(Upload::default());
    request.method().clone_into(copy.method_mut());
    request.uri().clone_into(copy.uri_mut());
    request.headers().clone_into(copy.headers_mut());
    copy
}

/// Hands an upgraded connection through.
fn switch(
    front: &Arc<Front>,
    feed: &Feed,
    mut response: Response<Incoming>,
    protocol: &HeaderValue,
    client: OnUpgrade,
    (lease, running, log): (Lease, Running, Option<Note>),
) -> Response<Answer> {
    let server = hyper::upgrade::on(&mut response);
    let idle = Duration::from_millis(feed.limits.tunnel_idle_ms);
    let stage = front.stage();
    let lease_front = lease.front().clone();
    tokio::spawn(async move {
        let name = lease.node().name.clone();
        lease_front.nodes().begin(&name, Load::Tunnel);
        drop(lease);
        if let (Ok(client), Ok(server)) = tokio::join!(client, server) {
            tunnel::carry(TokioIo::new(client), TokioIo::new(server), idle, stage).await;
        }
        lease_front.nodes().end(&name, Load::Tunnel);
    });
    let (mut parts, _) = response.into_parts();
    head::outbound(&mut parts.headers, Some(protocol));
    if let Some(mut log) = log {
        log.line.status = parts.status.as_u16();
    }
    Response::from_parts(parts, Answer::Own(None, running))
}

/// The body of an answer.
pub(super) enum Answer {
    /// Our own.
    Own(
        Option<Bytes>,
        #[expect(dead_code, reason = "counts while it lives")] Running,
    ),
    /// A node's.
    Node(Box<FromNode>),
}

/// A node's answer on its way to the client. Its end gives the connection back.
pub(super) struct FromNode {
    body: Incoming,
    done: bool,
    sender: Option<Sender>,
    lease: Lease,
    note: Option<Note>,
    _running: Running,
}

impl Drop for FromNode {
    fn drop(&mut self) {
        if let Some(sender) = self.sender.take()
            && (self.done || self.body.is_end_stream())
        {
            self.lease.front().pools.put(self.lease.node(), sender);
        }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut *self {
            Self::Own(bytes, _) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Node(from) => {
                let frame = Pin::new(&mut from.body).poll_frame(cx);
                match &frame {
                    Poll::Ready(None) => from.done = true,
                    Poll::Ready(Some(Ok(frame))) => {
                        if let (Some(note), Some(data)) = (&mut from.note, frame.data_ref()) {
                            note.line.bytes += data.len() as u64;
                        }
                    }
                    Poll::Ready(Some(Err(_))) | Poll::Pending => {}
                }
                frame
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own(bytes, _) => bytes.is_none(),
            Self::Node(from) => from.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own(bytes, _) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Self::Node(from) => from.body.size_hint(),
        }
    }
}

/// A line of the access log, written when the answer is over.
struct Note {
    front: Arc<Front>,
    began: Instant,
    line: Line,
}

impl Note {
    fn of(front: &Arc<Front>, client: &Client, parts: &Parts) -> Option<Self> {
        front.access.is_on().then(|| Self {
            front: front.clone(),
            began: Instant::now(),
            line: Line {
                client: client.peer.address,
                method: parts.method.to_string(),
                path: parts.uri.path().to_owned(),
                status: 0,
                bytes: 0,
                took: Duration::ZERO,
                node: String::new(),
            },
        })
    }
}

impl Drop for Note {
    fn drop(&mut self) {
        self.line.took = self.began.elapsed();
        self.front.access.write(&self.line);
    }
}
