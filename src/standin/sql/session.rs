//! One client: prelogin, TLS, login, then requests until it goes or the server stops.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadHalf};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::cancel::Cancel;
use super::engine::Engine;
use super::error::SqlError;
use super::log;
use super::packet::{self, LOGIN_PACKET, MAX_PACKET, Message, kind};
use super::request::{self, Login};
use super::server::Server;
use super::tls;
use super::tokens::{Reply, VERSION};

/// A client that has not logged in after this long is cut off, as SQL Server does.
const LOGIN_TIME: Duration = Duration::from_secs(15);
/// A client that does not take its reply for this long is cut off.
const WRITE_TIME: Duration = Duration::from_mins(1);
/// Requests that may wait behind the running one: an attention, and hardly more.
const INBOX: usize = 4;

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// Serves one connection to its end. Whatever goes wrong on it is the client's to notice.
pub(super) async fn serve(server: Arc<Server>, tcp: TcpStream) {
    let _ = tcp.set_nodelay(true);
    let spid = server.next_spid();
    let opening = tokio::time::timeout(LOGIN_TIME, open(&server, tcp, spid));
    // Not cancel-safe, and need not be: a login that is cut off by the server's stop has no effect.
    let opened = tokio::select! {
        () = server.stopping.cancelled() => return,
        opened = opening => opened,
    };
    if let Ok(Ok(Some(session))) = opened {
        let _ = session.run().await;
    }
}

struct Session {
    server: Arc<Server>,
    stream: Box<dyn Stream>,
    engine: Engine,
    cancel: Arc<Cancel>,
    packet: usize,
}

/// The encryption agreed on: 0 for the login only, 1 for everything, 2 for nothing.
fn agreed(asked: Option<u8>) -> u8 {
    match asked {
        Some(0) => 0,
        Some(2) | None => 2,
        Some(_) => 1,
    }
}

/// Prelogin to login. `None` when the client was refused.
async fn open(server: &Arc<Server>, mut tcp: TcpStream, spid: u32) -> io::Result<Option<Session>> {
    if server.faults.hang_prelogin {
        return std::future::pending().await;
    }
    let Some(prelogin) = packet::read(&mut tcp)
        .await?
        .filter(|message| message.kind == kind::PRELOGIN)
    else {
        return Ok(None);
    };
    let level = agreed(request::encryption(&prelogin.body));
    packet::write(
        &mut tcp,
        kind::REPLY,
        &request::prelogin_reply(level, VERSION),
        LOGIN_PACKET,
    )
    .await?;
    let (message, stream): (_, Box<dyn Stream>) = if level == 2 {
        (packet::read(&mut tcp).await?, Box::new(tcp))
    } else {
        let mut stream = tls::accept(&server.tls, tcp).await?;
        let message = packet::read(&mut stream).await?;
        if level == 0 {
            (message, Box::new(tls::unwrap(stream)))
        } else {
            (message, Box::new(stream))
        }
    };
    if server.faults.hang_login {
        return std::future::pending().await;
    }
    let login = message
        .filter(|message| message.kind == kind::LOGIN)
        .and_then(|message| request::login(&message.body));
    match login {
        Some(login) => admit(server, stream, spid, &login).await,
        None => Ok(None),
    }
}

async fn admit(
    server: &Arc<Server>,
    mut stream: Box<dyn Stream>,
    spid: u32,
    login: &Login,
) -> io::Result<Option<Session>> {
    let cancel = Arc::new(Cancel::default());
    let mut reply = Reply::default();
    let wanted = if login.database.is_empty() {
        "master"
    } else {
        &login.database
    };
    let entered = server
        .admits(login)
        .map_err(|error| vec![error])
        .and_then(|()| enter(server, spid, wanted, &cancel));
    match entered {
        Ok((engine, database)) => {
            let packet = login.packet.clamp(512, MAX_PACKET);
            let packet = if login.packet == 0 {
                LOGIN_PACKET
            } else {
                packet
            };
            welcome(&mut reply, &database, packet);
            packet::write(&mut stream, kind::REPLY, &reply.finish(false), LOGIN_PACKET).await?;
            Ok(Some(Session {
                server: server.clone(),
                stream,
                engine,
                cancel,
                packet,
            }))
        }
        Err(errors) => {
            let main = &errors[0];
            log::line(
                "Logon",
                &format!(
                    "Error: {}, Severity: {}, State: {}.",
                    main.number, main.class, main.state
                ),
            );
            log::line("Logon", &main.message);
            for error in &errors {
                reply.error(error);
            }
            reply.done(None, true);
            packet::write(&mut stream, kind::REPLY, &reply.finish(true), LOGIN_PACKET).await?;
            Ok(None)
        }
    }
}

