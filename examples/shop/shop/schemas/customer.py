"""Customers as JSON."""

from typing import Annotated

from pydantic import Field

from shop.schemas.base import Create, Text, Timestamped, Update

Email = Annotated[str, Field(pattern=r"^[^@\s]+@[^@\s]+$", max_length=254)]


class CustomerCreate(Create):
    email: Email
    name: Text


class CustomerUpdate(Update):
    email: Email | None = None
    name: Text | None = None


class CustomerRead(Timestamped):
    id: int
    email: str
    name: str
