//! Which of some processes has a TCP connection, by Linux's `/proc`.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;

/// The index in `pids` of the process at the `near` end of the connection to `far`.
///
/// Only answers on Linux, for processes of this user.
pub(crate) fn owner(near: SocketAddr, far: SocketAddr, pids: &[u32]) -> Option<usize> {
    let table = fs::read_to_string("/proc/net/tcp").ok()?;
    let inode = table.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let (local, remote, inode) = (fields.get(1)?, fields.get(2)?, fields.get(9)?);
        (port(local)? == near.port() && port(remote)? == far.port() && *inode != "0").then_some(*inode)
    })?;
    let socket = format!("socket:[{inode}]");
    pids.iter().position(|pid| {
        *pid != 0
            && fs::read_dir(format!("/proc/{pid}/fd"))
                .into_iter()
                .flatten()
                .flatten()
                .filter_map(|file| fs::read_link(file.path()).ok())
                .any(|target| target.as_os_str().as_bytes() == socket.as_bytes())
    })
}

/// Of `0100007F:1F90`. Everything here is on 127.0.0.1, so that two ports tell a connection.
fn port(field: &str) -> Option<u16> {
    u16::from_str_radix(field.rsplit_once(':')?.1, 16).ok()
}
