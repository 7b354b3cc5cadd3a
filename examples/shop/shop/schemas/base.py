"""What the schemas share."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Generic, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, field_validator

from shop.db.base import Entity

Money = Annotated[Decimal, Field(ge=0, max_digits=12, decimal_places=2)]
Text = Annotated[str, Field(min_length=1, max_length=5_000)]
Quantity = Annotated[int, Field(ge=1, le=1_000)]


class Create(BaseModel):
    """A body that makes something; unknown fields are refused."""

    model_config = ConfigDict(extra="forbid")


class Update(BaseModel):
    """A body that changes something: fields left out stay as they are, null is refused."""

    model_config = ConfigDict(extra="forbid")

    @field_validator("*", mode="before")
    @classmethod
    def _not_null(cls, value: object) -> object:
        if value is None:
            raise ValueError("may be left out, but not be null")
        return value

    def changes(self) -> dict[str, object]:
        """Give the fields that were sent."""
        return self.model_dump(exclude_unset=True)


class Read(BaseModel):
    """What is shown of a row."""

    model_config = ConfigDict(from_attributes=True)


class Timestamped(Read):
    """What is shown of a row with timestamps."""

    created_at: datetime
    updated_at: datetime


ReadT = TypeVar("ReadT", bound=Read)


class Page(BaseModel, Generic[ReadT]):
    """A page, newest first; `next` is the `before` of the page that follows, None on the last."""

    items: list[ReadT]
    next: int | None

    @classmethod
    def of(cls, rows: Sequence[Entity], limit: int) -> Self:
        """Show the rows as one page."""
        return cls.model_validate({"items": rows, "next": rows[-1].id if len(rows) == limit else None})
