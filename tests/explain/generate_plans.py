"""Statements with known faults, run on live servers, to the fixture plans of the rules.

Usage: python tests/explain/generate_plans.py URL [URL ...] (libpq URLs of servers with a database to fill).
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy.ext.asyncio import create_async_engine

from querytoll.explain.catalog import read_catalog
from querytoll.explain.plan import plan_from, walk

PLANS = Path(__file__).parent / "plans"
ANALYZE = "ANALYZE, BUFFERS"
SCHEMA = """
CREATE EXTENSION IF NOT EXISTS pg_trgm;
CREATE TABLE customers (id int PRIMARY KEY, email varchar(80), name text, city text, country text,
    active boolean, created_at timestamptz, joined timestamp) WITH (autovacuum_enabled = off);
INSERT INTO customers SELECT i, 'user' || i || '@example.org', 'name ' || md5(i::text), 'city' || i % 100,
    'country' || i % 100, i % 50 = 0, '2024-01-01'::timestamptz + i * interval '10 min',
    '2024-01-01'::timestamp + i * interval '10 min' FROM generate_series(1, 20000) i;
CREATE TABLE orders (id int PRIMARY KEY, customer_id int, status varchar(20), total numeric(10,2), ref bigint,
    created_at timestamptz, paid_at timestamptz, note text, data jsonb) WITH (autovacuum_enabled = off);
INSERT INTO orders SELECT i, i % 20000 + 1, (ARRAY['done','done','done','open','lost'])[i % 5 + 1], i % 1000, i,
    '2024-01-01'::timestamptz + i * interval '1 min', CASE WHEN i % 40 > 0 THEN now() END, 'note ' || md5(i::text),
    jsonb_build_object('color', 'c' || i % 500) FROM generate_series(1, 120000) i;
CREATE TABLE items (id int PRIMARY KEY, order_id int, product_id int, qty int) WITH (autovacuum_enabled = off);
INSERT INTO items SELECT i, i % 120000 + 1, i % 997, i % 7 FROM generate_series(1, 150000) i;
CREATE TABLE picks (id int PRIMARY KEY, order_id int) WITH (autovacuum_enabled = off);
INSERT INTO picks SELECT i, i * 100 FROM generate_series(1, 20) i;
CREATE TABLE small (id int PRIMARY KEY, kind text) WITH (autovacuum_enabled = off);
INSERT INTO small SELECT i, 'k' || i % 10 FROM generate_series(1, 500) i;
CREATE TABLE tickets (id int PRIMARY KEY, owner_id int, state text, body text, opened timestamptz)
    WITH (autovacuum_enabled = off);
INSERT INTO tickets SELECT i, i % 500, CASE i % 3 WHEN 0 THEN 'open' ELSE 'closed' END, repeat(md5(i::text), 3),
    '2024-01-01'::timestamptz + i * interval '1 min' FROM generate_series(1, 60000) i;
CREATE INDEX tickets_state_idx ON tickets (state);
CREATE INDEX tickets_opened_idx ON tickets (opened);
CREATE TABLE parents (id int PRIMARY KEY, name text) WITH (autovacuum_enabled = off);
INSERT INTO parents SELECT i, 'p' FROM generate_series(1, 2000) i;
CREATE TABLE children (id int PRIMARY KEY, parent_id int CONSTRAINT children_parent_id_fkey REFERENCES parents,
    other_id int) WITH (autovacuum_enabled = off);
INSERT INTO children SELECT i, 1001 + i % 1000, i % 50 FROM generate_series(1, 60000) i;
CREATE TABLE texts (id int PRIMARY KEY, body text) WITH (autovacuum_enabled = off);
INSERT INTO texts SELECT i, CASE WHEN i % 2000 = 0 THEN 'aaaaaa ' ELSE 'aaa bbb ' END || md5(i::text)
    FROM generate_series(1, 30000) i;
CREATE INDEX texts_body_trgm ON texts USING gin (body gin_trgm_ops);
CREATE TABLE visits (id int PRIMARY KEY, day int, pad text) WITH (autovacuum_enabled = off);
INSERT INTO visits SELECT i, i % 100, repeat('x', 100) FROM generate_series(1, 60000) i;
CREATE INDEX visits_day_idx ON visits (day);
CREATE TABLE wide (id int PRIMARY KEY, pad text) WITH (autovacuum_enabled = off);
ALTER TABLE wide ALTER pad SET STORAGE PLAIN;
INSERT INTO wide SELECT i, repeat('w', 7000) FROM generate_series(1, 60000) i;
CREATE TABLE events (id int, kind text, at timestamptz, tenant int) PARTITION BY RANGE (at);
DO $$ BEGIN FOR m IN 1..12 LOOP
    EXECUTE format('CREATE TABLE events_2024_%s PARTITION OF events FOR VALUES FROM (%L) TO (%L)',
        lpad(m::text, 2, '0'), make_date(2024, m, 1), make_date(2024, m, 1) + interval '1 month');
END LOOP; END $$;
INSERT INTO events SELECT i, 'kind' || i % 200, '2024-01-01'::timestamptz + i * interval '8 min', i % 50
    FROM generate_series(1, 60000) i;
CREATE FUNCTION many_rows(n int) RETURNS SETOF int LANGUAGE plpgsql STABLE AS
    $$ BEGIN RETURN QUERY SELECT generate_series(1, n); END $$;
