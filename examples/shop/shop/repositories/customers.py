"""Statements about customers."""

from shop.models import Customer
from shop.repositories.base import PagedRepository


class CustomerRepository(PagedRepository[Customer]):
    model = Customer
