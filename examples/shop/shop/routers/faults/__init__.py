"""Endpoints with one planted fault each, for querytoll to find."""

from fastapi import APIRouter

from shop.routers.faults import (
    background,
    core_loop,
    duplicate_reads,
    lazy_load,
    long_transaction,
    pool_hog,
    row_explosion,
    slow_search,
    streaming,
    write_loop,
)

router = APIRouter(prefix="/faults", tags=["faults"])
for module in (
    lazy_load,
    core_loop,
    duplicate_reads,
    slow_search,
    write_loop,
    background,
    streaming,
    long_transaction,
    pool_hog,
    row_explosion,
):
    router.include_router(module.router)
