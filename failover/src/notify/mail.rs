//! Mail: one connection for each message.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::message::{Mailbox, MessageBuilder};
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{AsyncSmtpConnection, AsyncTokioStream};
use lettre::transport::smtp::extension::ClientId;
use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _,
};
use tokio::io::{BufReader, ReadBuf};
use tokio::net::TcpStream;

use crate::causes::in_one_line;
use crate::notify::failure::{NotSent, in_a_line};
use crate::notify::message::Message;
use crate::notify::reach::{self, Stream};
use crate::notify::settings::{Encryption, MailConfig};
use crate::probe::tls;

/// The longest line of a server's answer (RFC 5321, section 4.5.3.1.5, and some more).
const LONGEST_LINE: u64 = 2048;
/// The most lines of one answer.
const MOST_LINES: usize = 100;

pub(super) async fn send(config: &MailConfig, message: &Message) -> Result<(), NotSent> {
    let mail = letter(config, message)?;
    let password = match &config.login {
        None => None,
        Some(login) => {
            let secret = login.password.read_beside().await;
            Some((
                &login.user,
                secret.map_err(|error| NotSent::refused(in_one_line(&error)))?,
            ))
        }
    };
    let hello = hello(&message.host);
    let stream = open(config, &hello).await?;
    let failed = |error: lettre::transport::smtp::Error| {
        let said = format!("{}: {}", config.server, in_one_line(&error));
        if error.is_permanent() || error.is_client() {
            NotSent::refused(said)
        } else {
            NotSent::yet(said)
        }
    };
    let hello = ClientId::Domain(hello);
    let mut connection = AsyncSmtpConnection::connect_with_transport(Box::new(stream), &hello)
        .await
        .map_err(failed)?;
    if let Some((user, password)) = password {
        let credentials = Credentials::new(user.clone(), password.reveal().to_owned());
        let known = [Mechanism::Plain, Mechanism::Login];
        connection
            .auth(&known, &credentials)
            .await
            .map_err(|error| NotSent::refused(format!("cannot log in: {}", failed(error))))?;
    }
    connection
        .send(mail.envelope(), &mail.formatted())
        .await
        .map_err(failed)?;
    // It has the message; how it says good-bye does not matter.
    connection.quit().await.ok();
    Ok(())
}

fn letter(config: &MailConfig, message: &Message) -> Result<lettre::Message, NotSent> {
    let mailbox = |text: &String| {
        text.parse::<Mailbox>()
            .map_err(|error| NotSent::refused(format!("`{text}` is no address: {error}")))
    };
    let mut builder: MessageBuilder = lettre::Message::builder()
        .from(mailbox(&config.from)?)
        .date_now()
        .message_id(None)
        .subject(format!("[{}] {}", message.host, in_a_line(&message.title)))
        .header(ContentType::TEXT_PLAIN);
    for to in &config.to {
        builder = builder.to(mailbox(to)?);
    }
    let name = HeaderName::new_from_ascii_str("Auto-Submitted");
    // So that nobody's absence is told to us (RFC 3834).
    builder = builder.raw_header(HeaderValue::new(name, "auto-generated".to_owned()));
    builder
        .body(message.text.clone())
        .map_err(|error| NotSent::of(&error))
}

/// What we call ourselves: a name that servers take.
fn hello(host: &str) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
    if !host.is_empty() && host.chars().all(fits) {
        host.to_owned()
    } else {
        "localhost".to_owned()
    }
}

/// A connection that is as encrypted as it has to be before anything is said that matters.
async fn open(config: &MailConfig, hello: &str) -> Result<Line, NotSent> {
    let server = &config.server;
    let trust = tls::trust(&config.security).await?;
    let stream = reach::connect(server).await?;
    let peer = stream.peer_addr().map_err(|error| NotSent::of(&error))?;
    let line = |stream: Box<dyn Stream>, greeting| Line {
        stream,
        peer,
        greeting,
    };
    Ok(match (config.encryption, trust) {
        (Encryption::Always, Some(trust)) => line(
            Box::new(tls::connect(&trust, &server.host, stream).await?),
            b"",
        ),
        (Encryption::StartTls, Some(trust)) => {
            let stream = start_tls(stream, hello).await?;
            let stream = tls::connect(&trust, &server.host, stream).await?;
            line(Box::new(stream), GREETING)
        }
        _ => line(Box::new(stream), b""),
    })
}

/// Has the server begin with TLS (RFC 3207).
async fn start_tls(stream: TcpStream, hello: &str) -> Result<TcpStream, NotSent> {
    let mut stream = BufReader::new(stream);
    answer(&mut stream).await?;
    let offered = ask(&mut stream, &format!("EHLO {hello}\r\n")).await?;
    let offers = |line: &String| line.eq_ignore_ascii_case("STARTTLS");
    if !offered.iter().any(offers) {
        return Err(NotSent::refused(
            "the server offers no STARTTLS, and without it nothing is sent: smtps may work, or somebody between us and the server cuts it out",
        ));
    }
    ask(&mut stream, "STARTTLS\r\n").await?;
    // What came before the encryption is not the server's word.
    if !stream.buffer().is_empty() {
        return Err(NotSent::refused("somebody speaks before TLS does"));
    }
    Ok(stream.into_inner())
}

async fn ask(stream: &mut BufReader<TcpStream>, line: &str) -> Result<Vec<String>, NotSent> {
    let written = stream.write_all(line.as_bytes()).await;
    written.map_err(|error| NotSent::of(&error))?;
    answer(stream).await
}

/// The lines of an answer, without their codes.
async fn answer(stream: &mut BufReader<TcpStream>) -> Result<Vec<String>, NotSent> {
    let mut lines = Vec::new();
    while lines.len() < MOST_LINES {
        let mut line = String::new();
        let read = stream.take(LONGEST_LINE).read_line(&mut line).await;
        read.map_err(|error| NotSent::of(&error))?;
        let (code, said) = line.trim_end().split_at_checked(3).unwrap_or_default();
        let (last, text) = match said.split_at_checked(1) {
            Some(("-", text)) => (false, text),
            Some((_, text)) => (true, text),
            None => (true, ""),
        };
        lines.push(text.to_owned());
        match (code.bytes().next(), last) {
            (Some(b'2'), false) => {}
            (Some(b'2'), true) => return Ok(lines),
            (Some(b'5'), _) => return Err(NotSent::refused(format!("the server says {line}"))),
            (Some(b'4'), _) => return Err(NotSent::yet(format!("the server says {line}"))),
            _ => break,
        }
    }
    Err(NotSent::yet("what the server speaks is not SMTP"))
}

/// After STARTTLS the server does not greet again, and lettre waits for that.
const GREETING: &[u8] = b"220 encrypted\r\n";

/// A connection, and what is read of it first.
#[derive(Debug)]
struct Line {
    stream: Box<dyn Stream>,
    peer: SocketAddr,
    greeting: &'static [u8],
}

impl AsyncTokioStream for Line {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.peer)
    }
}

impl AsyncRead for Line {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.greeting.is_empty() {
            return Pin::new(&mut self.stream).poll_read(context, buffer);
        }
        let fits = buffer.remaining().min(self.greeting.len());
        if let Some((first, rest)) = self.greeting.split_at_checked(fits) {
            buffer.put_slice(first);
            self.greeting = rest;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Line {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
