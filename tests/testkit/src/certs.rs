//! Certificates for tests: made anew each time, valid for this machine only.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, KeyPair, KeyUsagePurpose, date_time_ymd,
};

use crate::server::Scratch;

/// A certificate authority whose files live as long as the last clone.
///
/// A second one is the authority nobody trusts.
#[derive(Clone, Debug)]
pub struct TestCa(Arc<Inner>);

struct Inner {
    issuer: CertifiedIssuer<'static, KeyPair>,
    cert: PathBuf,
    issued: AtomicUsize,
    scratch: Scratch,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner").field("cert", &self.cert).finish_non_exhaustive()
    }
}

impl TestCa {
    /// Makes an authority with the common name `name`.
    ///
    /// # Errors
    ///
    /// When its files can't be written.
    pub fn new(name: &str) -> io::Result<Self> {
        let mut params = params(name, Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let issuer = CertifiedIssuer::self_signed(params, key).map_err(io::Error::other)?;
        let scratch = Scratch::new("ca")?;
        let cert = scratch.path().join("ca.pem");
        fs::write(&cert, issuer.pem())?;
        Ok(Self(Arc::new(Inner { issuer, cert, issued: AtomicUsize::new(0), scratch })))
    }

    /// The authority's certificate, PEM.
    pub fn cert(&self) -> &Path {
        &self.0.cert
    }

    /// A certificate for a server on 127.0.0.1, ::1 and localhost.
    ///
    /// It serves as a client's too: etcd's HTTP gateway dials its own server with it.
    ///
    /// # Errors
    ///
    /// When its files can't be written.
    pub fn server(&self) -> io::Result<TestCert> {
        let names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).to_vec();
        let usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        self.issue("server", names, usages, |_| ())
    }

    /// A certificate for a server called `name`, and for no address.
    ///
    /// # Errors
    ///
    /// When its files can't be written.
    pub fn server_called(&self, name: &str) -> io::Result<TestCert> {
        self.issue("server", vec![name.to_owned()], vec![ExtendedKeyUsagePurpose::ServerAuth], |_| ())
    }

    /// The same, but valid until 2020 only.
    ///
    /// # Errors
    ///
    /// When its files can't be written.
    pub fn expired_server(&self) -> io::Result<TestCert> {
        let names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).to_vec();
        self.issue("server", names, vec![ExtendedKeyUsagePurpose::ServerAuth], |params| {
            params.not_before = date_time_ymd(2019, 1, 1);
            params.not_after = date_time_ymd(2020, 1, 1);
        })
    }

    /// A client's certificate with the common name `name`, which etcd takes as the user.
    ///
    /// # Errors
    ///
    /// When its files can't be written.
    pub fn client(&self, name: &str) -> io::Result<TestCert> {
        self.issue(name, Vec::new(), vec![ExtendedKeyUsagePurpose::ClientAuth], |_| ())
    }

    fn issue(
        &self,
        name: &str,
        alternatives: Vec<String>,
        usages: Vec<ExtendedKeyUsagePurpose>,
        change: impl FnOnce(&mut CertificateParams),
    ) -> io::Result<TestCert> {
        let mut params = params(name, alternatives)?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = usages;
        params.use_authority_key_identifier_extension = true;
        change(&mut params);
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let cert = params.signed_by(&key, &self.0.issuer).map_err(io::Error::other)?;
        // The name may hold what a file name can't, and may be issued twice.
        let number = self.0.issued.fetch_add(1, Ordering::Relaxed);
        let file = |kind: &str| self.0.scratch.path().join(format!("{number}.{kind}.pem"));
        let issued = TestCert { ca: self.clone(), cert: file("cert"), key: file("key") };
        fs::write(&issued.cert, cert.pem())?;
        fs::write(&issued.key, key.serialize_pem())?;
        Ok(issued)
    }
}

/// A certificate and its key; keeps the authority's files alive.
#[derive(Clone, Debug)]
pub struct TestCert {
    ca: TestCa,
    cert: PathBuf,
    key: PathBuf,
}

impl TestCert {
    /// Who issued it.
    pub fn ca(&self) -> &TestCa {
        &self.ca
    }

    /// The certificate, PEM.
    pub fn cert(&self) -> &Path {
        &self.cert
    }

    /// The private key, PKCS #8 in PEM.
    pub fn key(&self) -> &Path {
        &self.key
    }
}

fn params(name: &str, alternatives: Vec<String>) -> io::Result<CertificateParams> {
    let mut params = CertificateParams::new(alternatives).map_err(io::Error::other)?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    Ok(params)
}
