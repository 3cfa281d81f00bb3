//! What may be asked of the task runner.

use crate::failure::{Failure, Result};
use crate::{chaos, matrix};

/// How to use it.
pub(crate) const USAGE: &str = "\
usage: cargo xtask COMMAND

  test [--only REGISTRY,…] [--quick] [--write]
             install what is missing, run every check, end in a table of what ran
             --only   only these registries: memory, etcd, consul, eureka, nacos
             --quick  the checks one wants between two edits; the table names what was left out
             --write  put the table of faults, which is run anyway, into docs/faults.md
  matrix [--backend NAME,…] [--write]
             run the fault suite, end in a table of faults and backends
             --backend  only these: memory, etcd, consul, eureka, nacos, nacos2 (the line before), naive (the
                        usual hand-written client, which fails)
             --write    put the table into docs/faults.md
  chaos [--backend etcd] [--minutes N] [--seed S] [--plan]
             random faults on three members; the seed is printed and repeats the run
             --minutes  how long; 2
             --plan     print what would happen, run nothing
  servers [NAME…]
             build the servers the tests need, print where they are
             NAME  only these: a registry, or etcd36, etcd35, nacos3, nacos2, or the peer spring
  deps       dependency trees, licences and sources
  msrv       the minimum Rust version: promised, locked and documented
  bench [--peers] [--write]
             measure every figure that is promised, end in a table of what holds
             --peers  beside other libraries too (a workspace of its own; needs cmake)
             --write  put table and chart into docs/
  footprint [--write]
             crates and cold compile time of each feature
  package    assemble the published crates and compile each from its package";

/// A registry the checks can be limited to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Registry {
    /// In this process.
    Memory,
    /// A real etcd.
    Etcd,
    /// A real Consul.
    Consul,
    /// A real Eureka.
    Eureka,
    /// A real Nacos.
    Nacos,
}

impl Registry {
    const ALL: [Self; 5] = [Self::Memory, Self::Etcd, Self::Consul, Self::Eureka, Self::Nacos];
    /// Those whose tests need a server.
    pub(crate) const SERVED: [Self; 4] = [Self::Etcd, Self::Consul, Self::Eureka, Self::Nacos];
    /// What runs between two edits: a start in Java takes longer than all of its tests.
    const QUICK: [Self; 3] = [Self::Memory, Self::Etcd, Self::Consul];

    /// Its name on the command line and in the report.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Etcd => "etcd",
            Self::Consul => "consul",
            Self::Eureka => "eureka",
            Self::Nacos => "nacos",
        }
    }
}

/// What `test` runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Selection {
    /// Leave out what takes long and seldom fails.
    pub(crate) quick: bool,
    /// None: all that fit.
    only: Option<Vec<Registry>>,
    /// Put the table of faults into the documentation.
    pub(crate) write: bool,
}

impl Selection {
    /// Whether tests on this registry are asked for.
    pub(crate) fn includes(&self, registry: Registry) -> bool {
        match &self.only {
            Some(named) => named.contains(&registry),
            None => !self.quick || Registry::QUICK.contains(&registry),
        }
    }

    /// The option because of which a registry is not included.
    pub(crate) fn reason_against(&self) -> &'static str {
        if self.only.is_some() { "--only" } else { "--quick" }
    }
}

/// What `bench` runs and leaves behind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct BenchOptions {
    /// Compare with other libraries too.
    pub(crate) peers: bool,
    /// Put table and chart into the documentation.
    pub(crate) write: bool,
}

/// A command and its options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Request {
    /// Run the checks.
    Test(Selection),
    /// Run the fault suite.
    Matrix(matrix::Options),
    /// Run random faults.
    Chaos(chaos::Options),
    /// Build the servers with these names, or all.
    Servers(Vec<String>),
    /// Check dependencies.
    Deps,
    /// Check the minimum Rust version.
    Msrv,
    /// Measure what is promised.
    Bench(BenchOptions),
    /// Count crates and time a cold compile; whether to write it down.
    Footprint {
        /// Put the table into the documentation.
        write: bool,
    },
    /// Assemble and compile the packages.
    Package,
    /// Say how it is used.
    Help,
}

/// Reads the arguments after the program's name.
///
/// # Errors
///
/// If they mean nothing; a misspelt option must not become a run of something else.
pub(crate) fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Request> {
    let mut arguments = arguments.into_iter();
    let request = match arguments.next().as_deref() {
        Some("test") => return selection(arguments).map(Request::Test),
        Some("bench") => return bench(arguments).map(Request::Bench),
        Some("footprint") => return footprint(arguments),
        Some("matrix") => return matrix::options(arguments).map(Request::Matrix),
        Some("chaos") => return chaos::options(arguments).map(Request::Chaos),
        Some("servers") => return Ok(Request::Servers(arguments.collect())),
        Some("deps") => Request::Deps,
        Some("msrv") => Request::Msrv,
        Some("package") => Request::Package,
        Some("help" | "--help" | "-h") => Request::Help,
        Some(other) => return Err(Failure::new(format!("there is no command `{other}`\n\n{USAGE}"))),
        None => return Err(Failure::new(USAGE)),
    };
    match arguments.next() {
        None => Ok(request),
        Some(extra) => Err(Failure::new(format!("unexpected `{extra}`\n\n{USAGE}"))),
    }
}

