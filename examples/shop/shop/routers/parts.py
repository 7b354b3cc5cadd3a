"""What the endpoints share."""

from dataclasses import dataclass
from typing import Annotated, TypeVar

from fastapi import Depends, HTTPException, Query, status

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Paging:
    """Which page is asked for: `limit` rows older than the id `before`."""

    before: Annotated[int | None, Query()] = None
    limit: Annotated[int, Query(ge=1, le=100)] = 25


Paged = Annotated[Paging, Depends()]


def found(row: T | None, what: str) -> T:
    """Give the row.

    Raises:
        HTTPException: 404, there is none.
    """
    if row is None:
        raise HTTPException(status.HTTP_404_NOT_FOUND, f"no such {what}")
    return row
