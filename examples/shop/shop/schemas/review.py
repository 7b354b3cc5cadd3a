"""Reviews as JSON."""

from typing import Annotated

from pydantic import Field

from shop.schemas.base import Create, Text, Timestamped, Update

Rating = Annotated[int, Field(ge=1, le=5)]


class ReviewCreate(Create):
    product_id: int
    customer_id: int
    rating: Rating
    body: Text


class ReviewUpdate(Update):
    rating: Rating | None = None
    body: Text | None = None


class ReviewRead(Timestamped):
    id: int
    product_id: int
    customer_id: int
    rating: int
    body: str
