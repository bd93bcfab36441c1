//! What any memory does, whatever is wrapped around it: one suite, stamped out over every
//! combination of adaptors. Limits are roomy and the allocation that fails is never reached, so
//! nothing may differ from memory without adaptors.

mod failures;
mod figures;
mod offload;
mod parts;
mod placing;
mod rig;
mod tasks;
mod unit;
mod units;

/// A module of tests for one combination of adaptors.
macro_rules! stamp {
    ($combination:ident: $adaptors:expr, { $($file:ident::$behaviour:ident,)* }) => {
        mod $combination {
            #[allow(unused_imports)] // the empty combination names none
            use crate::rig::Kind::*;
            $(
                #[test]
                fn $behaviour() {
                    crate::rig::check(&$adaptors, crate::$file::$behaviour);
                }
            )*
        }
    };
}

macro_rules! every_combination {
    ($behaviours:tt) => {
        stamp!(none: [], $behaviours);
        stamp!(limit: [Limit], $behaviours);
        stamp!(poison: [Poison], $behaviours);
        stamp!(trace: [Trace], $behaviours);
        stamp!(fail_nth: [FailNth], $behaviours);
        stamp!(limit_poison: [Limit, Poison], $behaviours);
        stamp!(limit_trace: [Limit, Trace], $behaviours);
        stamp!(limit_fail_nth: [Limit, FailNth], $behaviours);
        stamp!(poison_trace: [Poison, Trace], $behaviours);
        stamp!(poison_fail_nth: [Poison, FailNth], $behaviours);
        stamp!(trace_fail_nth: [Trace, FailNth], $behaviours);
        stamp!(limit_poison_trace: [Limit, Poison, Trace], $behaviours);
        stamp!(limit_poison_fail_nth: [Limit, Poison, FailNth], $behaviours);
        stamp!(limit_trace_fail_nth: [Limit, Trace, FailNth], $behaviours);
        stamp!(poison_trace_fail_nth: [Poison, Trace, FailNth], $behaviours);
        stamp!(limit_poison_trace_fail_nth: [Limit, Poison, Trace, FailNth], $behaviours);
    };
}

every_combination!({
    placing::units_of_a_plan_use_the_same_places_again,
    placing::units_in_flight_lie_apart,
    placing::a_backward_leaves_what_the_next_forward_needs,
    placing::what_is_meant_to_last_outlives_its_unit,
    placing::regions_that_callers_may_not_choose_are_not_chosen,
    placing::messages_belong_to_the_communicator,
    placing::one_allocation_too_many_disturbs_its_layer_only,
    placing::a_temporary_that_outlives_its_plan_is_not_overwritten,
    placing::units_without_a_plan_use_the_overflow_region,
    placing::blocks_keep_what_is_written_to_them,
    parts::what_a_first_part_keeps_takes_over_cells_that_are_free_by_then,
    parts::a_unit_takes_room_for_what_it_keeps_when_it_comes_to_that,
    parts::a_cell_that_is_still_filled_is_not_taken_over,
    parts::slices_follow_their_own_plans_and_later_ones_the_last,
    tasks::a_task_uses_the_frame_of_units_and_keeps_only_its_messages,
    tasks::what_a_task_did_not_foresee_is_counted_or_refused,
    tasks::tasks_are_not_installed_under_open_units,
    units::a_closed_unit_gives_everything_back,
    units::a_leftover_is_an_error_that_names_its_user_and_its_unit,
    units::frees_after_the_end_of_the_unit_are_harmless,
    units::a_second_forward_leaves_the_first_ones_blocks_alone,
    units::nothing_is_allocated_in_a_closed_unit,
    units::a_unit_is_not_opened_twice,
    units::plans_do_not_change_under_open_units,
    units::strict_memory_refuses_what_no_plan_covers,
    units::guards_restore_what_was_current_before,
    figures::peaks_are_kept_until_they_are_reset,
    figures::each_unit_has_its_own_figures,
    figures::owners_are_sorted_and_add_up_to_what_is_live,
    figures::what_nothing_needs_is_released,
    offload::what_travels_comes_back_as_it_was,
    offload::a_unit_that_is_away_leaves_its_memory_to_others,
    offload::using_what_is_away_names_the_user_and_the_unit,
    offload::keys_and_values_and_what_is_pinned_stay,
    offload::a_unit_may_close_wherever_it_is,
    offload::blocks_may_be_freed_wherever_they_are,
    offload::only_the_ratio_travels,
    offload::a_second_memory_without_room_is_an_error_and_the_unit_stays,
    offload::bytes_that_cannot_be_read_back_are_an_error,
    offload::no_memory_to_come_back_to_is_an_error_and_may_be_tried_again,
    failures::out_of_memory_says_who_holds_what_and_leaves_everything_usable,
    failures::idle_pages_are_given_back_before_a_limit_is_hit,
    failures::a_limit_for_one_kind_of_unit_serves_another_kind_later,
    failures::no_request_is_too_long_to_be_refused,
    failures::a_failure_anywhere_leaves_everything_as_it_was,
});
