//! The rows on a real Eureka, which keeps everything in memory.
#![allow(clippy::future_not_send, reason = "each row has a runtime of its own, on its own thread")]

mod peers;
mod site;
mod strangers;

use self::site::EurekaSite;
use crate::live::{outages, rows_over_http};

rows_over_http! {
    EurekaSite; "needs eureka: cargo xtask servers";
    alone {
        row_02_a_killed_server_which_forgets_what_it_held_is_filled_again = outages::killed;
        row_24_a_killed_peer_of_two_costs_no_loss = peers::one_killed;
    }
    together {}
}
