"""The shop has the rows that were asked for, once."""

import pytest
from sqlalchemy import func, select

from shop.db.base import Base
from shop.db.config import ShopSettings
from shop.db.session import create_engine
from shop.migrate import upgrade
from shop.seed import Sizes, seed

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_seeds_once_and_tells_its_progress(empty_database: str) -> None:
    """The tables hold the total; a second run changes nothing."""
    await upgrade(empty_database)
    engine = create_engine(ShopSettings(database_url=empty_database))
    steps: list[tuple[int, int]] = []
    assert await seed(engine, 2_500, lambda done, total: steps.append((done, total)))
    assert not await seed(engine, 2_500)
    async with engine.connect() as connection:
        counts = [
            await connection.scalar(select(func.count()).select_from(table)) for table in Base.metadata.tables.values()
        ]
    await engine.dispose()
    assert sum(count or 0 for count in counts) == 2_500
    assert steps == sorted(steps)
    assert steps[-1] == (2_500, 2_500)


async def test_refuses_a_shop_too_small(empty_database: str) -> None:
    """Some tables would be empty."""
    engine = create_engine(ShopSettings(database_url=empty_database))
    with pytest.raises(ValueError, match="at least 1000"):
        await seed(engine, 10)


@pytest.mark.parametrize("rows", [1_000, 2_000, 200_000])
async def test_sizes_add_up(rows: int) -> None:
    """No table is empty, and the total is exact."""
    counts = [count for _, _, count in Sizes(rows).plan()]
    assert sum(counts) == rows
    assert min(counts) > 0
