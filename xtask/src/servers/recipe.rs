//! Which servers there are, and what each is made of.

use std::env;
use std::path::{Path, PathBuf};

use crate::cli::Registry;

/// How one server is built from what stands in `tests/servers/NAME`.
#[derive(Debug)]
pub(crate) struct Recipe {
    /// Its name on the command line, in the cache and in `tests/servers`.
    pub(crate) name: &'static str,
    /// The registry it is; none for a peer, which meets ours on several.
    pub(crate) registry: Option<Registry>,
    /// The release line, as the report names it.
    pub(crate) line: &'static str,
    /// On two cores with empty caches.
    pub(crate) usual_duration: &'static str,
    pub(super) build: Build,
}

impl Recipe {
    /// What people call it.
    pub(crate) fn title(&self) -> &'static str {
        self.registry.map_or("Spring Cloud peer", Registry::name)
    }

    /// Whether the tests on `registry` need it.
    pub(crate) fn serves(&self, registry: Registry) -> bool {
        match self.registry {
            Some(own) => own == registry,
            None => SPRING_CLOUD.contains(&registry),
        }
    }

    /// What it is built from.
    pub(super) fn source(&self, root: &Path) -> PathBuf {
        root.join("tests").join("servers").join(self.name)
    }
}

#[derive(Debug)]
pub(super) enum Build {
    /// The packages to compile; the first says the version.
    Go(&'static [Binary]),
    Maven(Application),
}

/// A program compiled by Go.
#[derive(Debug)]
pub(super) struct Binary {
    pub(super) file: &'static str,
    pub(super) package: &'static str,
    /// By which tests find it.
    pub(super) variable: &'static str,
    /// What makes it say its version.
    pub(super) version: &'static str,
}

impl Binary {
    pub(super) fn path(&self, home: &Path) -> PathBuf {
        home.join(format!("{}{}", self.file, env::consts::EXE_SUFFIX))
    }
}

/// A program packaged by Maven.
#[derive(Debug)]
pub(super) struct Application {
    /// Its file, in Maven's target directory and in the cache.
    pub(super) jar: &'static str,
    /// By which tests find it.
    pub(super) variable: &'static str,
    /// The library whose version is the server's.
    pub(super) artifact: &'static str,
    /// The property of the pom that fixes that version.
    pub(super) property: &'static str,
    /// What starts it once, for the class data; `{home}` is a fresh directory.
    pub(super) rehearsal: &'static [&'static str],
    /// What follows the jar.
    pub(super) arguments: &'static [&'static str],
}

const ETCD: Binary = Binary {
    file: "etcd",
    package: "go.etcd.io/etcd/server/v3",
    variable: "SERVICE_REGISTRY_ETCD",
    version: "--version",
};
const ETCDCTL: Binary = Binary {
    file: "etcdctl",
    package: "go.etcd.io/etcd/etcdctl/v3",
    variable: "SERVICE_REGISTRY_ETCDCTL",
    version: "version",
};

/// The line that runs every test.
pub(crate) const ETCD_NEWEST: Recipe = Recipe {
    name: "etcd36",
    registry: Some(Registry::Etcd),
    line: "3.6",
    usual_duration: "65 s",
    build: Build::Go(&[ETCD, ETCDCTL]),
};

/// The line before, which runs the conformance suite.
pub(crate) const ETCD_PREVIOUS: Recipe = Recipe {
    name: "etcd35",
    registry: Some(Registry::Etcd),
    line: "3.5",
    usual_duration: "65 s",
    build: Build::Go(&[ETCD]),
};

/// The last release under an open licence: later ones of this line and all of the next are not.
pub(crate) const CONSUL: Recipe = Recipe {
    name: "consul",
    registry: Some(Registry::Consul),
    line: "1.16",
    usual_duration: "5 to 8 minutes and 4 GB of Go's caches",
    build: Build::Go(&[Binary {
        file: "consul",
        package: "github.com/hashicorp/consul",
        variable: "SERVICE_REGISTRY_CONSUL",
        version: "version",
    }]),
};

/// Spring Cloud's, as everybody runs it.
pub(crate) const EUREKA: Recipe = Recipe {
    name: "eureka",
    registry: Some(Registry::Eureka),
    line: "4.3",
    usual_duration: "a minute",
    build: Build::Maven(Application {
        jar: "eureka-server.jar",
        variable: "SERVICE_REGISTRY_EUREKA",
        artifact: "spring-cloud-netflix-eureka-server",
        property: "eureka.version",
        rehearsal: &[],
        arguments: &["--spring.config.location=file:./single.properties", "--server.port=0"],
    }),
};

const NACOS_REHEARSAL: &[&str] = &[
    "-Dnacos.standalone=true",
    "-Dnacos.home={home}",
    "-Dnacos.member.list=",
    "-Dderby.stream.error.file={home}/derby.log",
    "-Ddb.pool.config.connectionTimeout=60000",
];

/// The newest line.
pub(crate) const NACOS_NEWEST: Recipe = Recipe {
    name: "nacos3",
    registry: Some(Registry::Nacos),
    line: "3.1",
    usual_duration: "90 s",
    build: Build::Maven(Application {
        jar: "nacos3-server.jar",
        variable: "SERVICE_REGISTRY_NACOS3",
        artifact: "nacos-core",
        property: "nacos.version",
        rehearsal: NACOS_REHEARSAL,
        arguments: &[],
    }),
};

/// The line before.
pub(crate) const NACOS_PREVIOUS: Recipe = Recipe {
    name: "nacos2",
    registry: Some(Registry::Nacos),
    line: "2.5",
    usual_duration: "90 s",
    build: Build::Maven(Application {
        jar: "nacos2-server.jar",
        variable: "SERVICE_REGISTRY_NACOS2",
        artifact: "nacos-core",
        property: "nacos.version",
        rehearsal: NACOS_REHEARSAL,
        arguments: &[],
    }),
};

/// The registries whose clients Spring Cloud has.
const SPRING_CLOUD: [Registry; 3] = [Registry::Consul, Registry::Eureka, Registry::Nacos];

/// No server, but who else uses a registry: it registers itself and calls others.
pub(crate) const SPRING: Recipe = Recipe {
    name: "spring",
    registry: None,
    line: "2025.0",
    usual_duration: "a minute",
    build: Build::Maven(Application {
        jar: "spring-peer.jar",
        variable: "SERVICE_REGISTRY_SPRING",
        artifact: "spring-cloud-starter-alibaba-nacos-discovery",
        property: "spring-cloud-alibaba.version",
        rehearsal: &[],
        arguments: &[],
    }),
};

/// All of them.
pub(crate) static RECIPES: [&Recipe; 7] =
    [&ETCD_NEWEST, &ETCD_PREVIOUS, &CONSUL, &EUREKA, &NACOS_NEWEST, &NACOS_PREVIOUS, &SPRING];
