"""Jobs of two processes, in made-up time, with all the trouble that nobody thinks of."""

from __future__ import annotations

import pytest
from simulation.mutants import MUTANTS
from simulation.scenario import Found, run

SEEDS, CHUNK = 2000, 25

# Seeds that have found each mutant; where the machine has changed since, others are tried.
FOUND_BY: dict[str, tuple[int, ...]] = {}
MORE = 300


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
