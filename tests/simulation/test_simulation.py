"""Jobs of two processes, in made-up time, with all the trouble that nobody thinks of."""

from __future__ import annotations

import pytest
from simulation.mutants import MUTANTS
from simulation.scenario import Found, run

SEEDS, CHUNK = 2000, 25

# Seeds that have found each mutant; where the machine has changed since, others are tried.
FOUND_BY: dict[str, tuple[int, ...]] = {
    "a_404_of_a_running_batch_is_final": (4, 13, 15),
    "a_404_of_results_is_final": (85,),
    "a_5xx_of_a_create_is_a_refusal": (13, 22, 33),
    "what_was_given_up_is_not_asked_for_again": (64, 75, 76),
    "what_was_given_up_counts_as_known": (75, 76),
    "half_a_file_is_believed": (64, 75, 76),
    "the_budget_is_not_asked": (3, 8, 11),
    "only_what_was_measured_counts": (17, 35, 67),
    "a_request_id_is_drawn_anew": (4, 7, 17),
    "jobs_share_request_ids": (8, 11),
    "a_batch_that_failed_for_want_of_room_keeps_its_request_id": (113, 138),
    "a_cancel_drops_what_may_have_been_created": (232,),
    "a_cancel_leaves_batches_running": (7, 24, 35),
    "a_cancel_does_not_stop_the_sending": (5, 7, 8),
    "a_cancel_from_elsewhere_is_not_read": (8,),
    "a_cancel_asked_of_nobody_is_read_late": (41,),
    "the_journal_is_not_synced": (7, 27, 49),
    "a_full_disk_is_ignored": (1, 4, 39),
    "a_torn_line_takes_the_next_along": (11, 17),
    "a_line_that_failed_takes_the_next_along": (11, 17),
    "a_journal_written_anew_has_only_what_changed": (2, 5, 8),
    "tries_are_not_written_down": (232,),
    "a_cancel_is_not_written_down": (11, 16, 53),
    "a_job_in_trouble_stands_still_the_others": (35, 135),
    "a_raise_of_the_world_is_forgotten": (3, 16, 19),
    "a_job_that_another_process_has_is_moved_all_the_same": (2, 4, 5),
    "a_lock_is_kept": (0, 3),
    "trouble_is_not_told": (4, 11),
    "a_token_does_not_wake": (3, 4),
    "a_retry_that_fails_hides_the_answers": (18, 35),
    "a_process_that_ends_sends_nothing_more": (135, 158),
}
MORE = 500


@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_every_promise_is_kept_whatever_happens(first: int) -> None:
    """Nothing is lost or paid twice, whatever the service, the network, the disk, the power and I do."""
    for seed in range(first, first + CHUNK):
        run(seed)


@pytest.mark.parametrize("name", MUTANTS)
def test_a_fault_in_the_machine_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The simulation is not blind: it finds each fault that somebody could make."""
    MUTANTS[name](monkeypatch)
    for seed in (*FOUND_BY.get(name, ()), *range(MORE)):
        try:
            run(seed)
        except Found:
            return
    pytest.fail(f"{name} is not found")


def test_a_seed_is_one_run() -> None:
    """What a seed has shown, it shows again."""
    assert run(7) == run(7)
