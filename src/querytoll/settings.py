"""Environment variables and arguments to one frozen `Settings`."""

from __future__ import annotations

import functools
import logging
import os
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from pydantic_settings import BaseSettings, SettingsConfigDict

_log = logging.getLogger("querytoll")

_PREFIX: Final = "QUERYTOLL_"
_OTHER_VARIABLES: Final = frozenset({"database_url", "history_url", "port", "seeds", "write_failures"})
"""Variables with the prefix that are no settings: the command line's, the tests', a Kubernetes service's."""
_OTHER_PREFIXES: Final = ("test_", "port_", "service_")


class Settings(BaseSettings):
    """How to profile; each field is also read from `QUERYTOLL_<FIELD>`.

    A variable of that form that names no field is told in the log, once.

    Raises:
        pydantic.ValidationError: a value is of the wrong type or out of range, or the name of an argument is unknown.
    """

    model_config = SettingsConfigDict(env_prefix=_PREFIX, frozen=True, extra="forbid")

    enabled: bool = True
    """False: requests are passed through, nothing is recorded."""
    sample_rate: float = Field(default=1.0, ge=0.0, le=1.0)
    """Share of requests that are profiled; a request is profiled whole or not at all."""
    max_self_share: float = Field(default=0.05, gt=0.0, le=1.0)
    """Share of the time of requests that profiling may take before it profiles fewer of them; 1: no limit."""
    server_timing: bool | None = None
    """Answer with a `Server-Timing` header; None: only when the application runs in debug mode."""

    slow_statement_seconds: PositiveFloat = 0.1
    """`slow-query`: a statement that takes longer, event-loop stalls subtracted, is slow."""
    statement_budget: PositiveInt = 50
    """`too-many-queries`: statements that one request may send."""
    database_budget_seconds: PositiveFloat = 1.0
    """`too-much-db-time`: seconds that one request may spend in the database."""
    idle_transaction_seconds: PositiveFloat = 0.2
    """`idle-in-transaction`: a pause without SQL inside a transaction that is too long."""
    long_transaction_seconds: PositiveFloat = 1.0
    """`long-transaction`: from its first statement to its end."""
    held_connection_seconds: PositiveFloat = 0.5
    """`connection-held`: time that a connection may be kept without use."""
    pool_wait_seconds: PositiveFloat = 0.1
    """`pool-wait`: wait for a pooled connection that is too long."""
    slow_request_seconds: NonNegativeFloat = 1.0
    """The log gets one summary line for each request that spent longer in the database."""

    explain: Literal["off", "estimate", "analyze"] = "analyze"
    """Plans of slow statements: none; plain EXPLAIN; also EXPLAIN ANALYZE of statements proven read-only."""
    explain_interval_seconds: PositiveFloat = 600.0
    """Least time between two plans of one fingerprint."""
    explain_share: float = Field(default=0.02, gt=0.0, le=1.0)
    """Time of EXPLAINs, as a share of the time that the application's statements take."""
    explain_floor_seconds: PositiveFloat = 1.0
    """Time of EXPLAINs that is always allowed, per minute."""
    explain_queue: PositiveInt = 8
    """Plans that may wait to be read and executed again; while they do, no other is asked for."""
    explain_timeout_seconds: PositiveFloat = 0.25
    """`statement_timeout` of a plain EXPLAIN."""
    explain_lock_timeout_seconds: PositiveFloat = 0.05
    """`lock_timeout` of a plain EXPLAIN; an EXPLAIN ANALYZE gets twice as much."""
    explain_analyze_timeout_seconds: PositiveFloat = 10.0
    """The longest `statement_timeout` of an EXPLAIN ANALYZE, which gets three times what the statement took."""
    explain_retry_seconds: PositiveFloat = 86_400.0
    """A statement that cannot be explained is not tried again for so long."""
    explain_settings: tuple[str, ...] = ()
    """Settings of the session that an EXPLAIN ANALYZE needs besides those the plan mentions: `app.tenant`."""
    max_plans: PositiveInt = 500
    """Fingerprints whose latest plans are remembered, to see them change."""

    watch_loads: bool = False
    """`unused-eager-load` and `over-fetch`: note which loaded relationships and columns are read; for development."""

    ignore: tuple[str, ...] = ()
    """Findings not to tell: `rule`, `rule@relation`, `rule@path/*`, `rule@function`; `*` for every rule."""

    project_root: Path = Field(default_factory=Path.cwd)
    """Code below it is the application's, installed packages and virtual environments excepted."""
    application_paths: tuple[Path, ...] = ()
    """More folders or files whose code is the application's, wherever they lie."""
    application_packages: tuple[str, ...] = ()
    """Installed packages that are the application's (an image that runs `pip install .` for its own code)."""
    library_paths: tuple[Path, ...] = ()
    """Folders or files below the project root that are never blamed (a vendored framework, a repository base class)."""
    stack_depth: PositiveInt = 16
    """Application frames kept for each statement, innermost first."""

    max_statements: PositiveInt = 10_000
    """Statements kept per trace; the rest is counted in `Trace.dropped`."""
    max_sql_length: PositiveInt = 20_000
    """Characters of SQL text kept per statement."""
    max_routes: PositiveInt = 300
    """Pairs of method and route with series of their own in the metrics; the rest folds into `other`."""
    max_fingerprints: PositiveInt = 200
    """Fingerprints with series of their own in the metrics; the rest folds into `other`."""

    def model_post_init(self, context: Any, /) -> None:
        """Tell of variables that were meant to be settings."""
        for variable in os.environ:
            if _unknown(variable):
                _tell_unknown(variable)


def _unknown(variable: str) -> bool:
    if not variable.upper().startswith(_PREFIX):
        return False
    name = variable[len(_PREFIX) :].lower()
    return not (name in Settings.model_fields or name in _OTHER_VARIABLES or name.startswith(_OTHER_PREFIXES))


@functools.lru_cache(maxsize=1_000)
def _tell_unknown(variable: str) -> None:
    """Log the variable's name, once in the life of the process; never its value, which may be a secret."""
    close = get_close_matches(variable[len(_PREFIX) :].lower(), Settings.model_fields, n=1)
    remedy = f"did you mean {_PREFIX}{close[0].upper()}?" if close else "see docs/configuration.md for those there are"
    _log.warning("%s names no setting and has no effect; %s", variable, remedy)
