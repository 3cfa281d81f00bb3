//! The rows on a real Consul.
#![allow(clippy::future_not_send, reason = "each row has a runtime of its own, on its own thread")]

mod access;
mod cluster;
mod indexes;
mod limits;
mod site;
mod strangers;
mod tls;

use self::site::{ConsulSite, Forgetful};
use crate::live::{outages, rows, rows_over_http};

rows_over_http! {
    ConsulSite; "needs consul: cargo xtask servers";
    alone {
        row_01_a_killed_server_that_comes_back_with_its_data_costs_no_loss = outages::killed;
        row_02_a_wiped_server_is_filled_again = outages::wiped;
        row_09_a_killed_leader_of_three_costs_no_loss = cluster::leader_killed;
        row_25_a_server_that_limits_requests_wipes_no_view_and_costs_no_loss = limits::requests;
        row_25_a_server_that_limits_connections_costs_one_loss_each = limits::connections;
    }
    together {
        row_11_a_revoked_token_wipes_no_view_and_is_not_tried_in_a_loop = access::revoked;
        row_26_indexes_that_go_back_or_come_at_once_are_asked_for_at_a_pace = indexes::storm;
    }
}

rows! {
    Forgetful; "needs consul: cargo xtask servers";
    alone {
        row_02_an_agent_in_development_mode_forgets_and_is_filled_again = outages::killed;
    }
    together {}
}
