//! Webhooks: a request to a web server for each message.

use std::pin::pin;

use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http1;
use hyper::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderName, HeaderValue, USER_AGENT,
};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;

use crate::causes::in_one_line;
use crate::config::{Security, web_page};
use crate::notify::failure::{NotSent, in_a_line};
use crate::notify::message::Message;
use crate::notify::reach::{self, Stream};
use crate::notify::secret::{Secret, SecretSource};
use crate::notify::settings::{Address, HeaderText, Method, Page, WebhookConfig};
use crate::notify::template::Escape;

/// How much of a server's headers is kept, and how much of its answer is read when it says no.
const MOST_HEADERS: usize = 32 * 1024;
const MOST_BODY: usize = 1024;

pub(super) async fn send(config: &WebhookConfig, message: &Message) -> Result<(), NotSent> {
    let page = page(&config.address).await?;
    let security = match (&config.ca, page.encrypted) {
        (_, false) => Security::None,
        (None, true) => Security::Host,
        (Some(file), true) => Security::File(file.clone()),
    };
    let request = request(config, &page, message).await?;
    let stream = reach::connect_securely(&page.server, &security, None).await?;
    exchange(stream, request).await
}

async fn secret(source: &SecretSource) -> Result<Secret, NotSent> {
    let read = source.read_beside().await;
    read.map_err(|error| NotSent::refused(in_one_line(&error)))
}

async fn page(address: &Address) -> Result<Page, NotSent> {
    match address {
        Address::Page(page) => Ok(page.clone()),
        Address::Secret(source) => {
            let text = secret(source).await?;
            web_page(text.reveal()).map_err(|allowed| {
                NotSent::refused(format!(
                    "{source} holds no address of a page, which is {allowed}"
                ))
            })
        }
    }
}

async fn request(
    config: &WebhookConfig,
    page: &Page,
    message: &Message,
) -> Result<Request<String>, NotSent> {
    let mut headers: Vec<(HeaderName, HeaderValue)> = Vec::new();
    let mut json = false;
    let unfit = |name: &str, why: &dyn std::fmt::Display| {
        NotSent::refused(format!("the header {name} cannot be sent: {why}"))
    };
    for (name, text) in &config.headers {
        let value = match text {
            HeaderText::Template(template) => in_a_line(&template.fill_in(message, Escape::None)),
            HeaderText::Secret(source) => secret(source).await?.reveal().to_owned(),
        };
        let header: HeaderName = name.parse().map_err(|error| unfit(name, &error))?;
        json |= header == CONTENT_TYPE && value.contains("json");
        let mut value =
            HeaderValue::from_bytes(value.as_bytes()).map_err(|error| unfit(name, &error))?;
        value.set_sensitive(matches!(text, HeaderText::Secret(_)));
        headers.push((header, value));
    }
    let typed = headers.iter().any(|(name, _)| name == CONTENT_TYPE);
    let (body, usual) = match &config.body {
        _ if config.method == Method::Get => (String::new(), None),
        None => {
            let text = serde_json::to_string(message).map_err(|error| NotSent::of(&error))?;
            (text, Some("application/json"))
        }
        Some(template) if json || (!typed && template.looks_like_json()) => (
            template.fill_in(message, Escape::Json),
            Some("application/json"),
        ),
        Some(template) => (
            template.fill_in(message, Escape::None),
            Some("text/plain; charset=utf-8"),
        ),
    };
    let usual_port = if page.encrypted { 443 } else { 80 };
    let host = if page.server.port == usual_port {
        page.server.host.to_string()
    } else {
        format!("{}:{}", page.server.host, page.server.port)
    };
    let method = match config.method {
        Method::Post => hyper::Method::POST,
        Method::Put => hyper::Method::PUT,
        Method::Get => hyper::Method::GET,
    };
    let mut builder = Request::builder()
        .method(method)
        .uri(page.path.as_str())
        .header(HOST, host)
        .header(USER_AGENT, concat!("failover/", env!("CARGO_PKG_VERSION")))
        .header(CONNECTION, "close");
    if config.method != Method::Get {
        builder = builder.header(CONTENT_LENGTH, body.len());
    }
    if let Some(usual) = usual.filter(|_| !typed) {
        builder = builder.header(CONTENT_TYPE, usual);
    }
    for (name, value) in headers {
        builder = builder.header(name, value);
    }
    builder.body(body).map_err(|error| NotSent::of(&error))
}

async fn exchange(stream: Box<dyn Stream>, request: Request<String>) -> Result<(), NotSent> {
    let failed =
        |error: hyper::Error| NotSent::yet(format!("no HTTP answer: {}", in_one_line(&error)));
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(MOST_HEADERS)
        .handshake::<_, String>(TokioIo::new(stream))
        .await
        .map_err(failed)?;
    let mut answered = pin!(async {
        let response = sender.send_request(request).await.map_err(failed)?;
        judge(response).await
    });
    let mut connection = pin!(connection);
    tokio::select! {
        biased;
        answer = &mut answered => answer,
        _ = &mut connection => answered.await,
    }
}

async fn judge(response: Response<Incoming>) -> Result<(), NotSent> {
    let status = response.status();
    if status.is_success() {
        return Ok(());
    }
    let mut said = Vec::new();
    let mut body = pin!(response.into_body());
    while said.len() < MOST_BODY {
        match std::future::poll_fn(|context| body.as_mut().poll_frame(context)).await {
            Some(Ok(frame)) => said.extend(frame.data_ref().into_iter().flatten()),
            _ => break,
        }
    }
    said.truncate(MOST_BODY);
    let said = in_a_line(&String::from_utf8_lossy(&said));
    let told = if said.is_empty() {
        format!("the server says {status}")
    } else {
        format!("the server says {status}: {said}")
    };
    // Of those that say no, these are about the moment.
    let later = [408, 425, 429].contains(&status.as_u16());
    Err(if status.is_server_error() || later {
        NotSent::yet(told)
    } else {
        NotSent::refused(told)
    })
}
