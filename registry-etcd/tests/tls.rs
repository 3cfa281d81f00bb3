//! TLS with private authorities, client certificates, and addresses that speak something else.

mod support;

use std::{fs, path::PathBuf, time::Duration};

use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use registry_core::{ErrorKind, backend::Read};
use support::{Etcd, connect, instance, target};
use tokio::{io::AsyncWriteExt, time::Instant};

/// An authority and the certificates it signed, as files in a folder of their own.
struct Pki {
    dir: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

impl Pki {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("sr-pki-{}-{name}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, format!("{name} authority"));
        let key = KeyPair::generate().unwrap();
        fs::write(dir.join("ca.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        Self { dir, issuer: Issuer::new(params, key) }
    }

    fn sign(&self, file: &str, common_name: &str, names: &[&str]) {
        let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        fs::write(self.dir.join(format!("{file}.pem")), certificate.pem()).unwrap();
        fs::write(self.dir.join(format!("{file}.key")), key.serialize_pem()).unwrap();
    }

    fn file(&self, name: &str) -> String {
        self.dir.join(name).to_str().unwrap().to_owned()
    }
}

impl Drop for Pki {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

async fn server(pki: &Pki, mutual: bool) -> Etcd {
    let (cert, key, ca) = (pki.file("server.pem"), pki.file("server.key"), pki.file("ca.pem"));
    let mut flags = vec!["--cert-file", &cert, "--key-file", &key];
    if mutual {
        flags.extend(["--client-cert-auth", "--trusted-ca-file", &ca]);
    }
    Etcd::start_with(&flags).await
}

#[tokio::test]
#[ignore = "needs etcd: cargo xtask servers"]
async fn a_private_authority_is_trusted_by_file_and_no_other_is() {
    let (pki, stranger) = (Pki::new("plain"), Pki::new("stranger"));
    pki.sign("server", "etcd", &["127.0.0.1", "localhost"]);
    let etcd = server(&pki, false).await;
    let node = connect(&format!("etcd+tls://{}?ca={}", etcd.authority(), pki.file("ca.pem"))).await;
    let lease = node.grant(10).await.unwrap();
    lease.publish(&[node.record(&instance("orders", "a"), 1)]).await.remove(0).unwrap();

    let wrong = connect(&format!("etcd+tls://{}?ca={}", etcd.authority(), stranger.file("ca.pem"))).await;
    let error = wrong.grant(10).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol, "{error:?}");
    assert!(error.to_string().contains("not trusted"), "{error:?}");
    let name =
        connect(&format!("etcd+tls://{}?ca={}&domain=etcd.example", etcd.authority(), pki.file("ca.pem")))
            .await;
    assert!(name.grant(10).await.unwrap_err().to_string().contains("not trusted"), "another name is refused");
}

#[tokio::test]
#[ignore = "needs etcd: cargo xtask servers"]
async fn a_client_certificate_opens_the_door_and_its_lack_is_named() {
    let pki = Pki::new("mutual");
    pki.sign("server", "etcd", &["127.0.0.1"]);
    pki.sign("client", "app", &[]);
    let etcd = server(&pki, true).await;
    let ca = pki.file("ca.pem");
    let url = format!(
        "etcd+tls://{}?ca={ca}&cert={}&key={}",
        etcd.authority(),
        pki.file("client.pem"),
        pki.file("client.key")
    );
    connect(&url).await.grant(10).await.unwrap();
    let error =
        connect(&format!("etcd+tls://{}?ca={ca}", etcd.authority())).await.grant(10).await.unwrap_err();
    // The alert that says why may or may not arrive before the connection is closed.
    assert!(matches!(error.kind(), ErrorKind::Unauthenticated | ErrorKind::Unavailable), "{error:?}");
    assert!(error.to_string().contains("client certificate"), "{error:?}");
}

#[tokio::test]
#[ignore = "needs etcd: cargo xtask servers"]
async fn replaced_certificates_are_taken_up_without_a_restart() {
    let pki = Pki::new("rotation");
    pki.sign("server", "etcd", &["127.0.0.1"]);
    pki.sign("client", "app", &[]);
    let mut etcd = server(&pki, true).await;
    let url = format!(
        "etcd+tls://{}?ca={}&cert={}&key={}",
        etcd.authority(),
        pki.file("ca.pem"),
        pki.file("client.pem"),
        pki.file("client.key")
    );
    let node = connect(&url).await;
    let lease = node.grant(30).await.unwrap();
    // A new authority signs everything anew, under the same file names.
    let next = Pki::new("rotation-next");
    next.sign("server", "etcd", &["127.0.0.1"]);
    next.sign("client", "app", &[]);
    for file in ["ca.pem", "server.pem", "server.key", "client.pem", "client.key"] {
        fs::copy(next.dir.join(file), pki.dir.join(file)).unwrap();
    }
    etcd.restart().await;
    let start = Instant::now();
    while let Err(error) = lease.renew(Instant::now() + Duration::from_secs(2)).await {
        assert!(start.elapsed() < Duration::from_secs(5), "{error:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
#[ignore = "needs etcd: cargo xtask servers"]
async fn an_address_that_speaks_another_protocol_is_named() {
    let pki = Pki::new("mismatch");
    pki.sign("server", "etcd", &["127.0.0.1"]);
    let (tls, plain) = (server(&pki, false).await, Etcd::start().await);
    let read = Read::default();

    let over_plain = connect(&format!("etcd+tls://{}?ca={}", plain.authority(), pki.file("ca.pem"))).await;
    let error = over_plain.discovery().lookup(&target("orders"), &read).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol, "{error:?}");
    assert!(error.to_string().contains("does not speak TLS"), "{error:?}");

    let over_tls = connect(&format!("etcd://{}", tls.authority())).await;
    let error = over_tls.discovery().lookup(&target("orders"), &read).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol, "{error:?}");
    assert!(error.to_string().contains("etcd+tls"), "{error:?}");

    let web = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = web.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = web.accept().await {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").await;
        }
    });
    let over_web = connect(&format!("etcd://{address}")).await;
    let error = over_web.discovery().lookup(&target("orders"), &read).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol, "{error:?}");
    assert!(error.to_string().contains("client port"), "{error:?}");
}

#[tokio::test]
async fn a_file_that_is_no_certificate_is_refused_at_once() {
    let pki = Pki::new("broken");
    fs::write(pki.dir.join("broken.pem"), "no pem").unwrap();
    for url in [
        format!("etcd+tls://127.0.0.1:1?ca={}", pki.file("absent.pem")),
        format!("etcd+tls://127.0.0.1:1?ca={0}&cert={1}&key={1}", pki.file("ca.pem"), pki.file("broken.pem")),
    ] {
        let parsed = url.parse().unwrap();
        let context = registry_core::ConnectContext::new(
            registry_core::Namespace::new("prod").unwrap(),
            Duration::from_secs(5),
        );
        use registry_core::Connector;
        let error = registry_etcd::EtcdConnector::new().connect(&parsed, &context).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{url}: {error:?}");
    }
}