CREATE TABLE keyed (id int PRIMARY KEY, k int, pad text) WITH (autovacuum_enabled = off);
INSERT INTO keyed SELECT i, i, repeat('k', 40) FROM generate_series(1, 15000) i;
CREATE TABLE fewkeys (id int PRIMARY KEY, k int) WITH (autovacuum_enabled = off);
INSERT INTO fewkeys SELECT i, i % 50 + 1 FROM generate_series(1, 15000) i;
ALTER TABLE keyed ALTER k SET (n_distinct = 20);
"""


@dataclass(frozen=True)
class Scenario:
    """A statement and the rule that must, or must not, speak of it.

    Args:
        setup: statements before it, in the same transaction, which is rolled back.
        lock: a statement that another session holds open meanwhile.
        also: rules that it rightly breaks besides.
        servers: oldest and newest major version that it is run on.
    """

    rule: str
    name: str
    sql: str
    finds: bool
    setup: tuple[str, ...] = ()
    options: str = ANALYZE
    lock: str | None = None
    also: tuple[str, ...] = ()
    catalog: bool = True
    generic: bool = False
    servers: tuple[int, int] = field(default=(13, 99))


def yes(rule: str, name: str, sql: str, *setup: str, **more: Any) -> Scenario:
    """A statement of which the rule must speak."""
    return Scenario(rule, name, sql, True, setup, **more)


def no(rule: str, name: str, sql: str, *setup: str, **more: Any) -> Scenario:
    """A near miss: the rule must stay silent."""
    return Scenario(rule, name, sql, False, setup, **more)


SERIAL = "SET LOCAL max_parallel_workers_per_gather = 0"
NO_HASH = "SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off"
PARALLEL = (
    "SET LOCAL max_parallel_workers_per_gather = 2; SET LOCAL parallel_setup_cost = 0;"
    " SET LOCAL parallel_tuple_cost = 0; SET LOCAL min_parallel_table_scan_size = 0"
)
LITTLE = "SET LOCAL work_mem = '64kB'"
MUCH = "SET LOCAL work_mem = '256MB'"
SCATTERED = (
    "CREATE TABLE scattered AS SELECT i AS id, (i * 7919) % 100003 AS k, repeat('s', 500) AS pad"
    " FROM generate_series(1, 40000) i; CREATE INDEX scattered_k ON scattered (k); ANALYZE scattered;"
    " SET LOCAL enable_seqscan = off; SET LOCAL enable_indexscan = off"
)
LOST = ("seq-scan-filter", "missing-index")

SCENARIOS: tuple[Scenario, ...] = (
    yes("seq-scan-filter", "equality", "SELECT * FROM orders WHERE customer_id = 77", SERIAL, also=LOST),
    yes("seq-scan-filter", "parallel", "SELECT * FROM orders WHERE customer_id = 77", PARALLEL, also=LOST),
    yes("seq-scan-filter", "estimate", "SELECT * FROM orders WHERE customer_id = 77", options="", also=LOST),
    yes(
        "seq-scan-filter",
        "untimed",
        "SELECT * FROM orders WHERE customer_id = 77 AND total > 5",
        SERIAL,
        options="ANALYZE, TIMING OFF, BUFFERS OFF, VERBOSE",
        also=LOST,
    ),
    yes(
        "seq-scan-filter",
        "partitions",
        "SELECT * FROM events WHERE tenant = 7 AND kind = 'kind7'",
        SERIAL,
        also=(*LOST, "partition-pruning"),
    ),
    yes(
        "seq-scan-filter",
        "update",
        "UPDATE orders SET total = 1 WHERE customer_id = 5 AND status = 'open'",
        SERIAL,
        also=LOST,
    ),
    no("seq-scan-filter", "most-rows-kept", "SELECT * FROM orders WHERE status = 'done'", SERIAL),
    no("seq-scan-filter", "small-table", "SELECT * FROM small WHERE kind = 'k3'"),
    no("seq-scan-filter", "limit-stops-early", "SELECT * FROM orders WHERE status = 'lost' LIMIT 5", SERIAL),
    no("seq-scan-filter", "estimate-limit", "SELECT * FROM orders WHERE status = 'lost' LIMIT 5", SERIAL, options=""),
    yes(
        "function-on-column",
        "lower",
        "SELECT * FROM customers WHERE lower(email) = 'user77@example.org'",
        SERIAL,
        also=LOST,
    ),
    yes(
        "function-on-column",
        "date-trunc",
        "SELECT * FROM orders WHERE date_trunc('day', created_at) = '2024-02-03'",
        SERIAL,
        also=("seq-scan-filter",),
    ),
    yes(
        "function-on-column",
        "date-cast",
        "SELECT id FROM orders WHERE created_at::date = '2024-02-03'",
        SERIAL,
        also=("seq-scan-filter",),
    ),
    yes("function-on-column", "arithmetic", "SELECT id FROM orders WHERE customer_id + 1 = 78", PARALLEL, also=LOST),
    no(
        "function-on-column",
        "function-on-constant",
        "SELECT * FROM customers WHERE email = lower('USER77@example.org')",
        SERIAL,
        also=LOST,
    ),
    no("function-on-column", "any-list", "SELECT * FROM orders WHERE customer_id = ANY ('{7,8,9}')", SERIAL, also=LOST),
    no(
        "function-on-column",
        "now-minus",
        "SELECT id FROM orders WHERE created_at > now() - interval '1 day'",
        SERIAL,
        also=LOST,
    ),
    yes(
        "type-cast-on-column",
        "numeric-bind",
        "SELECT * FROM orders WHERE customer_id = 77::numeric",
        SERIAL,
        also=("seq-scan-filter",),
    ),
    yes(
        "type-cast-on-column",
        "double-bind",
        "SELECT * FROM orders WHERE id = 77::double precision",
        PARALLEL,
        also=("seq-scan-filter",),
    ),
    yes(
        "type-cast-on-column",
        "id-as-text",
        "SELECT * FROM orders WHERE ref::text = '77'",
        SERIAL,
        also=("seq-scan-filter",),
    ),
    no(
        "type-cast-on-column",
        "varchar-relabel",
        "SELECT * FROM customers WHERE email = 'user77@example.org'::text",
        SERIAL,
        also=LOST,
    ),
    no(
        "type-cast-on-column",
        "varchar-relabel-blind",
        "SELECT * FROM customers WHERE email = 'user77@example.org'::text",
        SERIAL,
        also=LOST,
        catalog=False,
    ),
    no(
        "type-cast-on-column",
        "cast-on-value",
        "SELECT * FROM orders WHERE total = 77::bigint::numeric",
        SERIAL,
        also=LOST,
    ),
    yes("leading-wildcard", "like", "SELECT * FROM orders WHERE note LIKE '%abcdef%'", SERIAL, also=LOST),
    yes("leading-wildcard", "ilike", "SELECT * FROM customers WHERE email ILIKE '%77@EXAMPLE%'", SERIAL, also=LOST),
    no("leading-wildcard", "prefix", "SELECT * FROM orders WHERE note LIKE 'note abcd%'", SERIAL, also=LOST),
    no(
        "leading-wildcard",
        "parameter",
        "SELECT * FROM orders WHERE note LIKE $1",
        SERIAL,
        generic=True,
        also=("seq-scan-filter",),
    ),
    no("leading-wildcard", "trigram-index", "SELECT * FROM texts WHERE body LIKE '%0123456%'"),
    yes(
        "seq-scan-join",
        "few-picks",
        "SELECT * FROM picks p JOIN items i ON i.order_id = p.order_id",
        SERIAL,
        also=("missing-index",),
    ),
    yes(
        "seq-scan-join",
        "parallel",
        "SELECT * FROM picks p JOIN items i ON i.order_id = p.order_id",
        PARALLEL,
        also=("missing-index",),
    ),
    no("seq-scan-join", "both-large", "SELECT count(*) FROM orders o JOIN items i ON i.order_id = o.id", SERIAL),
    no(
        "seq-scan-join",
        "most-rows-match",
        "SELECT count(*) FROM (SELECT DISTINCT qty FROM items LIMIT 7) q JOIN items i ON i.qty = q.qty",
        SERIAL,
    ),
    yes(
        "inefficient-index",
        "second-column",
        "SELECT * FROM tickets WHERE state = 'open' AND owner_id = 33",
        SERIAL,
        "SET LOCAL enable_seqscan = off",
        also=("missing-index",),
    ),
    yes(
        "inefficient-index",
        "order-by-limit",
        "SELECT * FROM tickets WHERE owner_id = 33 ORDER BY opened DESC LIMIT 100",
        SERIAL,
        "SET LOCAL enable_seqscan = off; SET LOCAL enable_sort = off",
        also=("missing-index",),
    ),
    no(
        "inefficient-index",
        "nested-loop-inner",
        "SELECT count(*) FROM items i JOIN orders o ON o.id = i.order_id AND o.status <> 'done' WHERE i.id <= 9000",
        SERIAL,
        NO_HASH,
    ),
    no(
        "inefficient-index",
        "few-removed",
        "SELECT * FROM tickets WHERE opened < '2024-01-02' AND owner_id = 33",
        SERIAL,
    ),
    yes(
        "row-misestimate",
        "correlated-columns",
        "SELECT * FROM orders WHERE created_at < '2024-01-05' AND ref < 5760",
        SERIAL,
        also=LOST,
    ),
    yes("row-misestimate", "wrong-n-distinct", "SELECT k, count(*) FROM keyed GROUP BY k", SERIAL),
    yes(
        "row-misestimate",
        "stale-statistics",
        "SELECT count(*) FROM fresh WHERE n > 5",
        "CREATE TABLE fresh (n int); INSERT INTO fresh VALUES (1); ANALYZE fresh;"
        " INSERT INTO fresh SELECT generate_series(1, 20000)",
    ),
    no("row-misestimate", "limit", "SELECT * FROM orders WHERE status = 'done' LIMIT 10", SERIAL),
    no(
        "row-misestimate",
        "semi-join",
        "SELECT count(*) FROM picks p WHERE EXISTS (SELECT FROM orders o WHERE o.status = 'done' AND o.id > p.id)",
        SERIAL,
    ),
    no(
        "row-misestimate",
        "nothing-found",
        "SELECT * FROM customers WHERE city = 'city7' AND country = 'nowhere'",
        SERIAL,
        also=LOST,
    ),
    yes("function-scan-estimate", "plpgsql", "SELECT count(*) FROM many_rows(30000) r"),
    yes(
        "function-scan-estimate",
        "json",
        "SELECT count(*) FROM jsonb_array_elements((SELECT jsonb_agg(id) FROM customers)) e",
    ),
    no("function-scan-estimate", "generate-series", "SELECT count(*) FROM generate_series(1, 50000) g"),
    no("function-scan-estimate", "few-rows", "SELECT * FROM regexp_split_to_table('a,b,c', ',') r"),
    yes("disk-sort", "little-memory", "SELECT * FROM items ORDER BY qty, product_id", SERIAL, LITTLE),
    yes("disk-sort", "workers", "SELECT * FROM items ORDER BY qty, product_id", PARALLEL, LITTLE),
    yes(
        "disk-sort",
        "incremental",
        "SELECT * FROM items ORDER BY id / 60000, qty",
        "CREATE INDEX ON items ((id / 60000)); ANALYZE items; SET LOCAL enable_sort = off",
        LITTLE,
        SERIAL,
    ),
    no("disk-sort", "fits", "SELECT * FROM items ORDER BY qty, product_id", SERIAL, MUCH),
    no(
        "disk-sort",
        "top-n",
        "SELECT * FROM items ORDER BY qty, product_id LIMIT 10",
        SERIAL,
        LITTLE,
        also=("limit-sort", "missing-index"),
    ),
    yes(
        "hash-batches",
        "little-memory",
        "SELECT count(*) FROM orders o JOIN items i ON i.order_id = o.id",
        SERIAL,
        LITTLE,
        "SET LOCAL enable_mergejoin = off",
    ),
    yes(
        "hash-batches",
        "parallel",
        "SELECT count(*) FROM orders o JOIN items i ON i.order_id = o.id",
        PARALLEL,
        LITTLE,
        "SET LOCAL enable_mergejoin = off",
    ),
    no("hash-batches", "fits", "SELECT count(*) FROM orders o JOIN items i ON i.order_id = o.id", SERIAL, MUCH),
    no(
        "hash-batches",
        "small-side",
        "SELECT count(*) FROM picks p JOIN items i ON i.order_id = p.order_id",
        SERIAL,
        also=("seq-scan-join", "missing-index"),
    ),
    yes(
        "hashagg-spill",
        "many-groups",
        "SELECT order_id, sum(qty) FROM items GROUP BY order_id",
        SERIAL,
        LITTLE,
        "SET LOCAL enable_sort = off",
    ),
    yes("hashagg-spill", "distinct", "SELECT DISTINCT note FROM orders", SERIAL, LITTLE, "SET LOCAL enable_sort = off"),
    no("hashagg-spill", "fits", "SELECT order_id, sum(qty) FROM items GROUP BY order_id", SERIAL, MUCH),
    no("hashagg-spill", "few-groups", "SELECT qty, count(*) FROM items GROUP BY qty", SERIAL, LITTLE),
    yes(
        "temp-io",
        "cte",
        "WITH c AS MATERIALIZED (SELECT * FROM orders) SELECT count(*), (SELECT max(id) FROM c) FROM c",
        SERIAL,
        LITTLE,
    ),
    yes("temp-io", "window", "SELECT note, data, sum(total) OVER () FROM orders", SERIAL, LITTLE),
    no("temp-io", "sort-only", "SELECT * FROM items ORDER BY qty, product_id", SERIAL, LITTLE, also=("disk-sort",)),
    no(
        "temp-io",
        "hash-only",
        "SELECT count(*) FROM orders o JOIN items i ON i.order_id = o.id",
        SERIAL,
        LITTLE,
        "SET LOCAL enable_mergejoin = off",
        also=("hash-batches",),
    ),
    no("temp-io", "small-cte", "WITH c AS MATERIALIZED (SELECT * FROM small) SELECT count(*) FROM c", LITTLE),
    yes(
        "nested-loop-inner-scan",
        "no-index",
        "SELECT count(*) FROM children c JOIN tickets t ON t.owner_id = c.other_id WHERE c.id <= 80",
        SERIAL,
        NO_HASH,
        "SET LOCAL enable_material = off; SET LOCAL enable_memoize = off",
        also=("missing-index", "join-filter-quadratic"),
        servers=(14, 99),
    ),
    yes(
        "nested-loop-inner-scan",
        "lateral",
        "SELECT count(x.n) FROM small s CROSS JOIN LATERAL (SELECT sum(qty) AS n FROM children_like"
        " WHERE order_id < s.id * 2 OFFSET 0) x WHERE s.id <= 100",
        "CREATE TABLE children_like AS SELECT * FROM items WHERE id <= 8000; ANALYZE children_like",
        SERIAL,
        also=("missing-index", "row-misestimate"),
    ),
    no(
        "nested-loop-inner-scan",
        "materialized",
        "SELECT count(*) FROM small s JOIN picks t ON t.order_id > s.id",
        SERIAL,
        NO_HASH,
    ),
    no(
        "nested-loop-inner-scan",
        "few-loops",
        "SELECT count(*) FROM children c JOIN tickets t ON t.owner_id = c.other_id WHERE c.id <= 10",
        SERIAL,
        NO_HASH,
        "SET LOCAL enable_material = off; SET LOCAL enable_memoize = off",
        also=("join-filter-quadratic",),
        servers=(14, 99),
    ),
    no(
        "nested-loop-inner-scan",
        "subplan",
        "SELECT s.id, (SELECT count(*) FROM tickets t WHERE t.owner_id = s.id) FROM small s WHERE s.id <= 60",
        SERIAL,
        also=("correlated-subplan", "missing-index"),
    ),
    yes(
        "nested-loop-many",
        "pkey-lookups",
        "SELECT count(c.email) FROM orders o JOIN customers c ON c.id = o.customer_id",
        SERIAL,
        NO_HASH,
        "SET LOCAL enable_memoize = off; SET LOCAL enable_material = off",
        servers=(14, 99),
    ),
    yes(
        "nested-loop-many",
        "left-join",
        "SELECT count(c.email), count(o.note) FROM items i"
        " LEFT JOIN orders o ON o.id = i.order_id LEFT JOIN customers c ON c.id = o.customer_id WHERE i.id <= 30000",
        SERIAL,
        NO_HASH,
        "SET LOCAL enable_memoize = off",
        servers=(14, 99),
    ),
    no(
        "nested-loop-many",
        "memoize",
        "SELECT count(c.k) FROM fewkeys f JOIN keyed c ON c.id = f.k",
        SERIAL,
        NO_HASH,
        servers=(14, 99),
    ),
    no(
        "nested-loop-many",
        "few-loops",
        "SELECT count(c.email) FROM orders o JOIN customers c ON c.id = o.customer_id WHERE o.id <= 2000",
        SERIAL,
        NO_HASH,
    ),
    no(
        "nested-loop-many",
        "few-of-many",
        "SELECT count(o.note) FROM customers c JOIN orders o ON o.id = c.id WHERE c.id <= 11000",
        SERIAL,
        NO_HASH,
        "SET LOCAL enable_memoize = off",
        servers=(14, 99),
    ),
    yes(
        "join-filter-quadratic",
        "unequal",
        "SELECT count(*) FROM small a JOIN small b ON a.id + b.id = 77",
        SERIAL,
        NO_HASH,
        also=("row-misestimate",),
    ),
    yes(
        "join-filter-quadratic",
        "ranges",
        "SELECT count(*) FROM picks p JOIN orders o ON o.ref BETWEEN p.order_id AND p.order_id + 1",
        SERIAL,
        also=("row-misestimate",),
    ),
    no("join-filter-quadratic", "few-pairs", "SELECT count(*) FROM picks a JOIN picks b ON a.id <> b.id", SERIAL),
    no("join-filter-quadratic", "most-kept", "SELECT count(*) FROM small a JOIN small b ON a.id <> b.id", SERIAL),
    yes("cartesian-join", "forgotten", "SELECT count(*) FROM small a, small b", SERIAL),
    yes("cartesian-join", "estimate", "SELECT * FROM small a, small b WHERE a.kind <> 'k1'", SERIAL, options=""),
    no("cartesian-join", "one-row-side", "SELECT * FROM small a, orders o WHERE a.id = 1", SERIAL),
    no("cartesian-join", "join-filter", "SELECT count(*) FROM small a JOIN small b ON a.id <> b.id", SERIAL),
    no(
        "cartesian-join",
        "lateral-index",
        "SELECT count(*) FROM generate_series(1, 100) g(n) JOIN visits v ON v.day = g.n - 1",
        SERIAL,
        NO_HASH,
    ),
    no(
        "cartesian-join",
        "lateral-function",
        "SELECT count(*) FROM small s, LATERAL generate_series(1, s.id % 2 + 100)",
        SERIAL,
    ),
    yes(
        "lossy-bitmap",
        "little-memory",
        "SELECT sum(length(pad)) FROM scattered WHERE k < 30000",
        SERIAL,
        LITTLE,
        SCATTERED,
    ),
    yes(
        "lossy-bitmap",
        "parallel",
        "SELECT sum(length(pad)) FROM scattered WHERE k < 60000",
        PARALLEL,
        LITTLE,
        SCATTERED,
    ),
    no(
        "lossy-bitmap",
        "exact",
        "SELECT sum(length(pad)) FROM visits WHERE day < 60",
        SERIAL,
        MUCH,
        "SET LOCAL enable_seqscan = off; SET LOCAL enable_indexscan = off",
    ),
    no(
        "lossy-bitmap",
        "index-scan",
        "SELECT * FROM visits WHERE day = 7",
        SERIAL,
        LITTLE,
        "SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off",
    ),
    yes("index-recheck", "trigram", "SELECT * FROM texts WHERE body LIKE '%aaaaaa%'", "SET LOCAL enable_seqscan = off"),
    yes(
        "index-recheck", "similar", "SELECT id FROM texts WHERE body LIKE '%bbbbbb%'", "SET LOCAL enable_seqscan = off"
    ),
    no(
        "index-recheck",
        "most-match",
        "SELECT count(*) FROM texts WHERE body LIKE '%aaa%'",
        "SET LOCAL enable_seqscan = off",
    ),
    no(
        "index-recheck",
        "lossy",
        "SELECT count(*) FROM visits WHERE day < 60",
        SERIAL,
        LITTLE,
        "SET LOCAL enable_seqscan = off; SET LOCAL enable_indexscan = off; SET LOCAL enable_indexonlyscan = off",
        also=("lossy-bitmap",),
    ),
    yes(
        "heap-fetches",
        "after-update",
        "SELECT count(day) FROM visits WHERE day < 50",
        SERIAL,
        "UPDATE visits SET pad = pad || 'y'",
        "SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off",
        "SET LOCAL enable_indexscan = on",
    ),
    yes(
        "heap-fetches",
        "fresh-rows",
        "SELECT count(id) FROM fresh WHERE id < 20000",
        "CREATE TABLE fresh (id int PRIMARY KEY, pad text); INSERT INTO fresh SELECT i, repeat('x', 300)"
        " FROM generate_series(1, 40000) i; ANALYZE fresh",
        SERIAL,
        "SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off",
    ),
    no("heap-fetches", "vacuumed", "SELECT count(*) FROM items WHERE id < 50000", SERIAL),
    no(
        "heap-fetches",
        "few-fetched",
        "SELECT count(*) FROM items WHERE id < 50000",
        SERIAL,
        "UPDATE items SET qty = 1 WHERE id < 300",
    ),
    yes(
        "io-heavy", "cold-table", "SELECT count(*) FROM wide WHERE pad <> ''", SERIAL, "SET LOCAL track_io_timing = on"
    ),
    yes(
        "io-heavy",
        "cold-table-wal",
        "SELECT count(*) FROM wide WHERE pad <> ''",
        SERIAL,
        "SET LOCAL track_io_timing = on",
        options="ANALYZE, BUFFERS, WAL, SETTINGS, VERBOSE",
    ),
    no("io-heavy", "no-timing", "SELECT max(length(pad)) FROM wide", SERIAL),
    no("io-heavy", "cached", "SELECT count(*) FROM small", SERIAL, "SET LOCAL track_io_timing = on"),
    yes(
        "jit-overhead",
        "eager",
        "SELECT sum(total * 2), count(*) FROM orders WHERE note <> 'x' AND total > 3",
        SERIAL,
        "SET LOCAL jit = on; SET LOCAL jit_above_cost = 0; SET LOCAL jit_optimize_above_cost = 0;"
        " SET LOCAL jit_inline_above_cost = 0",
        servers=(13, 17),
    ),
    yes(
        "jit-overhead",
        "small-query",
        "SELECT qty, count(*), sum(product_id) FROM items WHERE id < 3000 GROUP BY qty",
        "SET LOCAL jit = on; SET LOCAL jit_above_cost = 0; SET LOCAL jit_optimize_above_cost = 0",
        SERIAL,
        servers=(13, 17),
    ),
    no(
        "jit-overhead",
        "off",
        "SELECT sum(total * 2), count(*) FROM orders WHERE note <> 'x' AND total > 3",
        SERIAL,
        "SET LOCAL jit = off",
    ),
    no("jit-overhead", "cheap", "SELECT count(*) FROM small", "SET LOCAL jit = on"),
    yes(
        "planning-time",
        "many-joins",
        "SELECT 1 FROM picks a"
        + "".join(f" JOIN picks {name} USING (id)" for name in "bcdefghijkl")
        + " WHERE a.id = 3",
        "SET LOCAL join_collapse_limit = 20; SET LOCAL from_collapse_limit = 20; SET LOCAL geqo = off",
    ),
    yes(
        "planning-time",
        "unused-joins",
        "SELECT a.id FROM small a"
        + "".join(f" JOIN small {name} ON {name}.id = a.id" for name in "bcdefghijk")
        + " WHERE a.id = 3",
        "SET LOCAL join_collapse_limit = 20; SET LOCAL geqo = off",
    ),
    no("planning-time", "both-short", "SELECT * FROM customers WHERE id = 5"),
    no("planning-time", "execution-longer", "SELECT count(*) FROM orders o JOIN items i ON i.order_id = o.id"),
    yes("large-offset", "deep-page", "SELECT * FROM orders ORDER BY id OFFSET 50000 LIMIT 20", SERIAL),
    yes("large-offset", "sorted", "SELECT id, name FROM customers ORDER BY name OFFSET 15000 LIMIT 10", SERIAL),
    no("large-offset", "no-offset", "SELECT * FROM orders ORDER BY id LIMIT 20", SERIAL),
    no("large-offset", "second-page", "SELECT * FROM orders ORDER BY id OFFSET 20 LIMIT 20", SERIAL),
    no("large-offset", "large-limit", "SELECT * FROM orders ORDER BY id LIMIT 50000", SERIAL),
    yes(
        "limit-sort",
        "newest",
        "SELECT * FROM orders ORDER BY created_at DESC LIMIT 10",
        SERIAL,
        also=("missing-index",),
    ),
    yes(
        "limit-sort",
        "parallel",
        "SELECT * FROM orders WHERE status = 'open' ORDER BY created_at DESC LIMIT 10",
        PARALLEL,
        also=("missing-index",),
    ),
    yes(
        "limit-sort",
        "estimate",
        "SELECT * FROM orders ORDER BY created_at DESC LIMIT 10",
        SERIAL,
        options="",
        also=("missing-index",),
    ),
    no("limit-sort", "small-input", "SELECT * FROM small ORDER BY kind LIMIT 5"),
    no(
        "limit-sort",
        "aggregate",
        "SELECT customer_id, count(*) FROM orders GROUP BY 1 ORDER BY 2 DESC LIMIT 10",
        SERIAL,
    ),
    no("limit-sort", "large-limit", "SELECT id, note FROM orders ORDER BY note LIMIT 20000", SERIAL, MUCH),
    yes(
        "cte-fence",
        "materialized",
        "WITH c AS MATERIALIZED (SELECT * FROM orders) SELECT * FROM c WHERE customer_id = 7",
        SERIAL,
        MUCH,
    ),
    yes(
        "cte-fence",
        "used-twice",
        "WITH c AS (SELECT id, customer_id, total FROM orders)"
        " SELECT * FROM c a JOIN c b USING (id) WHERE a.customer_id = 7 AND b.customer_id = 7",
        SERIAL,
        MUCH,
        also=("row-misestimate",),
    ),
    no(
        "cte-fence",
        "inlined",
        "WITH c AS (SELECT * FROM orders) SELECT * FROM c WHERE customer_id = 7",
        SERIAL,
        also=LOST,
    ),
    no(
        "cte-fence",
        "most-used",
        "WITH c AS MATERIALIZED (SELECT * FROM orders) SELECT count(*) FROM c WHERE status = 'done'",
        SERIAL,
        MUCH,
    ),
    yes(
        "correlated-subplan",
        "count-per-row",
        "SELECT s.id, (SELECT count(*) FROM children c WHERE c.other_id = s.id) FROM small s WHERE s.id <= 120",
        SERIAL,
        also=("missing-index",),
    ),
    yes(
        "correlated-subplan",
        "in-filter",
        "SELECT count(*) FROM orders o WHERE o.id <= 3000 AND o.total > (SELECT avg(total) FROM orders i"
        " WHERE i.id BETWEEN o.id AND o.id + 100)",
        SERIAL,
    ),
    no(
        "correlated-subplan",
        "hashed",
        "SELECT count(*) FROM items WHERE order_id NOT IN (SELECT order_id FROM picks)",
        SERIAL,
    ),
    no(
        "correlated-subplan",
        "init-plan",
        "SELECT count(*) FROM orders WHERE total > (SELECT avg(total) FROM orders)",
        SERIAL,
    ),
    no(
        "correlated-subplan",
        "few-loops",
        "SELECT p.id, (SELECT count(*) FROM small s WHERE s.id = p.id) FROM picks p WHERE p.id <= 5",
        SERIAL,
    ),
    no(
        "correlated-subplan",
        "page-by-key",
        "SELECT c.id, (SELECT o.note FROM orders o WHERE o.id = c.id) FROM customers c ORDER BY c.id LIMIT 120",
        SERIAL,
    ),
    yes(
        "partition-pruning",
        "function-on-key",
        "SELECT count(*) FROM events WHERE date_trunc('month', at) = '2024-03-01'",
        SERIAL,
        also=("function-on-column", "seq-scan-filter", "row-misestimate"),
    ),
    yes(
        "partition-pruning",
        "other-column",
        "SELECT * FROM events WHERE tenant = 9 AND kind = 'kind9'",
        SERIAL,
        also=LOST,
    ),
    yes(
        "partition-pruning",
        "estimate",
        "SELECT * FROM events WHERE tenant = 9 AND kind = 'kind9'",
        SERIAL,
        options="",
        also=LOST,
    ),
    no("partition-pruning", "key-range", "SELECT count(*) FROM events WHERE at < '2024-11-20'", SERIAL),
    no(
        "partition-pruning",
        "found-by-index",
        "SELECT id, at FROM events WHERE tenant = 9 AND kind = 'kind9'",
        SERIAL,
        "CREATE INDEX ON events (tenant, kind)",
    ),
    no(
        "partition-pruning",
        "found-by-index-estimate",
        "SELECT id, at FROM events WHERE tenant = 9",
        SERIAL,
        "CREATE INDEX ON events (tenant, kind)",
        options="",
    ),
    yes(
        "partition-pruning",
        "probed",
        "SELECT kind FROM events WHERE id = 4711",
        SERIAL,
        "CREATE INDEX ON events (id)",
    ),
    no("partition-pruning", "no-condition", "SELECT count(*) FROM events", SERIAL),
    no(
        "partition-pruning",
        "union-all",
        " UNION ALL ".join("SELECT id FROM picks WHERE order_id = 5" for _ in range(9)),
    ),
    no("partition-pruning", "run-time", "SELECT * FROM events WHERE at = $1::text::timestamptz", SERIAL, generic=True),
    no(
        "row-misestimate",
        "function-in-filter",
        "SELECT * FROM items WHERE abs(product_id) > 990",
        SERIAL,
        also=("function-on-column", *LOST),
    ),
    no(
        "row-misestimate",
        "quadratic-join",
        "SELECT count(*) FROM small a JOIN small b ON a.id + b.id < 30",
        SERIAL,
        "SET LOCAL enable_material = off",
        also=("join-filter-quadratic", "nested-loop-inner-scan"),
    ),
    yes(
        "row-misestimate",
        "computed-group",
        "SELECT date_trunc('month', created_at), count(*) FROM orders GROUP BY 1",
        SERIAL,
        MUCH,
    ),
    no(
        "temp-io",
        "fenced-cte",
        "WITH c AS MATERIALIZED (SELECT * FROM orders) SELECT * FROM c WHERE customer_id = 7",
        SERIAL,
        LITTLE,
        also=("cte-fence",),
    ),
    no(
        "missing-index",
        "useless-column",
        "SELECT * FROM orders WHERE status = 'done' AND date_trunc('day', created_at) = '2024-02-03'",
        SERIAL,
        also=("seq-scan-filter", "function-on-column"),
    ),
    yes(
        "workers-not-launched",
        "none-free",
        "SELECT count(*) FROM orders",
        PARALLEL,
        "SET LOCAL max_parallel_workers = 0",
    ),
    yes(
        "workers-not-launched",
        "one-of-two",
        "SELECT sum(total) FROM orders",
        PARALLEL,
        "SET LOCAL max_parallel_workers = 1",
    ),
    no("workers-not-launched", "launched", "SELECT count(*) FROM orders", PARALLEL),
    no("workers-not-launched", "estimate", "SELECT count(*) FROM orders", PARALLEL, options=""),
    yes(
        "memoize-thrash",
        "wrong-n-distinct",
        "SELECT count(o.note) FROM keyed k JOIN orders o ON o.id = k.k",
        SERIAL,
        NO_HASH,
        LITTLE,
        servers=(14, 99),
        also=("nested-loop-many",),
    ),
    yes(
        "memoize-thrash",
        "left-join",
        "SELECT count(o.data) FROM keyed k LEFT JOIN orders o ON o.id = k.k",
        SERIAL,
        NO_HASH,
        LITTLE,
        servers=(14, 99),
        also=("nested-loop-many",),
    ),
    no(
        "memoize-thrash",
        "hits",
        "SELECT count(c.pad) FROM fewkeys f JOIN keyed c ON c.id = f.k",
        SERIAL,
        NO_HASH,
        servers=(14, 99),
    ),
    no(
        "memoize-thrash",
        "fits",
        "SELECT count(o.note) FROM keyed k JOIN orders o ON o.id = k.k",
        SERIAL,
        NO_HASH,
        MUCH,
        servers=(14, 99),
        also=("nested-loop-many",),
    ),
    yes("fk-trigger-slow", "delete", "DELETE FROM parents WHERE id <= 40", also=("missing-index",)),
    yes("fk-trigger-slow", "update-key", "UPDATE parents SET id = id + 100000 WHERE id <= 40", also=("missing-index",)),
    no("fk-trigger-slow", "indexed", "DELETE FROM parents WHERE id <= 40", "CREATE INDEX ON children (parent_id)"),
    no(
        "fk-trigger-slow",
        "insert-side",
        "INSERT INTO children SELECT 100000 + i, 1 + i % 1000, 1 FROM generate_series(1, 5000) i",
    ),
    yes(
        "serialize-heavy",
        "wide",
        "SELECT o.*, repeat(note, 9) FROM orders o, generate_series(1, 2)",
        SERIAL,
        options="ANALYZE, BUFFERS, SERIALIZE",
        servers=(17, 99),
    ),
    yes(
        "serialize-heavy",
        "json",
        "SELECT data, created_at, paid_at, total FROM orders, generate_series(1, 3)",
        SERIAL,
        options="ANALYZE, SERIALIZE, MEMORY",
        servers=(17, 99),
    ),
    no(
        "serialize-heavy",
        "narrow",
        "SELECT count(*) FROM orders",
        SERIAL,
        options="ANALYZE, SERIALIZE",
        servers=(17, 99),
    ),
    no("serialize-heavy", "not-asked", "SELECT data, note FROM orders", SERIAL),
    no("serialize-heavy", "little", "SELECT * FROM small", options="ANALYZE"),
    yes(
        "lock-wait",
        "update",
        "UPDATE picks SET order_id = 0 WHERE id = 3",
        lock="UPDATE picks SET order_id = 1 WHERE id = 3",
    ),
    yes(
        "lock-wait",
        "for-update",
        "SELECT * FROM picks WHERE id <= 5 FOR UPDATE",
        lock="UPDATE picks SET order_id = 1 WHERE id = 3",
    ),
    no("lock-wait", "free", "UPDATE picks SET order_id = 0 WHERE id = 3"),
    no("lock-wait", "many-rows", "UPDATE items SET qty = qty + 1", SERIAL),
    yes(
        "missing-index",
        "no-catalog",
        "SELECT id FROM orders WHERE customer_id = 5 AND status = 'open'",
        SERIAL,
        also=("seq-scan-filter",),
        catalog=False,
    ),
    yes(
        "missing-index",
        "json-key",
        "SELECT id FROM orders WHERE data->>'color' = 'c7'",
        SERIAL,
        also=("seq-scan-filter",),
    ),
    no(
        "missing-index",
        "cast-at-fault",
        "SELECT * FROM orders WHERE id = 77::numeric",
        SERIAL,
        also=("seq-scan-filter", "type-cast-on-column"),
    ),
    no(
        "missing-index",
        "unused-index",
        "SELECT * FROM tickets WHERE state = 'none'",
        SERIAL,
        "SET LOCAL enable_indexscan = off; SET LOCAL enable_bitmapscan = off",
        also=("seq-scan-filter",),
    ),
    no("missing-index", "tiny-table", "SELECT * FROM small WHERE kind = 'k3'"),
)


@contextmanager
def locked(url: str, statement: str | None, seconds: float = 0.4) -> Iterator[None]:
    """Hold the statement's locks in another session, and let them go after a while."""
    if statement is None:
        yield
        return
    ready = threading.Event()

    def hold() -> None:
        with psycopg.connect(url) as connection:
            connection.execute(statement.encode())
            ready.set()
            time.sleep(seconds)
            connection.rollback()

    thread = threading.Thread(target=hold)
    thread.start()
    ready.wait()
    yield
    thread.join()


