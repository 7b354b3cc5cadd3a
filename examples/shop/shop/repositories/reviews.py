"""Statements about reviews."""

from shop.models import Review
from shop.repositories.base import PagedRepository


class ReviewRepository(PagedRepository[Review]):
    model = Review
