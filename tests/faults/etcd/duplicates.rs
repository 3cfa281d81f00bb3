//! Row 21: two processes publish under one id.

use super::{rows, site::EtcdSite};
use crate::live::duplicates;

rows! {
    everywhere on EtcdSite {
        row_21_a_take_over_is_one_swap_and_one_loss_for_the_other = duplicates::take_over;
        row_21_a_rejected_duplicate_fails_and_touches_nobody = duplicates::reject;
    }
    here {}
}
