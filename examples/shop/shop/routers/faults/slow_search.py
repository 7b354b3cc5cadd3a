# Planted: a word is looked for anywhere in the unindexed descriptions, which reads the whole table.
# querytoll: slow-query; with plans also seq-scan-filter.
# Fix without an extension: search for words, with an index that serves it (pg_trgm would serve parts of words):
#   CREATE INDEX CONCURRENTLY ix_products_description ON products USING gin (to_tsvector('english', description))
#   WHERE to_tsvector('english', description) @@ websearch_to_tsquery('english', :q)
"""Search in the descriptions of products."""

from typing import Annotated

from fastapi import APIRouter, Query
from sqlalchemy import select

from shop.db.dependencies import Db
from shop.models import Product
from shop.repositories.products import ProductRepository
from shop.routers.parts import Paged
from shop.schemas.base import Page
from shop.schemas.product import ProductSummary

router = APIRouter()


@router.get("/slow-search")
async def search_products(db: Db, paging: Paged, q: Annotated[str, Query(min_length=3)]) -> Page[ProductSummary]:
    query = (
        select(Product)
        .where(Product.description.icontains(q, autoescape=True))
        .order_by(Product.price, Product.id.desc())
        .limit(paging.limit)
        .options(*ProductRepository.listed)
    )
    return Page[ProductSummary].of((await db.scalars(query)).all(), paging.limit)
