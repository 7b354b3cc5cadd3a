# Planted: the task that runs after the response loads each review's product on access.
# querytoll: n-plus-one in the phase `background`, at the `await` in the loop.
# Fix: `.options(joinedload(Review.product))`.
"""Mail a digest of the newest reviews."""

import logging

from fastapi import APIRouter, BackgroundTasks, status
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from shop.db.dependencies import Sessions
from shop.models import Review
from shop.routers.parts import Paged

logger = logging.getLogger(__name__)
router = APIRouter()


@router.post("/background", status_code=status.HTTP_202_ACCEPTED)
async def request_digest(tasks: BackgroundTasks, sessions: Sessions, paging: Paged) -> dict[str, str]:
    tasks.add_task(mail_digest, sessions, paging.limit)
    return {"status": "accepted"}


async def mail_digest(sessions: async_sessionmaker[AsyncSession], limit: int) -> None:
    async with sessions() as session:
        reviews = await session.scalars(select(Review).order_by(Review.id.desc()).limit(limit))
        lines = []
        for review in reviews:
            product = await review.awaitable_attrs.product
            lines.append(f"{product.name}: {review.rating} of 5")
    logger.info("mailed a digest of %d reviews", len(lines))
