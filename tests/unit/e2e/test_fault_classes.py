"""The matrix of faults has every class in every cluster, or says why not."""

from e2e.faults import CLASSES, left_out, matrix, sample
from e2e.faults.classes import SHARDS


def test_two_rounds_of_the_matrix_are_two_hundred_faults_of_at_least_twelve_classes() -> None:
    cases = list(matrix(2))
    assert len(cases) >= 200
    assert len({case.fault.name for case in cases}) == len(CLASSES) >= 12
    assert len({case.id for case in cases}) == len(cases)


def test_every_class_is_played_in_every_size_or_left_out_with_a_reason() -> None:
    played = {(case.fault.name, case.shards) for case in matrix(1)}
    reasons = list(left_out())
    for fault in CLASSES:
        for shards in SHARDS:
            line = f"{fault.name} with {shards} shards: "
            assert ((fault.name, shards) in played) != any(reason.startswith(line) for reason in reasons)
    assert all(reason.partition(": ")[2] for reason in reasons)


def test_the_sample_has_at_least_twelve_classes_once() -> None:
    played = [case.fault.name for case in sample()]
    assert len(played) == len(set(played)) >= 12