def document(connection: psycopg.Connection[Any], url: str, scenario: Scenario, version: int) -> dict[str, Any]:
    """Run the statement in a transaction that is rolled back, and take its plan."""
    options = ", ".join(part for part in (scenario.options, "FORMAT JSON") if part)
    try:
        for statement in scenario.setup:
            connection.execute(statement.encode())
        sql = scenario.sql
        if scenario.generic:
            connection.execute(b"SET LOCAL plan_cache_mode = force_generic_plan")
            connection.execute(f"PREPARE wanted (text) AS {sql}".encode())
            value = "'2024-03-03'" if "timestamptz" in sql else "'%abcdef%'"
            sql = f"EXECUTE wanted({value})"
        with locked(url, scenario.lock):
            row = connection.execute(f"EXPLAIN ({options}) {sql}".encode()).fetchone()
        assert row is not None
        found = row[0] if isinstance(row[0], list) else json.loads(row[0])
        return dict(found[0])
    finally:
        connection.rollback()
        connection.execute(b"DEALLOCATE ALL")
        connection.commit()


async def facts(url: str, found: dict[str, Any]) -> dict[str, Any]:
    """The catalog of the plan's tables, without what no rule asks."""
    engine = create_async_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    relations = {node.relation for node in walk(plan_from(found).tree) if node.relation}
    relations |= {str(trigger.get("Relation")) for trigger in found.get("Triggers", ())}
    async with engine.connect() as connection:
        catalog = (await read_catalog(connection, relations, functions=("lower", "date_trunc"))).to_json()
    await engine.dispose()
    return {key: value for key, value in compact(catalog).items() if value}