/// Opens the database of the login. Its errors come with the one that every failed login gets.
fn enter(
    server: &Arc<Server>,
    spid: u32,
    wanted: &str,
    cancel: &Arc<Cancel>,
) -> Result<(Engine, String), Vec<SqlError>> {
    let opened = server.store.usable(wanted).and_then(|name| {
        Ok((
            Engine::new(server.clone(), spid, &name, cancel.clone())?,
            name,
        ))
    });
    opened.map_err(|error| {
        let first = if error.number == 911 {
            SqlError::cannot_open(wanted)
        } else {
            error
        };
        vec![first, SqlError::login_failed("sa")]
    })
}

fn welcome(reply: &mut Reply, database: &str, packet: usize) {
    reply.changed(1, database, "master");
    reply.notice(5701, &format!("Changed database context to '{database}'."));
    reply.collation();
    reply.changed(2, "us_english", "");
    reply.notice(5703, "Changed language setting to us_english.");
    reply.login_ack();
    reply.changed(4, &packet.to_string(), &LOGIN_PACKET.to_string());
}

/// Reads requests while another runs, so that an attention or the client's end is noticed.
fn read_ahead(mut half: ReadHalf<Box<dyn Stream>>) -> (mpsc::Receiver<Message>, JoinHandle<()>) {
    let (sender, inbox) = mpsc::channel(INBOX);
    let task = tokio::spawn(async move {
        while let Ok(Some(message)) = packet::read(&mut half).await {
            if sender.send(message).await.is_err() {
                break;
            }
        }
    });
    (inbox, task)
}

impl Session {
    async fn run(self) -> io::Result<()> {
        let Self {
            server,
            stream,
            mut engine,
            cancel,
            packet,
        } = self;
        let (half, mut writer) = tokio::io::split(stream);
        let (mut inbox, reader) = read_ahead(half);
        loop {
            // All arms are cancel-safe: tokens, and a channel's receive.
            let message = tokio::select! {
                () = server.stopping.cancelled() => None,
                () = cancel.killed.cancelled() => None,
                message = inbox.recv() => message,
            };
            let Some(message) = message else { break };
            cancel.forget();
            let (back, bytes) = exchange(engine, message, &mut inbox, &cancel).await?;
            engine = back;
            if cancel.killed.is_cancelled() {
                break;
            }
            let Some(bytes) = bytes else { break };
            tokio::time::timeout(
                WRITE_TIME,
                packet::write(&mut writer, kind::REPLY, &bytes, packet),
            )
            .await??;
        }
        reader.abort();
        Ok(())
    }
}

/// Runs one request. Without bytes the client has gone, or sent what no client sends.
async fn exchange(
    mut engine: Engine,
    message: Message,
    inbox: &mut mpsc::Receiver<Message>,
    cancel: &Cancel,
) -> io::Result<(Engine, Option<Vec<u8>>)> {
    if message.kind == kind::ATTENTION {
        return Ok((engine, Some(Reply::attention())));
    }
    let mut running = tokio::task::spawn_blocking(move || {
        let bytes = answer(&mut engine, &message);
        (engine, bytes)
    });
    // Cancel-safe: the task goes on when the other arm wins, and is waited for below.
    let heard = tokio::select! {
        done = &mut running => return done.map_err(io::Error::other),
        heard = inbox.recv() => heard,
    };
    cancel.ask();
    let (engine, _) = running.await.map_err(io::Error::other)?;
    let attention = heard.is_some_and(|message| message.kind == kind::ATTENTION);
    Ok((engine, attention.then(Reply::attention)))
}

fn answer(engine: &mut Engine, message: &Message) -> Option<Vec<u8>> {
    let refused = |error: &SqlError| {
        let mut reply = Reply::default();
        reply.error(error);
        reply.done(None, true);
        reply.finish(true)
    };
    Some(match message.kind {
        kind::BATCH => request::batch(&message.body)
            .map_or_else(|error| refused(&error), |text| engine.batch(&text)),
        kind::RPC => request::call(&message.body)
            .map_or_else(|error| refused(&error), |call| engine.call(call)),
        kind::TRANSACTION => request::transaction(&message.body)
            .map_or_else(|error| refused(&error), |what| engine.transaction(what)),
        _ => return None,
    })
}
