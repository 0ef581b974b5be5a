//! Servers at the provider: pages, TLS, name servers. They end with their thread.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd,
};
use simple_dns::rdata::{A, RData};
use simple_dns::{CLASS, Name, Packet, PacketFlag, RCODE, ResourceRecord};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

/// A connection that is accepted, and on which nothing is ever said.
pub(crate) const MUTE_PORT: u16 = 7;
/// Pages.
pub(crate) const PAGES_PORT: u16 = 80;
/// Pages over TLS: with a good certificate, one that has expired, and one for another name.
pub(crate) const SECURE_PORT: u16 = 443;
pub(crate) const EXPIRED_PORT: u16 = 444;
pub(crate) const FOREIGN_PORT: u16 = 445;
/// A name server that answers as the name says that is asked for.
pub(crate) const ODD_DNS_PORT: u16 = 5353;

/// The name in the certificates, beside the address.
pub(crate) const NAME: &str = "good.example";

/// An authority and what it has certified.
#[derive(Clone)]
pub(crate) struct Authority(Arc<CertifiedIssuer<'static, KeyPair>>);

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Self(Arc::new(CertifiedIssuer::self_signed(params, key).unwrap()))
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    fn server(&self, names: &[&str], expired: bool) -> TlsAcceptor {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        if expired {
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2020, 2, 1);
        }
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &**self.0).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        TlsAcceptor::from(Arc::new(config))
    }
}

/// Begins to serve at these addresses; the tasks end with the runtime.
pub(crate) async fn begin(addresses: [IpAddr; 2], authority: &Authority) {
    let [v4, v6] = addresses.map(|address| address.to_string());
    let good = authority.server(&[NAME, &v4, &v6], false);
    let expired = authority.server(&[NAME, &v4, &v6], true);
    let foreign = authority.server(&["portal.example"], false);
    for address in addresses {
        let listener = TcpListener::bind((address, MUTE_PORT)).await.unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                // Until the client closes it.
                tokio::spawn(
                    async move { tokio::io::copy(&mut stream, &mut tokio::io::sink()).await },
                );
            }
        });
        let listener = TcpListener::bind((address, PAGES_PORT)).await.unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(page(stream));
            }
        });
        for (port, acceptor) in [
            (SECURE_PORT, &good),
            (EXPIRED_PORT, &expired),
            (FOREIGN_PORT, &foreign),
        ] {
            let listener = TcpListener::bind((address, port)).await.unwrap();
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    let acceptor = acceptor.clone();
                    tokio::spawn(async move {
                        // A client that does not trust us ends it here.
                        if let Ok(stream) = acceptor.accept(stream).await {
                            let (path, mut stream) = request(stream).await;
                            say(&mut stream, &answer(&path)).await;
                        }
                    });
                }
            });
        }
        let socket = UdpSocket::bind((address, ODD_DNS_PORT)).await.unwrap();
        tokio::spawn(odd_answers(socket));
    }
}

/// Reads a request up to its end, and says which path it is for.
async fn request<S: AsyncRead + Unpin>(mut stream: S) -> (String, S) {
    let mut seen = Vec::new();
    while !seen.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => seen.push(byte),
            Err(_) => break,
        }
        // What begins otherwise is no request, and gets its answer at once.
        if !seen.starts_with(b"G") {
            break;
        }
    }
    let text = String::from_utf8_lossy(&seen);
    let host = text.lines().find(|line| line.starts_with("host: "));
    assert!(host.is_none_or(|host| host.len() > 6), "{text}");
    let path = text.split(' ').nth(1).unwrap_or_default().to_owned();
    (path, stream)
}

async fn say<S: AsyncWrite + Unpin>(stream: &mut S, answer: &[u8]) {
    // Who has heard enough may be gone.
    if stream.write_all(answer).await.is_ok() && stream.flush().await.is_ok() {
        drop(stream.shutdown().await);
    }
}

fn answer(path: &str) -> Vec<u8> {
    let with = |status: &str, more: &str, body: &str| {
        let length = body.len();
        format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n{more}\r\n{body}").into_bytes()
    };
    match path {
        "/ok" => with("200 OK", "", "all is well"),
        "/empty" => with("204 No Content", "", ""),
        "/away" => with(
            "302 Found",
            "location: http://portal.example/login\r\n",
            "log in",
        ),
        "/broken" => with("500 Internal Server Error", "", ""),
        "/garbage" => b"220 mail.example ESMTP\r\n\r\n".to_vec(),
        _ => with("404 Not Found", "", ""),
    }
}

async fn page(stream: TcpStream) {
    let (path, mut stream) = request(stream).await;
    match path.as_str() {
        "/closed" => {}
        "/reset" => socket2::SockRef::from(&stream)
            .set_linger(Some(Duration::ZERO))
            .unwrap(),
        // The text stands across the seam of two packets.
        "/split" => {
            stream.set_nodelay(true).unwrap();
            let head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nall i\r\n";
            stream.write_all(head).await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
            say(&mut stream, b"6\r\ns well\r\n0\r\n\r\n").await;
        }
        path => say(&mut stream, &answer(path)).await,
    }
}

/// Answers as the first label says.
async fn odd_answers(socket: UdpSocket) {
    let mut buffer = [0; 512];
    while let Ok((length, client)) = socket.recv_from(&mut buffer).await {
        let query = Packet::parse(&buffer[..length]).unwrap();
        assert!(query.has_flags(PacketFlag::RECURSION_DESIRED));
        let name = query.questions[0].qname.to_string();
        let how = name.split('.').next().unwrap();
        let record = ResourceRecord::new(
            query.questions[0].qname.clone(),
            CLASS::IN,
            60,
            RData::A(A {
                address: 0xc000_0201,
            }),
        );
        let mut reply = query.clone().into_reply();
        reply.answers.push(record);
        match how {
            "silent" => continue,
            "servfail" => *reply.rcode_mut() = RCODE::ServerFailure,
            "formerr" => {
                *reply.rcode_mut() = RCODE::FormatError;
                reply.questions.clear();
            }
            "notimp" => *reply.rcode_mut() = RCODE::NotImplemented,
            "late" => reply.set_id(query.id().wrapping_add(1)),
            "other" => reply.questions[0].qname = Name::new("elsewhere.example").unwrap(),
            _ => {}
        }
        if !matches!(how, "good" | "late" | "other") {
            reply.answers.clear();
        }
        let mut bytes = reply.build_bytes_vec().unwrap();
        if how == "garbled" {
            bytes.truncate(14);
        }
        socket.send_to(&bytes, client).await.unwrap();
        // What does not belong to the question is passed over, and what follows counts.
        if how == "late" || how == "other" {
            let mut refused = query.into_reply();
            *refused.rcode_mut() = RCODE::Refused;
            let bytes = refused.build_bytes_vec().unwrap();
            socket.send_to(&bytes, client).await.unwrap();
        }
    }
}
