//! The rows on a real Nacos, which keeps ephemeral instances in memory: on the newest line here, and on the one before in
//! `nacos2`.
#![allow(clippy::future_not_send, reason = "each row has a runtime of its own, on its own thread")]

pub(crate) mod access;
pub(crate) mod site;
mod strangers;

use registry_testkit::NacosLine;

/// Makes a test of each row on a line, in the module that says this.
macro_rules! rows_on {
    ($line:expr) => {
        $crate::live::rows_over_http! {
            $crate::nacos::site::NacosSite($line); "needs nacos: cargo xtask servers";
            alone {
                row_02_a_killed_server_which_forgets_what_it_held_is_filled_again = $crate::live::outages::killed;
                row_11_tokens_that_end_all_the_time_stop_nobody = $crate::nacos::access::tokens;
            }
            together {}
        }
    };
}
pub(crate) use rows_on;

rows_on!(NacosLine::V3);
