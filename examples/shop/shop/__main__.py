"""`python -m shop migrate | seed | traffic`."""

import argparse
import asyncio
import sys

from shop import migrate, traffic
from shop.db.config import ShopSettings
from shop.db.session import create_engine
from shop.seed import seed


async def run_migrate(arguments: argparse.Namespace) -> None:
    await migrate.upgrade(ShopSettings().database_url)


async def run_seed(arguments: argparse.Namespace) -> None:
    engine = create_engine(ShopSettings())
    await seed(engine, arguments.rows, lambda done, total: print(f"\r{done:,} of {total:,} rows", end="", flush=True))
    await engine.dispose()
    print()


async def run_traffic(arguments: argparse.Namespace) -> None:
    counts = await traffic.drive(
        arguments.url, seconds=arguments.seconds, rate=arguments.rate, seed=arguments.seed, rows=arguments.rows
    )
    print(dict(sorted(counts.items())))


def parse(words: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m shop")
    commands = parser.add_subparsers(required=True)
    commands.add_parser("migrate").set_defaults(run=run_migrate)
    seeding = commands.add_parser("seed")
    seeding.set_defaults(run=run_seed)
    driving = commands.add_parser("traffic")
    driving.set_defaults(run=run_traffic)
    driving.add_argument("--url", default="http://127.0.0.1:8000")
    driving.add_argument("--seconds", type=float, default=30.0)
    driving.add_argument("--rate", type=float, default=50.0)
    driving.add_argument("--seed", type=int, default=1)
    for command in (seeding, driving):
        command.add_argument("--rows", type=int, default=traffic.ROWS)
    return parser.parse_args(words)


if __name__ == "__main__":
    arguments = parse(sys.argv[1:])
    asyncio.run(arguments.run(arguments))
