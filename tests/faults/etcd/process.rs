//! Rows 12 and 20: the application itself is stopped or killed. It is this test binary, started once more.

use super::{rows, site::EtcdSite};
use crate::live::process;

rows! {
    everywhere on EtcdSite {
        row_12_a_process_that_was_stopped_for_three_ttls_is_honest_tells_one_loss_and_comes_back = process::stopped;
        row_20_an_application_killed_without_a_word_is_gone_within_its_ttl = process::killed;
    }
    here {}
}
