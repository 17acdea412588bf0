"""Jobs of two processes, in made-up time, with all the trouble that nobody thinks of."""

from __future__ import annotations

import pytest
from simulation.mutants import MUTANTS
from simulation.scenario import Found, run

SEEDS, CHUNK = 2000, 25

# Seeds that have found each mutant; where the machine has changed since, others are tried.
FOUND_BY: dict[str, tuple[int, ...]] = {
    "a_404_of_a_running_batch_is_final": (4, 13, 19),
    "a_404_of_results_is_final": (20, 75, 79),
    "a_5xx_of_a_create_is_a_refusal": (13, 17, 19),
    "what_was_given_up_is_not_asked_for_again": (76, 84, 263),
    "what_was_given_up_counts_as_known": (84, 263, 422),
    "half_a_file_is_believed": (138, 172, 183),
    "the_budget_is_not_asked": (3, 4, 8),
    "only_what_was_measured_counts": (35, 67, 71),
    "a_request_id_is_drawn_anew": (7, 8, 19),
    "jobs_share_request_ids": (4, 8, 11),
    "a_batch_that_failed_for_want_of_room_keeps_its_request_id": (221, 263, 316),
    "a_batch_that_failed_for_want_of_room_is_free": (249, 263, 566),
    "what_is_denied_once_is_not_there": (1308,),
    "a_cancel_drops_what_may_have_been_created": (28, 232),
    "a_cancel_leaves_batches_running": (88, 100, 146),
    "a_cancel_does_not_stop_the_sending": (4, 5, 7),
    "a_cancel_from_elsewhere_is_not_read": (4, 11, 64),
    "a_limit_from_elsewhere_is_not_read": (139, 186, 1093),
    "a_cancel_asked_of_nobody_is_read_late": (13, 41, 167),
    "the_journal_is_not_synced": (13, 75, 78),
    "a_full_disk_is_ignored": (1, 4, 39),
    "a_torn_line_takes_the_next_along": (21, 25, 111),
    "a_line_that_failed_takes_the_next_along": (21, 25, 111),
    "a_journal_written_anew_has_only_what_changed": (2, 4, 8),
    "tries_are_not_written_down": (28, 232, 435),
    "a_cancel_is_not_written_down": (11, 16, 166),
    "a_job_in_trouble_stands_still_the_others": (131, 194, 201),
    "a_raise_of_the_world_is_forgotten": (3, 16, 17),
    "a_job_that_another_process_has_is_moved_all_the_same": (4, 5, 6),
    "a_lock_is_kept": (0, 2, 3),
    "trouble_is_not_told": (7, 13, 17),
    "a_token_does_not_wake": (3, 4, 5),
    "a_retry_that_fails_hides_the_answers": (5, 18, 49),
    "a_process_that_ends_sends_nothing_more": (158, 183, 200),
}
MORE = 1000


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
