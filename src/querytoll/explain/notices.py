"""NOTICEs of auto_explain to plans of the real execution, for servers whose DBA lets them be sent."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import event

from querytoll.capture.connections import faults
from querytoll.explain.document import read_document
from querytoll.explain.plan import PlanDocumentError, text

MAX_LENGTH: Final = 2_000_000
"""Characters of a plan that are kept until its statement is found slow, or until the next one comes."""
_BOX: Final = "querytoll_notices"
_PLAN: Final = re.compile(r"duration: [\d.]+ ms\s+plan:\s*(?=\{)")

Box = deque[str]
"""The latest plan that the server sent over one connection."""


def listen(pool: Any) -> None:
    """Take the plans that arrive over the connections that a pool, or every pool, makes from now on; again: a no-op."""
    if not event.contains(pool, "connect", on_connect):
        event.listen(pool, "connect", on_connect)


def on_connect(dbapi_connection: Any, record: Any) -> None:
    """Pool event: give the connection a box."""
    try:
        box: Box = deque(maxlen=1)
        if _attach(getattr(dbapi_connection, "driver_connection", None) or dbapi_connection, box):
            record.record_info[_BOX] = box
    except Exception as fault:
        faults.caught("explain", fault)


def _attach(raw: Any, box: Box) -> bool:
    if hasattr(raw, "add_log_listener"):
        raw.add_log_listener(lambda connection, notice: _keep(box, notice.message))
        return True
    if hasattr(raw, "add_notice_handler"):
        raw.add_notice_handler(lambda notice: _keep(box, notice.message_primary))
        return True
    return False


def _keep(box: Box, message: str | None) -> None:
    if message and len(message) <= MAX_LENGTH and (head := _PLAN.match(message)):
        box.append(message[head.end() :])


def box_of(connection: Any) -> Box | None:
    """The box of one of SQLAlchemy's pooled connections."""
    info = connection.record_info
    return info.get(_BOX) if info else None


def take(box: Box | None, statement: str | None) -> Mapping[str, object] | None:
    """The plan of the statement, if it is the one that arrived last."""
    if not box or statement is None:
        return None
    try:
        document = read_document(box.pop())
    except PlanDocumentError:
        return None
    return document if (text(document.get("Query Text")) or "").strip() == statement.strip() else None
