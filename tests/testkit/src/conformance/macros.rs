//! The list of cases, and the macros that make tests of it.

/// Makes a module with one test per case of the conformance suite; see [`conformance`](mod@crate::conformance).
#[macro_export]
macro_rules! conformance {
    ($name:ident: $fixture:expr; $($group:ident),+ $(,)?) => {
        $crate::__conformance_module! { $name ($($group)+) { Real [doc = "On the real clock."] ($fixture) } }
    };
    ($name:ident: $fixture:expr; $($group:ident),+; paused) => {
        $crate::__conformance_module! { $name ($($group)+) { Paused [doc = "On a paused clock."] ($fixture) } }
    };
    ($name:ident: $fixture:expr; $($group:ident),+; ignore = $why:literal) => {
        $crate::__conformance_module! { $name ($($group)+) { Real [ignore = $why] ($fixture) } }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __conformance_module {
    ($name:ident ($($group:ident)+) $with:tt) => {
        mod $name {
            #[allow(unused_imports, reason = "the fixture may be written with full paths")]
            use super::*;

            $($crate::__conformance_cases! { $group => __conformance_tests $with })+
        }
    };
}

/// The list. Calls the macro `$then` once per group with what it was given, the group, and its cases.
#[doc(hidden)]
#[macro_export]
macro_rules! __conformance_cases {
    (all => $then:ident $with:tt) => {
        $crate::__conformance_cases! { discovery => $then $with }
        $crate::__conformance_cases! { registry => $then $with }
        $crate::__conformance_cases! { changes => $then $with }
        $crate::__conformance_cases! { lease => $then $with }
        $crate::__conformance_cases! { session => $then $with }
        $crate::__conformance_cases! { catalogue => $then $with }
        $crate::__conformance_cases! { catalogue_changes => $then $with }
    };
    (discovery => $then:ident $with:tt) => {
        $crate::$then! { $with discovery
            a_published_instance_is_found_with_all_its_fields
            a_lookup_of_an_unknown_service_is_empty
            a_prefix_of_a_name_is_another_service
            one_id_in_two_services_is_two_instances
            a_batch_of_300_is_published_and_found
            ids_and_metadata_with_unusual_characters_survive
            a_watch_opens_with_a_reset
            an_idle_watch_gives_signs_of_life
        }
    };
    (registry => $then:ident $with:tt) => {
        $crate::$then! { $with registry
            publish_replaces_our_own_record
            a_foreign_record_is_taken_over_when_asked
            a_foreign_record_is_refused_when_asked
            withdraw_is_idempotent
            withdraw_leaves_a_successor_alone
            revoke_removes_everything_and_is_idempotent
            inspect_tells_ours_foreign_and_missing
            dropping_a_lease_withdraws_nothing
        }
    };
    (changes => $then:ident $with:tt) => {
        $crate::$then! { $with changes
            upserts_and_removals_arrive_in_order
            a_watch_resumes_from_its_cursor
            a_made_up_cursor_is_answered_with_a_reset_or_an_error
        }
    };
    (lease => $then:ident $with:tt) => {
        $crate::$then! { $with lease
            a_lease_that_is_not_renewed_expires_and_the_watcher_is_told
            renewing_keeps_a_lease_alive
        }
    };
    (session => $then:ident $with:tt) => {
        $crate::$then! { $with session
            renewing_a_revoked_lease_is_lease_lost
            publishing_under_a_revoked_lease_is_lease_lost
        }
    };
    (catalogue => $then:ident $with:tt) => {
        $crate::$then! { $with catalogue
            the_catalogue_lists_services_with_instances
            a_watched_catalogue_opens_with_the_complete_list
        }
    };
    (catalogue_changes => $then:ident $with:tt) => {
        $crate::$then! { $with catalogue_changes
            the_catalogue_follows_services_that_come_and_go
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __conformance_tests {
    ({ $pace:ident $attribute:tt ($fixture:expr) } $group:ident $($case:ident)+) => {
        $(
            #[test]
            # $attribute
            fn $case() {
                $crate::conformance::run(
                    $crate::conformance::Pace::$pace,
                    async { $fixture },
                    async |fixture| $crate::conformance::cases::$case(fixture).await,
                );
            }
        )+
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __conformance_export {
    ({} $group:ident $($case:ident)+) => {
        pub use super::$group::{$($case),+};
    };
}