fn selection(mut arguments: impl Iterator<Item = String>) -> Result<Selection> {
    let mut selection = Selection { quick: false, only: None, write: false };
    while let Some(argument) = arguments.next() {
        match argument.split_once('=').unwrap_or((&argument, "")) {
            ("--quick", "") => selection.quick = true,
            ("--write", "") => selection.write = true,
            ("--only", "") => selection.only = Some(registries(&arguments.next().unwrap_or_default())?),
            ("--only", names) => selection.only = Some(registries(names)?),
            _ => return Err(Failure::new(format!("`test` has no option `{argument}`\n\n{USAGE}"))),
        }
    }
    if selection.write && (selection.quick || selection.only.is_some()) {
        return Err(Failure::new("--write needs all registries: the table would lose the others"));
    }
    Ok(selection)
}

fn bench(arguments: impl Iterator<Item = String>) -> Result<BenchOptions> {
    let mut options = BenchOptions::default();
    for argument in arguments {
        match argument.as_str() {
            "--peers" => options.peers = true,
            "--write" => options.write = true,
            _ => return Err(Failure::new(format!("`bench` has no option `{argument}`\n\n{USAGE}"))),
        }
    }
    Ok(options)
}

fn footprint(arguments: impl Iterator<Item = String>) -> Result<Request> {
    let mut write = false;
    for argument in arguments {
        match argument.as_str() {
            "--write" => write = true,
            _ => return Err(Failure::new(format!("`footprint` has no option `{argument}`\n\n{USAGE}"))),
        }
    }
    Ok(Request::Footprint { write })
}

fn registries(names: &str) -> Result<Vec<Registry>> {
    let valid = Registry::ALL.map(Registry::name).join(", ");
    let find = |name: &str| {
        Registry::ALL
            .into_iter()
            .find(|registry| registry.name() == name.trim())
            .ok_or_else(|| Failure::new(format!("--only takes {valid}; there is no registry `{name}`")))
    };
    names.split(',').map(find).collect()
}

#[cfg(test)]
mod tests {
    use super::{BenchOptions, Registry, Request, parse};

    fn read(line: &str) -> Option<Request> {
        parse(line.split_whitespace().map(str::to_owned)).ok()
    }

    fn selected(line: &str) -> Option<Vec<Registry>> {
        match read(line)? {
            Request::Test(selection) => {
                Some(Registry::ALL.into_iter().filter(|registry| selection.includes(*registry)).collect())
            }
            _ => None,
        }
    }

    #[test]
    fn everything_runs_unless_limited() {
        assert_eq!(selected("test"), Some(Registry::ALL.to_vec()));
        assert_eq!(selected("test --quick"), Some(Registry::QUICK.to_vec()));
        assert_eq!(selected("test --write"), Some(Registry::ALL.to_vec()));
        assert_eq!(selected("test --only etcd"), Some(vec![Registry::Etcd]));
        assert_eq!(
            selected("test --only=eureka,memory --quick"),
            Some(vec![Registry::Memory, Registry::Eureka])
        );
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for line in [
            "",
            "tests",
            "test --fast",
            "test --only",
            "test --only zookeeper",
            "test --only etcd,",
            "test --write --quick",
            "test --only etcd --write",
            "deps all",
        ]
        .into_iter()
        .chain(["bench --quick", "bench all", "footprint --peers"])
        {
            assert_eq!(read(line), None, "{line:?}");
        }
    }

    #[test]
    fn a_bench_compares_and_writes_only_when_told() {
        let bench = |peers, write| Some(Request::Bench(BenchOptions { peers, write }));
        assert_eq!(read("bench"), bench(false, false));
        assert_eq!(read("bench --write --peers"), bench(true, true));
        assert_eq!(read("footprint --write"), Some(Request::Footprint { write: true }));
    }

    #[test]
    fn each_command_is_known() {
        assert_eq!(read("servers"), Some(Request::Servers(Vec::new())));
        assert_eq!(read("servers consul"), Some(Request::Servers(vec!["consul".to_owned()])));
        assert_eq!(read("deps"), Some(Request::Deps));
        assert_eq!(read("msrv"), Some(Request::Msrv));
        assert_eq!(read("package"), Some(Request::Package));
        assert_eq!(read("--help"), Some(Request::Help));
    }
}
