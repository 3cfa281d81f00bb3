//! Whether anybody else could reach what listens everywhere.

use std::env;
use std::fs;

use crate::server::ServerError;

/// Says that listening on every address of the machine is fine here.
const ACCEPTED: &str = "SERVICE_REGISTRY_NACOS_ANYWHERE";

/// Nacos listens on all addresses for gRPC, raft and UDP, and cannot be told otherwise: it only starts where the
/// loopback is all there is, unless the user accepts it.
pub(crate) fn check() -> Result<(), ServerError> {
    let accepted = env::var_os(ACCEPTED).is_some_and(|value| !value.is_empty());
    if accepted || is_private() {
        return Ok(());
    }
    Err(ServerError::new(format!(
        "start of nacos: it would listen on every address of this machine; run the test in a network of its own \
         (`cargo xtask test --only nacos` does; `tests/servers/apart COMMAND…` for one command), or set {ACCEPTED}=1 if \
         nobody else can reach this machine"
    )))
}

fn is_private() -> bool {
    let routes = |file: &str| fs::read_to_string(format!("/proc/self/net/{file}"));
    match (routes("route"), routes("ipv6_route")) {
        (Ok(four), six) => is_loopback_only(&four, &six.unwrap_or_default()),
        // No Linux: there is nothing to look at.
        (Err(_), _) => false,
    }
}

/// From the kernel's tables of routes: no interface but the loopback leads anywhere.
fn is_loopback_only(four: &str, six: &str) -> bool {
    let first = |line: &str| line.split_whitespace().next().map(str::to_owned);
    let last = |line: &str| line.split_whitespace().last().map(str::to_owned);
    let mut interfaces = four.lines().skip(1).filter_map(first).chain(six.lines().filter_map(last));
    interfaces.all(|interface| interface == "lo")
}

#[cfg(test)]
mod tests {
    use super::is_loopback_only;

    const HEADINGS: &str =
        "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n";
    const LOOPBACK_6: &str = "00000000000000000000000000000001 80 00000000000000000000000000000000 00 \
        00000000000000000000000000000000 00000000 00000002 00000000 80200001       lo\n";

    #[test]
    fn a_network_with_nothing_but_the_loopback_is_private() {
        assert!(is_loopback_only(HEADINGS, LOOPBACK_6));
        assert!(is_loopback_only(HEADINGS, ""));
    }

    #[test]
    fn one_route_out_is_enough_to_be_reached() {
        let route = format!("{HEADINGS}eth0\t00000000\t0100000A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n");
        assert!(!is_loopback_only(&route, LOOPBACK_6));
        assert!(!is_loopback_only(HEADINGS, &format!("{LOOPBACK_6}{}", LOOPBACK_6.replace(" lo", " eth0"))));
    }
}
