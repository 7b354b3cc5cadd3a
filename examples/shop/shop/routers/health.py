"""Whether the shop can serve."""

from fastapi import APIRouter
from sqlalchemy import select

from shop.db.dependencies import Db

router = APIRouter(tags=["health"])


@router.get("/healthz")
async def health(db: Db) -> dict[str, str]:
    await db.execute(select(1))
    return {"status": "ok"}
