//! The rows that every registry over HTTP can have, listed once. What one of them alone can have stands in its module.

/// Makes a test of each of these, and of those that are added, in the module that says this; see
/// [`rows!`](super::rows).
macro_rules! rows_over_http {
    ($site:expr; $reason:literal;
        alone { $($hurting:ident = $hurts:path;)* }
        together { $($name:ident = $story:path;)* }) => {
        $crate::live::rows! {
            $site; $reason;
            alone {
                row_01_a_killed_server_that_is_down_for_twice_the_ttl_costs_each_registration_one_loss = $crate::live::outages::down;
                row_03_a_server_frozen_for_a_second_or_almost_half_the_ttl_costs_no_loss = $crate::live::outages::frozen_shortly;
                row_03_a_server_frozen_for_twice_the_ttl_costs_each_registration_one_loss = $crate::live::outages::frozen_for_twice;
                row_19_many_clients_of_a_killed_server_come_back_without_a_stampede = $crate::live::herd::come_back;
                row_38_a_node_that_starts_without_a_registry_leaves_the_old_ones_alone = $crate::live::cold::beside_an_old_one;
                row_38_a_registry_that_appears_late_fails_new_calls_in_time_and_finds_all_waiting = $crate::live::cold::late;
                $($hurting = $hurts;)*
            }
            together {
                row_04_a_link_cut_longer_than_the_ttl_costs_each_registration_one_loss = $crate::live::links::cut_for_long;
                row_04_a_link_cut_shorter_than_half_the_ttl_costs_no_loss = $crate::live::links::cut_shortly;
                row_05_a_link_of_one_byte_per_second_costs_each_registration_one_loss = $crate::live::links::trickle;
                row_05_a_link_that_stalls_half_of_the_time_costs_no_loss = $crate::live::links::lossy;
                row_05_a_slow_and_uneven_link_costs_no_loss = $crate::live::links::slow;
                row_06_a_half_open_link_costs_each_registration_one_loss = $crate::live::links::half_open;
                row_06_a_half_open_renewal_costs_one_loss_each_and_no_view = $crate::live::links::half_open_renewal;
                row_06_a_half_open_watch_shows_that_it_is_stale_and_loses_nobody = $crate::live::links::half_open_watch;
                row_07_a_server_that_never_answers_costs_each_call_its_deadline = $crate::live::mute::silent;
                row_07_an_endless_answer_costs_each_call_its_deadline = $crate::live::mute::endless;
                row_08_a_name_that_nobody_knows_beside_a_known_one_costs_no_loss = $crate::live::endpoints::unknown_name;
                row_11_a_closed_door_is_named_and_not_tried_in_a_loop = $crate::live::throttled::unwelcome;
                row_12_a_process_that_was_stopped_for_three_ttls_is_honest_tells_one_loss_and_comes_back = $crate::live::process::stopped;
                row_15_single_removals_are_seen_with_the_next_look_and_stay_away = $crate::live::lists::single_removals;
                row_15_what_expires_all_at_once_is_held_and_then_believed = $crate::live::lists::all_expire;
                row_16_a_list_that_is_short_for_a_moment_costs_a_reader_nobody = $crate::live::lists::short_and_full_again;
                row_17_garbage_beside_good_records_is_counted_and_hurts_nobody = $crate::live::garbage::beside_good_ones;
                row_20_an_application_killed_without_a_word_is_gone_in_time = $crate::live::process::killed;
                row_21_a_rejected_duplicate_fails_and_touches_nobody = $crate::live::duplicates::reject;
                row_21_a_take_over_is_one_swap_and_one_loss_for_the_other = $crate::live::duplicates::take_over;
                row_22_a_reader_that_is_torn_away_while_all_changes_ends_with_the_truth = $crate::live::lists::torn;
                row_24_dead_endpoints_before_the_one_that_works_cost_one_attempt = $crate::live::endpoints::dead_ones_first;
                row_25_a_server_that_asks_for_pauses_gets_them_and_costs_one_loss_each = $crate::live::throttled::overloaded;
                row_28_a_deletion_is_respected_if_so_configured_until_the_next_update = $crate::live::operator::respect;
                row_28_a_record_that_an_operator_deletes_comes_back_with_the_next_beat = $crate::live::operator::reassert;
                row_29_updates_during_a_long_outage_are_what_comes_back = $crate::live::updates::long;
                row_29_updates_during_a_short_outage_are_published_after_it = $crate::live::updates::short;
                row_34_a_server_of_another_authority_is_refused = $crate::live::tls::another_authority;
                row_34_a_server_of_another_name_is_refused = $crate::live::tls::another_name;
                row_34_a_server_whose_certificate_has_expired_is_refused = $crate::live::tls::expired;
                row_34_an_expired_certificate_that_is_replaced_under_a_watch_costs_no_loss = $crate::live::tls::rotated;
                row_36_one_deleted_record_of_many_is_nobody_elses_loss = $crate::live::operator::one_of_many;
                $($name = $story;)*
            }
        }
    };
}
pub(crate) use rows_over_http;