def compact(value: Any) -> Any:
    """The same without defaults: None, empty lists, the frequencies of common values."""
    if isinstance(value, dict):
        drop = ("common", "correlation", "opclasses", "descending", "bytes", "scans", "writes")
        kept = {key: compact(item) for key, item in value.items() if key not in drop}
        return {key: item for key, item in kept.items() if item not in (None, [], (), {}, False)}
    if isinstance(value, list | tuple):
        return [compact(item) for item in value]
    return round(value, 6) if isinstance(value, float) else value


def generate(url: str, names: Sequence[str]) -> None:
    """Write the fixtures of one server."""
    PLANS.mkdir(exist_ok=True)
    with psycopg.connect(url) as connection:
        version = connection.info.server_version // 10_000
        row = connection.execute(b"SELECT to_regclass('customers') IS NOT NULL").fetchone()
        connection.rollback()
        if row is not None and not row[0]:
            connection.autocommit = True
            connection.execute(SCHEMA.encode())
            connection.execute(b"VACUUM ANALYZE")
            connection.autocommit = False
        for scenario in SCENARIOS:
            name = f"{scenario.rule}--{scenario.name}.{version}.json"
            wanted = not names or any(part in name for part in names)
            if not wanted or not scenario.servers[0] <= version <= scenario.servers[1]:
                continue
            connection.autocommit = True
            connection.execute(b"VACUUM visits, items, orders, picks, parents, children")
            connection.autocommit = False
            found = document(connection, url, scenario, version)
            fixture = {
                "rule": scenario.rule,
                "finds": scenario.finds,
                "also": sorted(set(scenario.also) - {scenario.rule}),
                "sql": scenario.sql,
                "server": version,
                "catalog": asyncio.run(facts(url, found)) if scenario.catalog else None,
                "document": found,
            }
            (PLANS / name).write_text(json.dumps(fixture, separators=(",", ":"), default=str) + "\n")


if __name__ == "__main__":
    given = sys.argv[1:]
    for address in [item for item in given if "://" in item]:
        generate(address, [item for item in given if "://" not in item])
