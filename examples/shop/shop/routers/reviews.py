"""`/reviews`."""

from fastapi import APIRouter, status

from shop.db.dependencies import Work
from shop.models import Review
from shop.routers.parts import Paged, found
from shop.schemas.base import Page
from shop.schemas.review import ReviewCreate, ReviewRead, ReviewUpdate

router = APIRouter(prefix="/reviews", tags=["reviews"])


@router.get("")
async def list_reviews(
    work: Work, paging: Paged, product_id: int | None = None, customer_id: int | None = None
) -> Page[ReviewRead]:
    where = [] if product_id is None else [Review.product_id == product_id]
    if customer_id is not None:
        where.append(Review.customer_id == customer_id)
    rows = await work.reviews.page(*where, before=paging.before, limit=paging.limit)
    return Page[ReviewRead].of(rows, paging.limit)


@router.post("", status_code=status.HTTP_201_CREATED, response_model=ReviewRead)
async def create_review(body: ReviewCreate, work: Work) -> Review:
    async with work:
        return work.reviews.add(Review(**body.model_dump()))


@router.patch("/{review_id}", response_model=ReviewRead)
async def update_review(review_id: int, body: ReviewUpdate, work: Work) -> Review:
    async with work:
        review = found(await work.reviews.get(review_id), "review")
        work.reviews.change(review, body.changes())
    return review


@router.delete("/{review_id}", status_code=status.HTTP_204_NO_CONTENT)
async def delete_review(review_id: int, work: Work) -> None:
    async with work:
        await work.reviews.delete(found(await work.reviews.get(review_id), "review"))
