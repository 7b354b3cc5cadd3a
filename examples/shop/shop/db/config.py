"""Environment variables `SHOP_*` to `ShopSettings`."""

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from pydantic_settings import BaseSettings, SettingsConfigDict


class ShopSettings(BaseSettings):
    """Where the database is and how it is used."""

    model_config = SettingsConfigDict(env_prefix="SHOP_", frozen=True)

    database_url: str = Field(default="postgresql+asyncpg://localhost/shop", repr=False)
    """SQLAlchemy URL for asyncpg; may hold a password, hence not shown."""
    pool_size: PositiveInt = 10
    max_overflow: NonNegativeInt = 5
    pool_timeout_seconds: PositiveFloat = 30.0
    carrier_seconds: NonNegativeFloat = 1.0
    """Time that the stand-in for the carrier's service takes to answer."""
