"""No value of a statement survives: not in a plan, a finding, a log line or a metric."""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine

from querytoll import Profiler, Settings
from querytoll.sinks.log import LogSink
from querytoll.sinks.prometheus import PrometheusSink, exposition
from tests.explain.sampling import Sink, strings, with_driver
from tests.explain.servers import execute

WRITTEN = (
    "SELECT * FROM people WHERE name = '{word}'",
    "SELECT * FROM people WHERE name IN ('a', '{word}') AND age <> {number}",
    "SELECT * FROM people WHERE name LIKE '%{word}%' OR name ILIKE '{word}%'",
    "SELECT * FROM people WHERE name ~ '^{word}' AND age BETWEEN 0 AND {number}",
    "SELECT * FROM people WHERE name = E'{word}\\n' OR name = $tag${word}$tag$ OR name = U&'{word}\\0041'",
    "SELECT * FROM people WHERE data @> '{{\"k\": \"{word}\"}}' OR data->>'{word}' = 'x'",
    "SELECT * FROM people WHERE tags && ARRAY['{word}'] OR '{word}' = ANY (tags) OR age = ANY ('{{1,{number}}}')",
    "SELECT * FROM people WHERE at > '2031-07-19 11:12:13' AND at < now() + interval '{number} s'",
    "SELECT '{word}' AS x, age + {number} FROM people ORDER BY name || '{word}', age % {number}",
    "SELECT name || '{word}', count(*) FROM people GROUP BY name || '{word}' HAVING count(*) < {number}",
    "SELECT CASE WHEN name = '{word}' THEN {number} ELSE 0 END FROM people",
    "SELECT string_agg(name, '{word}') FILTER (WHERE age <> {number}) FROM people",
    "SELECT DISTINCT ON (name || '{word}') * FROM people ORDER BY name || '{word}'",
    "SELECT sum(age) OVER (PARTITION BY name || '{word}' ORDER BY age + {number}) FROM people",
    "SELECT * FROM people LIMIT {number} OFFSET 0",
    "SELECT * FROM (VALUES ('{word}', {number}), ('b', 2)) AS v(w, n) WHERE n > 1",
    "WITH w AS MATERIALIZED (SELECT * FROM people WHERE name <> '{word}') SELECT * FROM w WHERE age <> {number}",
    "SELECT * FROM people p WHERE EXISTS (SELECT FROM people q WHERE q.age = p.age AND q.name <> '{word}')",
    "SELECT * FROM people WHERE to_tsvector('english', name) @@ to_tsquery('english', '{word}')",
    "SELECT * FROM people WHERE (name, age) > ('{word}', {number})",
    "SELECT * FROM people TABLESAMPLE bernoulli (50) REPEATABLE ({number})",
    "SELECT * FROM generate_series({number}, {number} + 3) AS g, jsonb_each('{{\"{word}\": 1}}') AS j",
    "SELECT * FROM xmltable('/{word}' PASSING '<{word}/>'::xml COLUMNS x text PATH '@{word}')",
    "SELECT * FROM people WHERE name = current_setting('app.tenant', true) || '{word}'",
    "SELECT * FROM people WHERE secret = '\\x{hexadecimal}'::bytea OR age = {number}::numeric",
    "SELECT * FROM people WHERE /* {word} */ name = 'a' -- {word}",
    "UPDATE people SET name = '{word}', age = {number} WHERE name = '{word}'",
    "INSERT INTO people (name, age) VALUES ('{word}', {number})",
    "DELETE FROM people WHERE name = '{word}' AND age = {number}",
    "SELECT * FROM people WHERE name = '{word}' AND 1 / (age - age) = {number}",
)
BOUND = (
    "SELECT * FROM people WHERE name = :word AND age <> :number",
    "SELECT * FROM people WHERE name LIKE :word || '%' ORDER BY age + :number LIMIT :number",
    "SELECT * FROM people WHERE name = ANY (ARRAY[CAST(:word AS text)]) OR age = CAST(:number AS int)",
    "INSERT INTO people (name, age) SELECT :word, CAST(:number AS int)",
)


@pytest.fixture
def lines() -> Iterator[list[str]]:
    """Every line that querytoll logs."""
    caught: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: caught.append(f"{record.getMessage()} {vars(record)}")  # type: ignore[method-assign]
    logger = logging.getLogger("querytoll")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield caught
    logger.removeHandler(handler)
    logger.setLevel(level)


@pytest.fixture(scope="module")
def filled(url: str) -> str:
    execute(
        url,
        "CREATE TABLE people (name text, age int, data jsonb, tags text[], at timestamptz, secret bytea)",
        "INSERT INTO people SELECT 'n' || i, i % 90, '{}', '{}', now(), '' FROM generate_series(1, 30000) i",
        "VACUUM ANALYZE people",
    )
    return url


@pytest.mark.parametrize("seed", range(1))
@pytest.mark.parametrize("driver", ["asyncpg", "psycopg_async"])
async def test_no_value_survives(filled: str, driver: str, seed: int, lines: list[str]) -> None:
    """Whatever the value and wherever it stands, everything that is told is free of it."""
    dice = random.Random(seed)
    word = "".join(dice.choice("qxzjkvw") for _ in range(9))
    number = dice.randrange(300_000_000, 900_000_000)
    values = {"word": word, "number": number, "hexadecimal": word.encode().hex()}
    sink, registry = Sink(), CollectorRegistry()
    settings = Settings(
        slow_statement_seconds=1e-9, explain_interval_seconds=1e-9, explain_floor_seconds=1e6, explain_queue=100
    )
    sinks = [sink, LogSink(settings, interval_seconds=0), PrometheusSink(registry)]
    engine = create_async_engine(with_driver(filled, driver))
    profiler = Profiler(settings, engines=[engine], sinks=sinks)
    async with engine.connect() as connection:
        await connection.execute(text(f"SET app.tenant = '{word}'"))
        await connection.commit()
        for template in (*WRITTEN, *BOUND):
            async with profiler.profile("x"):
                try:
                    if template in BOUND:
                        await connection.execute(text(template), {"word": word, "number": number})
                    else:
                        await connection.exec_driver_sql(template.format(**values).replace("%", _percent(driver)))
                except DBAPIError:
                    pass
                await connection.rollback()
    await profiler.drain()
    await profiler.aclose()
    await engine.dispose()
    assert len(sink.plans) > 25
    assert {plan.source for plan in sink.plans} == {"estimate", "analyze"}
    told = [found for report in sink.reports for found in strings((report.findings, report.plans))]
    told += [*lines, exposition(registry, None)[0].decode()]
    for secret in (word, str(number), values["hexadecimal"], "2031-07-19", "11:12:13"):
        assert not [found for found in told if str(secret) in found], secret


def _percent(driver: str) -> str:
    return "%%" if driver.startswith("psycopg") else "%"
