//! Real servers in the internet of a lab, with certificates of an authority that the test makes.

use std::error::Error;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use failover_tests::unpacked::program;
use failover_tests::{Lab, Node, Output, Program, ProgramSpec, eventually};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

use crate::DELIVERY;

/// Where servers are.
pub(crate) const ADDRESS: &str = "203.0.113.11";
/// Who may log in, and with what.
pub(crate) const USER: &str = "gw";
pub(crate) const PASSWORD: &str = "correct-horse-battery";
/// `nobody`, whom servers run as.
const NOBODY: u32 = 65_534;

pub(crate) type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// A folder of a server, and what it is reached with.
pub(crate) struct Place {
    folder: PathBuf,
    node: Node,
}

impl Place {
    pub(crate) fn new(lab: &Lab, name: &str) -> Result<Self> {
        let folder = lab.files().join(name);
        fs::create_dir(&folder)?;
        let mut params = CertificateParams::new(Vec::new())?;
        params
            .distinguished_name
            .push(DnType::CommonName, "the lab's authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let names = [ADDRESS, "fd00:203::11"].map(str::to_owned);
        let key = KeyPair::generate()?;
        let certificate = CertificateParams::new(names.to_vec())?.signed_by(&key, &*authority)?;
        let place = Self {
            folder,
            node: lab.internet().node().clone(),
        };
        place.write("ca.pem", &authority.pem())?;
        place.write("cert.pem", &certificate.pem())?;
        place.write("key.pem", &key.serialize_pem())?;
        let key = KeyPair::generate()?;
        let certificate = CertificateParams::new(vec!["gateway".to_owned()])?;
        let certificate = certificate.signed_by(&key, &*authority)?;
        place.write("client.pem", &certificate.pem())?;
        place.write("client-key.pem", &key.serialize_pem())?;
        place.write("password", &format!("{PASSWORD}\n"))?;
        // Who serves need not be root.
        let mut all = vec![place.folder.clone()];
        all.extend(["ca.pem", "cert.pem", "key.pem"].map(|name| place.path(name)));
        for path in all {
            chown(path, Some(NOBODY), Some(NOBODY))?;
        }
        for folder in place.folder.ancestors().take(3) {
            let mut permissions = fs::metadata(folder)?.permissions();
            permissions.set_mode(permissions.mode() | 0o011);
            fs::set_permissions(folder, permissions)?;
        }
        Ok(place)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.path(name);
        fs::write(&path, text)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        Ok(())
    }

    /// Begins a server, and waits until it listens at a port.
    async fn serve(&self, spec: ProgramSpec, port: u16) -> Result<Program> {
        let program = self.node.start(spec).await?;
        let listens = format!(":{port} ");
        eventually("the server listens", DELIVERY, || async {
            let output = self.node.output(ProgramSpec::line("ss -Hlnt")).await?;
            Ok(output.stdout.contains(&listens).then_some(()))
        })
        .await
        .map_err(|error| format!("{error}\n{}{}", program.stdout(), program.stderr()))?;
        Ok(program)
    }

    /// exim, which takes mail from who logs in over TLS, and keeps it.
    pub(crate) async fn exim(&self) -> Result<Program> {
        for (name, line) in [
            ("passwd", "Debian-exim:x:65534:65534::/:/bin/false\n"),
            ("group", "Debian-exim:x:65534:\n"),
        ] {
            let all = fs::read_to_string(Path::new("/etc").join(name))?;
            fs::write(self.path(name), format!("{}\n{line}", all.trim_end()))?;
        }
        fs::create_dir(self.path("spool"))?;
        chown(self.path("spool"), Some(NOBODY), Some(NOBODY))?;
        let folder = self.folder.display();
        let config = format!(
            r#"primary_hostname = mail.lab
spool_directory = {folder}/spool
log_file_path = {folder}/%slog
pid_file_path = {folder}/exim.pid
daemon_smtp_ports = 465 : 587
tls_on_connect_ports = 465
tls_advertise_hosts = *
tls_certificate = {folder}/cert.pem
tls_privatekey = {folder}/key.pem
auth_advertise_hosts = ${{if eq{{$tls_in_cipher}}{{}}{{}}{{*}}}}
acl_smtp_rcpt = rcpt
acl_smtp_data = accept
host_lookup =
rfc1413_query_timeout = 0s
queue_only = true
keep_environment = LD_LIBRARY_PATH
begin acl
rcpt:
  accept authenticated = *
  deny message = log in first
begin authenticators
plain:
  driver = plaintext
  public_name = PLAIN
  server_prompts = :
  server_condition = ${{if and{{{{eq{{$auth2}}{{{USER}}}}}{{eq{{$auth3}}{{{PASSWORD}}}}}}}}}
  server_set_id = $auth2
"#
        );
        let file = self.path("exim.conf");
        fs::write(&file, config)?;
        // exim wants its own user, which only an installed one has.
        let script = format!(
            "mount --bind {folder}/passwd /etc/passwd && mount --bind {folder}/group /etc/group && exec \"$@\""
        );
        let spec = program("exim4")?
            .arguments(["-C"])
            .arguments([&file])
            .arguments(["-bdf"])
            .through(["unshare", "--mount", "sh", "-c", &script, "exim"]);
        self.serve(spec, 465).await
    }

    /// The mails that exim has taken: their headers and texts.
    pub(crate) fn mails(&self) -> Result<Vec<String>> {
        let mut mails = Vec::new();
        for entry in fs::read_dir(self.path("spool/input"))? {
            let path = entry?.path();
            let name = path.to_string_lossy().into_owned();
            let Some(stem) = name.strip_suffix("-H") else {
                continue;
            };
            let read = |end: &str| match fs::read_to_string(format!("{stem}{end}")) {
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(String::new()),
                read => read,
            };
            mails.push(format!("{}\n{}", read("-H")?, read("-D")?));
        }
        Ok(mails)
    }

    /// mosquitto at 8883 with TLS and a password.
    pub(crate) async fn mosquitto(&self) -> Result<Program> {
        let users = self.path("users");
        let hashed = program("mosquitto_passwd")?
            .arguments(["-b", "-c"])
            .arguments([&users])
            .arguments([USER, PASSWORD]);
        self.node.must(hashed).await?;
        fs::set_permissions(&users, fs::Permissions::from_mode(0o644))?;
        let users = users.display();
        self.broker(&format!("password_file {users}\nallow_anonymous false\n"))
            .await
    }

    /// mosquitto, which lets in who shows a certificate of the authority.
    pub(crate) async fn mosquitto_by_certificate(&self) -> Result<Program> {
        let authority = self.path("ca.pem");
        let authority = authority.display();
        self.broker(&format!(
            "cafile {authority}\nrequire_certificate true\nuse_identity_as_username true\n"
        ))
        .await
    }

    async fn broker(&self, who: &str) -> Result<Program> {
        let folder = self.folder.display();
        let file = self.path("mosquitto.conf");
        let config = format!(
            "listener 8883\ncertfile {folder}/cert.pem\nkeyfile {folder}/key.pem\n\
             {who}user nobody\npersistence false\n"
        );
        fs::write(&file, config)?;
        let spec = program("mosquitto")?.arguments(["-c"]).arguments([&file]);
        self.serve(spec, 8883).await
    }

    /// What the broker retains below a topic: each topic and its payload.
    pub(crate) async fn retained(&self, topic: &str) -> Result<Vec<(String, String)>> {
        let output = self
            .subscribe(&["--retained-only", "-W", "1", "-t", topic, "-F", "%t %p"])
            .await?;
        let lines = output.stdout.lines();
        let pairs = lines.filter_map(|line| line.split_once(' '));
        Ok(pairs
            .filter(|(_, payload)| !payload.is_empty())
            .map(|(topic, payload)| (topic.to_owned(), payload.to_owned()))
            .collect())
    }

    async fn subscribe(&self, more: &[&str]) -> Result<Output> {
        let spec = ProgramSpec::new("mosquitto_sub")
            .arguments([
                "-h", ADDRESS, "-p", "8883", "-u", USER, "-P", PASSWORD, "--cafile",
            ])
            .arguments([self.path("ca.pem")])
            .arguments(more);
        Ok(self.node.output(spec).await?)
    }

    /// busybox's web server at port 80, whose pages write down what they are sent.
    pub(crate) async fn httpd(&self) -> Result<Program> {
        let pages = self.path("cgi-bin");
        fs::create_dir(&pages)?;
        let folder = self.folder.display();
        let page = |name: &str, status: &str| -> Result<()> {
            let path = pages.join(name);
            let script = format!(
                "#!/bin/sh\nfile=$(mktemp {folder}/request.XXXXXX.part)\n\
                 {{ echo \"$REQUEST_METHOD $CONTENT_TYPE title=$HTTP_TITLE key=$HTTP_X_KEY\"; cat; }} > $file\n\
                 mv $file ${{file%.part}}\nprintf 'Status: {status}\\r\\n\\r\\nsaid so\\n'\n"
            );
            fs::write(&path, script)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
            Ok(())
        };
        page("hook", "200 OK")?;
        page("no", "403 Forbidden")?;
        let spec = ProgramSpec::new("busybox")
            .arguments(["httpd", "-f", "-p", &format!("{ADDRESS}:80"), "-h"])
            .arguments([&self.folder]);
        self.serve(spec, 80).await
    }

    /// What the web server was sent.
    pub(crate) fn requests(&self) -> Result<Vec<String>> {
        let mut requests = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            if name.starts_with("request.") && !name.ends_with(".part") {
                requests.push(fs::read_to_string(path)?);
            }
        }
        Ok(requests)
    }
}
