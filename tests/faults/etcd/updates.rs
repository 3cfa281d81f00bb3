//! Row 29: what is published changes while the registry is away.

use super::{rows, site::EtcdSite};
use crate::live::updates;

rows! {
    everywhere on EtcdSite {
        row_29_updates_during_a_long_outage_are_what_comes_back = updates::long;
        row_29_updates_during_a_short_outage_are_published_after_it = updates::short;
    }
    here {}
}
