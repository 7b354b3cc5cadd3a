"""Plans cost what they may, and memory stays bounded."""

from __future__ import annotations

from querytoll.explain.budget import Budget
from querytoll.explain.flips import Flips
from querytoll.explain.scan import scan
from querytoll.model import Plan, PlanNode
from querytoll.settings import Settings


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def plan(shape: str, fingerprint: str = "f") -> Plan:
    return Plan(tree=PlanNode(id=0, kind="Seq Scan", relation="t"), shape=shape, fingerprint=fingerprint)


def test_one_plan_per_interval() -> None:
    """The second is cached until the interval is over."""
    clock = Clock()
    budget = Budget(Settings(), clock)
    assert budget.denial("a") is None
    assert budget.denial("a") == "cached"
    assert budget.denial("b") is None
    clock.seconds = 601
    assert budget.denial("a") is None


def test_what_cannot_be_explained_is_left_alone_for_a_day() -> None:
    """The negative cache outlives the interval."""
    clock = Clock()
    budget = Budget(Settings(), clock)
    budget.refuse("a")
    clock.seconds = 86_399
    assert budget.denial("a") == "refused"
    clock.seconds = 86_401
    assert budget.denial("a") is None


def test_time_is_earned_by_the_share_and_by_the_floor() -> None:
    """What was spent comes back as 2 % of the application's time, and one second a minute."""
    clock = Clock()
    budget = Budget(Settings(), clock)
    budget.spend(6)
    assert budget.denial("a") == "budget"
    budget.observe(49)
    assert budget.denial("a") == "budget"
    budget.observe(2)
    assert budget.denial("a") is None
    budget.spend(1)
    assert budget.denial("b") == "budget"
    clock.seconds = 61
    assert budget.denial("b") is None


def test_fingerprints_are_bounded() -> None:
    """Statements without end do not fill the memory."""
    budget, flips = Budget(Settings(max_plans=10)), Flips(10)
    for number in range(100):
        budget.denial(str(number))
        flips.note(plan("s", str(number)), 1.0, None, "")
    assert len(budget._due) == 20
    assert len(flips) == 10


def test_a_plan_that_comes_back_is_no_warning() -> None:
    """New and twice as slow: a warning; back again: only info; the same: nothing."""
    flips = Flips(10)
    assert flips.note(plan("a"), 0.1, None, "SELECT t") is None
    assert flips.note(plan("a"), 0.5, None, "SELECT t") is None
    changed = flips.note(plan("b"), 1.0, None, "SELECT t")
    assert changed is not None
    assert (changed.rule, changed.severity, changed.cost) == ("plan-flip", "warning", 0.5)
    back = flips.note(plan("a"), 4.0, None, "SELECT t")
    assert back is not None
    assert (back.severity, back.evidence["known"]) == ("info", True)


def test_the_scanner_is_not_fooled() -> None:
    """Comments, strings and quotes end where PostgreSQL says."""
    assert not scan("SELECT $a$ $b$ ; $a$ ; DROP TABLE x").single
    assert not scan("SELECT 1 /* /* */ */ ; DELETE FROM t").single
    assert scan("SELECT '; DELETE', $$;$$, \";\", E'\\';' -- ; x\n").single
    assert scan("SELECT a INTO b FROM c").into
    assert not scan("SELECT ' INTO ', \"x into\" FROM c").into
    assert "nextval" in {name.name for name in scan("SELECT Pg_Catalog . NextVal /* x */ ('s')").called}
