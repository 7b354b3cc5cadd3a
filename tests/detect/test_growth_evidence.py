"""What a process remembers of its routes' repetitions."""

from __future__ import annotations

from querytoll.detect.growth import Growth

KEY = ("GET /orders", "f1", "list_orders")


def test_a_count_that_follows_the_rows_is_sure() -> None:
    """Three today and forty yesterday is an N+1, however weak the first sight was."""
    growth = Growth()
    assert growth.confidence(KEY, 3, 3, 0.7) == 0.7
    assert growth.confidence(KEY, 40, 40, 0.7) == 0.95


def test_a_few_that_never_change_are_a_fan_out_by_design() -> None:
    """Always exactly three, however many rows there were, loses confidence; with the same rows it proves nothing."""
    growth = Growth()
    varied = [growth.confidence(KEY, 3, rows, 0.7) for rows in (5, 9, 12, 7, 20)]
    same = [Growth().confidence(KEY, 3, 3, 0.7) for _ in range(5)]
    assert varied[-1] == 0.3
    assert set(same) == {0.7}


def test_routes_and_shapes_are_remembered_apart_and_bounded() -> None:
    """One route's history says nothing of another's, and endless routes do not grow the process."""
    growth = Growth(max_keys=10)
    growth.confidence(KEY, 3, 3, 0.7)
    assert growth.confidence(("GET /others", *KEY[1:]), 40, 40, 0.7) == 0.7
    for number in range(100):
        growth.confidence((f"GET /{number}", *KEY[1:]), 3, 3, 0.7)
    assert len(growth._seen) == 10
