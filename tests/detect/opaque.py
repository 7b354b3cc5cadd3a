"""Code that reads objects past their descriptors."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tests.detect.shelf import OrderRead


def as_schemas(orders: Iterable[Any]) -> list[OrderRead]:
    """Make schemas of what the objects hold, and of nothing that can be seen."""
    assert all(order.id for order in orders)
    return [OrderRead(**{key: vars(order)[key] for key in ("id", "number")}) for order in orders]
