# ruff: noqa: E501 - one statement, one line
"""Statements that change something, or may, and statements that only read: what the judge is tried on."""

from __future__ import annotations

SCHEMA = r'''
CREATE EXTENSION pg_trgm;
CREATE EXTENSION dblink;
CREATE EXTENSION file_fdw;
CREATE TABLE orders (id int PRIMARY KEY, customer_id int, status text, total numeric, at timestamptz, data jsonb, tags text[]);
INSERT INTO orders SELECT i, i % 50, 'open', i % 100, '2024-01-01'::timestamptz + i * interval '1 h', '{"a": 1}', '{x}'
    FROM generate_series(1, 400) i;
CREATE TABLE customers (id int PRIMARY KEY, name text, email text);
INSERT INTO customers SELECT i, 'name ' || i, 'c' || i || '@example.org' FROM generate_series(0, 49) i;
CREATE TABLE log (id int, what text);
CREATE TABLE doomed (id int);
INSERT INTO doomed SELECT generate_series(1, 10);
CREATE TABLE parts (id int, at date) PARTITION BY RANGE (at);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM ('2024-01-01') TO ('2024-02-01');
CREATE TABLE parts_2 PARTITION OF parts FOR VALUES FROM ('2024-02-01') TO ('2024-03-01');
CREATE SEQUENCE seq;
ANALYZE;
CREATE FUNCTION write_log(w text) RETURNS int LANGUAGE plpgsql VOLATILE AS
    $$ BEGIN INSERT INTO log VALUES (1, w); RETURN 1; END $$;
CREATE FUNCTION calls_it(w text) RETURNS int LANGUAGE plpgsql STABLE AS $$ BEGIN RETURN write_log(w); END $$;
CREATE FUNCTION says_immutable(i int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS
    $$ BEGIN PERFORM nextval('seq'); RETURN i; END $$;
CREATE FUNCTION says_stable(i int) RETURNS int LANGUAGE plpgsql STABLE AS
    $$ BEGIN PERFORM nextval('seq'); RETURN i; END $$;
CREATE FUNCTION lock_quietly(i int) RETURNS int LANGUAGE sql STABLE AS $$ SELECT i FROM pg_advisory_lock(i) $$;
CREATE FUNCTION inlined(i int) RETURNS bigint LANGUAGE sql VOLATILE AS $$ SELECT nextval('seq') + i $$;
CREATE FUNCTION rows_of(i int) RETURNS SETOF orders LANGUAGE sql STABLE AS $$ SELECT * FROM orders WHERE id < i $$;
CREATE FUNCTION more_rows(i int) RETURNS SETOF int LANGUAGE plpgsql VOLATILE AS
    $$ BEGIN PERFORM nextval('seq'); RETURN QUERY SELECT i; END $$;
CREATE FUNCTION remote() RETURNS int LANGUAGE plpgsql STABLE AS
    $$ BEGIN PERFORM dblink_exec('dbname=' || current_database(), 'INSERT INTO log VALUES (9)'); RETURN 1; END $$;
CREATE FUNCTION touched(o orders) RETURNS bigint LANGUAGE sql VOLATILE AS $$ SELECT nextval('seq') $$;
CREATE FUNCTION plain(i int) RETURNS int LANGUAGE sql IMMUTABLE AS $$ SELECT i + 1 $$;
CREATE FUNCTION op_write(a int, b int) RETURNS boolean LANGUAGE plpgsql VOLATILE AS
    $$ BEGIN PERFORM nextval('seq'); RETURN true; END $$;
CREATE OPERATOR ### (LEFTARG = int, RIGHTARG = int, FUNCTION = op_write);
CREATE FUNCTION op_stable(a int, b int) RETURNS boolean LANGUAGE plpgsql STABLE AS
    $$ BEGIN PERFORM pg_advisory_lock(7); RETURN true; END $$;
CREATE OPERATOR @#@ (LEFTARG = int, RIGHTARG = int, FUNCTION = op_stable);
CREATE SCHEMA hidden;
CREATE FUNCTION op_text(a int, b text) RETURNS boolean LANGUAGE sql STABLE AS $$ SELECT a::text = b $$;
CREATE OPERATOR hidden.= (LEFTARG = int, RIGHTARG = text, FUNCTION = public.op_text);
CREATE FUNCTION hidden.nextval(t text) RETURNS int LANGUAGE plpgsql STABLE AS $$ BEGIN RETURN 1; END $$;
CREATE FUNCTION step(s bigint, v int) RETURNS bigint LANGUAGE sql VOLATILE AS $$ SELECT nextval('seq') $$;
CREATE AGGREGATE counted (int) (SFUNC = step, STYPE = bigint, INITCOND = '0');
CREATE FUNCTION check_it(v text) RETURNS boolean LANGUAGE plpgsql VOLATILE AS
    $$ BEGIN PERFORM nextval('seq'); RETURN true; END $$;
CREATE DOMAIN guarded AS text CHECK (check_it(VALUE));
CREATE DOMAIN guarded_twice AS guarded;
CREATE DOMAIN positive AS int CHECK (VALUE > 0);
CREATE TYPE pair AS (a text, b guarded);
CREATE TYPE mood AS ENUM ('glad', 'sad');
CREATE VIEW v_volatile AS SELECT id, write_log('view') AS w FROM orders;
CREATE VIEW v_nested AS SELECT id, w FROM v_volatile WHERE id < 10;
CREATE VIEW v_limit AS SELECT id FROM orders LIMIT nextval('seq');
CREATE VIEW v_offset AS SELECT id FROM orders ORDER BY id OFFSET nextval('seq');
CREATE VIEW v_values AS SELECT * FROM (VALUES (nextval('seq')), (nextval('seq'))) AS t(n);
CREATE VIEW v_frame AS SELECT id, sum(total) OVER (ORDER BY id ROWS BETWEEN nextval('seq') PRECEDING AND CURRENT ROW) AS s
    FROM orders;
CREATE VIEW v_deep AS SELECT * FROM (SELECT id FROM v_limit) AS x;
CREATE VIEW v_lock AS SELECT id FROM orders WHERE pg_try_advisory_lock(id);
CREATE VIEW v_operator AS SELECT id FROM orders WHERE id ### 1;
CREATE VIEW v_cast AS SELECT status::guarded AS s FROM orders;
CREATE VIEW v_clean AS SELECT o.id, c.name FROM orders o JOIN customers c ON c.id = o.customer_id;
CREATE VIEW v_cleaner AS SELECT name FROM v_clean WHERE id > 5;
CREATE MATERIALIZED VIEW m_clean AS SELECT status, count(*) AS n FROM orders GROUP BY status;
CREATE RULE log_it AS ON INSERT TO doomed DO ALSO INSERT INTO log VALUES (2);
CREATE SERVER files FOREIGN DATA WRAPPER file_fdw;
CREATE FOREIGN TABLE f_program (line text) SERVER files OPTIONS (program 'touch /tmp/querytoll-adversary; echo 1');
CREATE VIEW v_foreign AS SELECT line FROM f_program;
CREATE TABLE policed (id int, tenant text);
INSERT INTO policed VALUES (1, 'a');
ALTER TABLE policed ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY p ON policed USING (write_log('policy') = 1);
CREATE TABLE policed_clean (id int, tenant text);
INSERT INTO policed_clean SELECT i, 'a' FROM generate_series(1, 20) i;
ALTER TABLE policed_clean ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY p ON policed_clean USING (tenant = current_setting('app.tenant', true));
CREATE EXTENSION tablefunc;
CREATE EXTENSION hstore;
CREATE FUNCTION sneak(i int) RETURNS int LANGUAGE plpgsql VOLATILE SECURITY DEFINER AS
    $$ BEGIN PERFORM pg_advisory_lock(i); RETURN i; END $$;
CREATE FUNCTION w_any(a anyelement) RETURNS anyelement LANGUAGE plpgsql VOLATILE AS
    $$ BEGIN PERFORM sneak(90); RETURN a; END $$;
CREATE FUNCTION sneak_text(t text) RETURNS boolean LANGUAGE plpgsql VOLATILE AS
    $$ BEGIN IF t LIKE 'zzz%' THEN PERFORM pg_advisory_lock(91); END IF; RETURN true; END $$;
CREATE FUNCTION "É"(i int) RETURNS int LANGUAGE sql VOLATILE AS $$ SELECT sneak(i) $$;
CREATE FUNCTION U&"a\00A0b"(i int) RETURNS int LANGUAGE sql VOLATILE AS $$ SELECT sneak(i) $$;
CREATE FUNCTION "q€"(i int) RETURNS int LANGUAGE sql VOLATILE AS $$ SELECT sneak(i) $$;
CREATE FUNCTION """x"(i int) RETURNS int LANGUAGE sql VOLATILE AS $$ SELECT sneak(i) $$;
CREATE FUNCTION a23456789_123456789_123456789_123456789_123456789_123456789_123(i int) RETURNS int LANGUAGE sql VOLATILE AS
    $$ SELECT sneak(i) $$;
CREATE DOMAIN locking AS text CHECK (sneak_text(VALUE));
CREATE TABLE columns_of_domains (a locking, b int);
INSERT INTO columns_of_domains VALUES ('x', 1);
CREATE TYPE locking_range AS RANGE (subtype = locking);
CREATE TYPE lpair AS (a text, b locking);
CREATE VIEW v_columns AS SELECT * FROM columns_of_domains;
CREATE VIEW v_sneak AS SELECT sneak(93) AS n;
CREATE DOMAIN one_order AS orders;
CREATE FUNCTION peeked(o one_order) RETURNS int LANGUAGE sql VOLATILE AS $$ SELECT sneak(92) $$;
CREATE TYPE spans AS RANGE (subtype = time);
CREATE TYPE point_3 AS (x int, y int, z mood);
CREATE DOMAIN mail AS text CHECK (VALUE ~ '@');
CREATE CAST (varchar AS mood) WITH INOUT AS IMPLICIT;
CREATE TABLE "Größen" (id int, "Länge" int, mood mood, at spans, place point_3, mail mail);
INSERT INTO "Größen" SELECT i, i, 'glad', '[08:00,09:00)', ROW(1, 2, 'sad')::point_3, 'a@b' FROM generate_series(1, 20) i;
CREATE ROLE querytoll_app_{number} LOGIN;
GRANT ALL ON ALL TABLES IN SCHEMA public TO querytoll_app_{number};
GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO querytoll_app_{number};
'''

CHANGING = {
    # Sequences
    "nextval": "SELECT nextval('seq')",
    "nextval-schema": "SELECT pg_catalog.nextval('seq'::regclass)",
    "nextval-quoted": """SELECT "nextval"('seq')""",
    "nextval-space": "SELECT nextval /* x */ ('seq')",
    "nextval-comment": "SELECT nextval--\n('seq')",
    "nextval-escapes": "SELECT U&\"nextv\\0061l\"('seq')",
    "nextval-where": "SELECT id FROM orders WHERE id < nextval('seq')",
    "nextval-limit": "SELECT id FROM orders LIMIT nextval('seq')",
    "nextval-offset": "SELECT id FROM orders OFFSET nextval('seq')",
    "nextval-order": "SELECT id FROM orders ORDER BY nextval('seq')",
    "nextval-group": "SELECT count(*) FROM orders GROUP BY nextval('seq')",
    "nextval-having": "SELECT status FROM orders GROUP BY status HAVING nextval('seq') > 0",
    "nextval-values": "VALUES (nextval('seq')), (2)",
    "nextval-values-from": "SELECT * FROM (VALUES (nextval('seq')), (2)) AS t(n)",
    "nextval-frame": "SELECT sum(total) OVER (ORDER BY id ROWS BETWEEN nextval('seq') PRECEDING AND CURRENT ROW) FROM orders",
    "nextval-case": "SELECT CASE WHEN id > 3 THEN nextval('seq') ELSE 0 END FROM orders",
    "nextval-subselect": "SELECT (SELECT nextval('seq')) FROM orders",
    "nextval-lateral": "SELECT * FROM orders o, LATERAL (SELECT nextval('seq') WHERE o.id > 0) x",
    "nextval-cte": "WITH x AS MATERIALIZED (SELECT nextval('seq') AS n) SELECT * FROM x",
    "nextval-recursive": "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT nextval('seq')::int FROM r WHERE n < 3) SELECT * FROM r",
    "nextval-union": "SELECT 1 UNION ALL SELECT nextval('seq')",
    "nextval-function-scan": "SELECT * FROM nextval('seq')",
    "nextval-rows-from": "SELECT * FROM ROWS FROM (generate_series(1, 2), nextval('seq')) AS t",
    "nextval-aggregate-filter": "SELECT count(*) FILTER (WHERE nextval('seq') > 0) FROM orders",
    "nextval-array": "SELECT ARRAY[nextval('seq')]",
    "nextval-join": "SELECT * FROM orders o JOIN customers c ON c.id = o.customer_id AND nextval('seq') > 0",
    "nextval-tablesample": "SELECT * FROM orders TABLESAMPLE system (nextval('seq'))",
    "nextval-table-function": "SELECT * FROM xmltable('/a' PASSING '<a/>'::xml COLUMNS x int DEFAULT nextval('seq'))",
    "setval": "SELECT setval('seq', 100)",
    "setval-hidden": "SELECT id FROM orders WHERE setval('seq', id) IS NOT NULL",
    "currval": "SELECT currval('seq')",
    # Functions
    "volatile-function": "SELECT write_log('x')",
    "volatile-function-schema": "SELECT public.write_log('x')",
    "stable-liar": "SELECT calls_it('x')",
    "stable-liar-where": "SELECT id FROM orders WHERE says_stable(id) = 1",
    "immutable-liar": "SELECT says_immutable(1)",
    "immutable-liar-where": "SELECT id FROM orders WHERE says_immutable(id) = 1",
    "sql-function-inlined": "SELECT inlined(id) FROM orders",
    "sql-function-from": "SELECT * FROM inlined(1)",
    "locking-sql-function": "SELECT lock_quietly(3)",
    "locking-sql-function-from": "SELECT * FROM lock_quietly(3)",
    "set-returning": "SELECT more_rows(1)",
    "set-returning-from": "SELECT * FROM more_rows(1)",
    "attribute-notation": "SELECT o.touched FROM orders o",
    "attribute-notation-values": "SELECT v.* FROM orders o, LATERAL (VALUES (o.touched), (1)) AS v(n)",
    "attribute-notation-brackets": "SELECT (o).touched FROM orders o",
    "aggregate": "SELECT counted(id) FROM orders",
    "aggregate-window": "SELECT counted(id) OVER (ORDER BY id) FROM orders",
    "remote-stable": "SELECT remote()",
    "named-arguments": "SELECT write_log(w => 'x')",
    # Operators, types, casts
    "operator": "SELECT 1 ### 2",
    "operator-where": "SELECT id FROM orders WHERE id ### 3",
    "operator-negative": "SELECT id FROM orders WHERE id ###-3",
    "operator-qualified": "SELECT 1 OPERATOR(public.###) 2",
    "operator-stable": "SELECT id FROM orders WHERE id @#@ 3",
    "operator-values": "SELECT * FROM (VALUES (1 ### 2), (true)) AS t(b)",
    "operator-limit": "SELECT id FROM orders LIMIT (1 ### 2)::int",
    "domain-cast": "SELECT 'x'::guarded",
    "domain-cast-column": "SELECT status::guarded FROM orders",
    "domain-cast-function": "SELECT CAST(status AS guarded) FROM orders",
    "domain-over-domain": "SELECT status::guarded_twice FROM orders",
    "domain-literal": "SELECT guarded 'x'",
    "row-type": "SELECT ROW('a', 'b')::pair",
    "row-type-json": """SELECT * FROM jsonb_populate_record(NULL::pair, '{"a": "x", "b": "y"}')""",
    "row-type-definition": """SELECT * FROM jsonb_to_record('{"p": null}') AS t(p pair)""",
    "domain-definition": """SELECT * FROM jsonb_to_record('{"p": "x"}') AS t(p guarded)""",
    # Views and policies
    "view": "SELECT * FROM v_volatile",
    "view-nested": "SELECT * FROM v_nested",
    "view-limit": "SELECT * FROM v_limit",
    "view-offset": "SELECT * FROM v_offset",
    "view-values": "SELECT * FROM v_values",
    "view-frame": "SELECT * FROM v_frame",
    "view-deep": "SELECT id FROM v_deep",
    "view-quoted": 'SELECT * FROM "public"."v_limit"',
    "view-table": "TABLE v_limit",
    "view-lock": "SELECT * FROM v_lock",
    "view-operator": "SELECT * FROM v_operator",
    "view-cast": "SELECT * FROM v_cast",
    "policy": "SELECT * FROM policed",
    # Writes
    "insert": "INSERT INTO log VALUES (1)",
    "insert-returning": "INSERT INTO log VALUES (1) RETURNING id",
    "insert-conflict": "INSERT INTO orders (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET total = 0",
    "insert-rule": "INSERT INTO doomed VALUES (1)",
    "update": "UPDATE orders SET total = 0 WHERE id = 1",
    "delete": "DELETE FROM doomed",
    "delete-using": "DELETE FROM doomed USING orders WHERE doomed.id = orders.id",
    "merge": "MERGE INTO doomed d USING orders o ON o.id = d.id WHEN MATCHED THEN DELETE",
    "cte-insert": "WITH x AS (INSERT INTO log VALUES (1) RETURNING id) SELECT * FROM x",
    "cte-update": "WITH x AS (UPDATE orders SET total = 0 RETURNING id) SELECT count(*) FROM x",
    "cte-delete": "WITH x AS (DELETE FROM doomed RETURNING id) SELECT count(*) FROM x",
    "cte-delete-unread": "WITH x AS (DELETE FROM doomed) SELECT 1",
    "cte-brackets": "(WITH x AS (DELETE FROM doomed RETURNING id) SELECT id FROM x)",
    "truncate": "TRUNCATE doomed",
    "copy-from": "COPY doomed FROM '/etc/hostname'",
    "copy-to": "COPY doomed TO '/tmp/querytoll-adversary'",
    "copy-query": "COPY (SELECT nextval('seq')) TO '/tmp/querytoll-adversary'",
    "copy-program": "COPY doomed TO PROGRAM 'cat > /tmp/querytoll-adversary'",
    # Locks
    "for-update": "SELECT * FROM orders WHERE id = 1 FOR UPDATE",
    "for-no-key-update": "SELECT * FROM orders WHERE id = 1 FOR NO KEY UPDATE",
    "for-share": "SELECT * FROM orders WHERE id = 1 FOR SHARE",
    "for-key-share": "SELECT * FROM orders WHERE id = 1 FOR KEY SHARE SKIP LOCKED",
    "for-update-subselect": "SELECT * FROM (SELECT * FROM orders LIMIT 3 FOR UPDATE) AS x",
    "for-update-cte": "WITH x AS (SELECT * FROM orders LIMIT 3 FOR UPDATE) SELECT id FROM x",
    "lock-table": "LOCK TABLE orders",
    "advisory": "SELECT pg_advisory_lock(1)",
    "advisory-shared": "SELECT pg_advisory_lock_shared(1)",
    "advisory-try": "SELECT pg_try_advisory_lock(1)",
    "advisory-transaction": "SELECT pg_advisory_xact_lock(1)",
    "advisory-unlock": "SELECT pg_advisory_unlock_all()",
    "advisory-where": "SELECT id FROM orders WHERE pg_try_advisory_lock(id)",
    # Beyond the transaction
    "dblink": "SELECT * FROM dblink('dbname=postgres', 'SELECT 1') AS t(a int)",
    "dblink-exec": "SELECT dblink_exec('dbname=postgres', 'SELECT 1')",
    "dblink-connect": "SELECT dblink_connect('dbname=postgres')",
    "foreign-table": "SELECT * FROM f_program",
    "foreign-table-view": "SELECT * FROM v_foreign",
    "foreign-table-join": "SELECT * FROM orders o JOIN f_program f ON f.line = o.status",
    "large-object-create": "SELECT lo_create(0)",
    "large-object-from": "SELECT lo_from_bytea(0, 'x')",
    "large-object-put": "SELECT lo_put(1, 0, 'x')",
    "large-object-unlink": "SELECT lo_unlink(1)",
    "large-object-import": "SELECT lo_import('/etc/hostname')",
    "large-object-export": "SELECT lo_export(1, '/tmp/querytoll-adversary')",
    "notify": "SELECT pg_notify('channel', 'x')",
    "terminate": "SELECT pg_terminate_backend(0)",
    "cancel": "SELECT pg_cancel_backend(0)",
    "reload": "SELECT pg_reload_conf()",
    "switch-wal": "SELECT pg_switch_wal()",
    "restore-point": "SELECT pg_create_restore_point('x')",
    "emit-message": "SELECT pg_logical_emit_message(false, 'a', 'b')",
    "replication-slot": "SELECT pg_create_physical_replication_slot('querytoll')",
    "reset-statistics": "SELECT pg_stat_reset()",
    "read-file": "SELECT pg_read_file('PG_VERSION')",
    "list-files": "SELECT pg_ls_dir('.')",
    "set-config": "SELECT set_config('work_mem', '1MB', false)",
    "seed": "SELECT setseed(0.5)",
    "sleep": "SELECT pg_sleep(0.01)",
    "export-snapshot": "SELECT pg_export_snapshot()",
    "transaction-id": "SELECT txid_current()",
    "transaction-id-full": "SELECT pg_current_xact_id()",
    "query-to-xml": "SELECT query_to_xml('SELECT nextval(''seq'')', true, true, '')",
    "query-to-xml-and-schema": "SELECT query_to_xml_and_xmlschema('SELECT nextval(''seq'')', true, true, '')",
    "ts-stat": "SELECT * FROM ts_stat('SELECT to_tsvector(nextval(''seq'')::text)')",
    "ts-rewrite": "SELECT ts_rewrite('a'::tsquery, 'SELECT ''a''::tsquery, nextval(''seq'')::text::tsquery')",
    # Not for EXPLAIN, or more than one
    "select-into": "SELECT * INTO copied FROM orders",
    "select-into-temp": "SELECT * INTO TEMP copied FROM orders",
    "select-into-hidden": "SELECT id /* x */ INTO copied FROM orders",
    "select-into-union": "SELECT 1 AS a INTO copied UNION SELECT 2",
    "select-into-cte": "WITH x AS (SELECT 1 AS a) SELECT * INTO copied FROM x",
    "create-table-as": "CREATE TABLE copied AS SELECT * FROM orders",
    "create-view": "CREATE MATERIALIZED VIEW copied AS SELECT * FROM orders",
    "refresh": "REFRESH MATERIALIZED VIEW m_clean",
    "do": "DO $$ BEGIN PERFORM nextval('seq'); END $$",
    "call": "CALL something()",
    "declare": "DECLARE c CURSOR FOR SELECT nextval('seq')",
    "fetch": "FETCH 1 FROM c",
    "prepare": "PREPARE p AS SELECT nextval('seq')",
    "execute": "EXECUTE p",
    "explain-analyze": "EXPLAIN ANALYZE DELETE FROM doomed",
    "analyze-option": "ANALYZE SELECT nextval('seq')",
    "vacuum": "VACUUM doomed",
    "two-statements": "SELECT 1; DELETE FROM doomed",
    "two-statements-comment": "SELECT 1 /* ; */; DELETE FROM doomed",
    "two-statements-string": "SELECT $a$ ; $a$, ';', $$;$$; DELETE FROM doomed",
    "two-statements-escape": r"SELECT E'\'; --'; DELETE FROM doomed",
    "nothing": "",
    "comment-only": "-- SELECT 1",
    # What the server reads otherwise than it looks
    "carriage-return-ends-comment": "SELECT id FROM orders --x\rLIMIT sneak(3)",
    "carriage-return-multi": "SELECT 1 --x\r; COMMIT; DELETE FROM doomed",
    "escape-continuation": "SELECT id FROM orders WHERE status <> E'a'\n'b\\' , ' LIMIT sneak(3) -- '",
    "escape-multi": "SELECT E'a'\n'b\\' , '; COMMIT; DELETE FROM doomed; -- '",
    "dollar-tag-not-ascii": "SELECT id FROM orders WHERE status <> $€$'$€$ LIMIT sneak(3) --'",
    "percent-s": "SELECT id FROM orders LIMIT 7 %sneak(4)",
    "not-ascii-name": "SELECT id FROM orders LIMIT q€(3)",
    "upper-not-ascii": "SELECT id FROM orders LIMIT É(3)",
    "nbsp-name": "SELECT id FROM orders LIMIT a\u00a0b(3)",
    "quote-in-name": 'SELECT id FROM orders LIMIT """x"(3)',
    "truncated-name": "SELECT id FROM orders LIMIT a23456789_123456789_123456789_123456789_123456789_123456789_1234567(3)",
    "number-into": "SELECT 1INTO copied",
    "nested-comment-trick": "SELECT id FROM orders /* /* */ LIMIT 1 */ LIMIT sneak(3)",
    "unicode-string-escape": "SELECT id FROM orders WHERE status <> U&'d!0061t' UESCAPE '!' LIMIT sneak(3)",
    "hidden-into-quoted": "SELECT 1 AS a/**/INTO/**/copied",
    "table-command-into": "WITH x AS (TABLE orders) SELECT * INTO UNLOGGED copied FROM x",
    # Checks behind columns, row types and names in strings
    "populate-alias": """SELECT x.b FROM columns_of_domains g, LATERAL jsonb_populate_record(g, '{"a": "zzz"}') x""",
    "populate-view": """SELECT x.b FROM v_columns g, LATERAL jsonb_populate_record(NULL::v_columns, '{"a": "zzz"}') x""",
    "populate-view-alias": """SELECT x.b FROM v_columns g, LATERAL jsonb_populate_record(g, '{"a": "zzz"}') x""",
    "record-definition-of-table": """SELECT * FROM jsonb_to_record('{"p": {"a": "zzz1"}}') AS t(p columns_of_domains)""",
    "hstore-populate": "SELECT g #= 'a=>zzz' FROM columns_of_domains g",
    "range-of-domain-cast": "SELECT (('[' || 'zzz' || status || ',zzzzz]')::text)::locking_range FROM orders",
    "table-to-xml": "SELECT table_to_xml('v_lock', true, false, '')",
    "table-to-xml-schema": "SELECT table_to_xml_and_xmlschema('v_sneak'::regclass, true, false, '')",
    "schema-to-xml": "SELECT schema_to_xml('public', true, false, '')",
    "database-to-xml": "SELECT database_to_xml(true, false, '')",
    "input-is-valid": "SELECT pg_input_is_valid('zzz' || status, 'locking') FROM orders",
    "input-error": "SELECT (pg_input_error_info('zzz' || status, 'locking')).message FROM orders",
    "domain-in": "SELECT domain_in(('zzz' || status)::cstring, to_regtype('locking')::oid, -1) IS NULL FROM orders",
    "record-in": "SELECT (record_in(textout('(a,zzz)' || status), to_regtype('lpair')::oid, -1)) IS NULL FROM orders",
    "array-in": "SELECT (array_in(textout('{zzz}'), to_regtype('locking')::oid, -1))::text FROM orders",
    "crosstab": "SELECT * FROM crosstab('SELECT sneak(94)::text, ''a''::text, ''b''::text') AS t(a text, b text)",
    "connectby": "SELECT * FROM connectby('v_sneak', 'n', 'n', '1', 0) AS t(keyid int, parent_keyid int, level int)",
    "domain-attribute-limit": "SELECT id FROM orders LIMIT (SELECT o.peeked FROM orders o LIMIT 1)",
    "domain-attribute-values": "SELECT v.* FROM orders o, LATERAL (VALUES (o.peeked), (1)) AS v(n)",
    "json-value-domain": """SELECT JSON_VALUE(jsonb '"zzz"', '$' RETURNING locking)""",
    "xmltable-passing": "SELECT * FROM xmltable('/a' PASSING xmlparse(DOCUMENT '<a>zzz</a>') COLUMNS x locking PATH '.')",
    # Places of an expression
    "fetch-first": "SELECT id FROM orders ORDER BY id FETCH FIRST (sneak(3)) ROWS ONLY",
    "groups-frame": "SELECT count(*) OVER (ORDER BY id GROUPS BETWEEN sneak(3) PRECEDING AND sneak(4) FOLLOWING) FROM orders",
    "range-frame": "SELECT count(*) OVER (ORDER BY at RANGE BETWEEN sneak(3) * interval '1 day' PRECEDING AND CURRENT ROW) FROM orders",
    "aggregate-order": "SELECT string_agg(status, ',' ORDER BY sneak(id)) FROM orders",
    "within-group": "SELECT percentile_cont(0.5 * (sneak(95) / 95)) WITHIN GROUP (ORDER BY total) FROM orders",
    "cube": "SELECT count(*) FROM orders GROUP BY CUBE (sneak(id), status)",
    "polymorphic": "SELECT w_any(id) FROM orders",
    "json-table": "SELECT * FROM JSON_TABLE(jsonb '[1]', '$[*]' PASSING sneak(96) AS x COLUMNS (a int PATH '$'))",
    "json-table-default": "SELECT * FROM JSON_TABLE(jsonb '[1]', '$[*]' COLUMNS (a int PATH '$.b' DEFAULT sneak(97) ON EMPTY))",
    "merge-returning": "WITH m AS (MERGE INTO log l USING orders o ON o.id = l.id WHEN MATCHED THEN DELETE RETURNING l.id) SELECT * FROM m",
    "tablesample-repeatable": "SELECT * FROM orders TABLESAMPLE bernoulli (10) REPEATABLE (sneak(3))",
    "search-cycle": "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT sneak(n + 1) FROM r WHERE n < 3) SEARCH DEPTH FIRST BY n SET o CYCLE n SET c USING p SELECT * FROM r",
    "lateral-left": "SELECT * FROM orders o LEFT JOIN LATERAL ROWS FROM (sneak(o.id), generate_series(1, 2)) AS x ON true",
    "exists-null": "SELECT id FROM orders o WHERE EXISTS (VALUES (sneak(id)), (2))",
    "values-in-in": "SELECT id FROM orders WHERE id IN (VALUES (sneak(3)), (4))",
    "array-subscript": "SELECT tags[sneak(1)] FROM orders",
    "array-slice": "SELECT tags[1:sneak(1)] FROM orders",
    "jsonb-subscript": "SELECT data[sneak(1)::text] FROM orders",
    "at-time-zone": "SELECT at AT TIME ZONE (SELECT 'UTC' FROM sneak(100)) FROM orders",
    "collate": 'SELECT sneak(id)::text COLLATE "C" FROM orders',
    "overlaps": "SELECT (at, at) OVERLAPS (at, sneak(3) * interval '1 day') FROM orders",
    "grouping": "SELECT GROUPING(status) + sneak(101) FROM orders GROUP BY ROLLUP (status)",
    "lo-get-put": "SELECT lo_open(lo_creat(131072), 131072)",
    "lo-truncate": "SELECT lo_truncate(1, 0)",
    "current-setting-set": "SELECT set_config('app.tenant', current_setting('app.tenant', true) || 'x', false)",
    "replication-origin": "SELECT pg_replication_origin_create('querytoll')",
    "stat-clear": "SELECT pg_stat_clear_snapshot()",
    "logical-slot": "SELECT * FROM pg_logical_slot_get_changes('querytoll', NULL, NULL)",
    "gin-clean": "SELECT gin_clean_pending_list('orders_pkey')",
    "inline-handler": "SELECT plpgsql_inline_handler(NULL)",
}

READING = {
    "key": "SELECT * FROM orders WHERE id = 7",
    "filter": "SELECT id, status FROM orders WHERE status = 'open' AND total > 5",
    "in": "SELECT id FROM orders WHERE id IN (1, 2, 3)",
    "any": "SELECT id FROM orders WHERE id = ANY ('{1,2,3}'::int[])",
    "like": "SELECT id FROM customers WHERE name LIKE 'name 1%'",
    "ilike": "SELECT id FROM customers WHERE email ILIKE '%EXAMPLE%'",
    "regular-expression": "SELECT id FROM customers WHERE name ~ '^name [0-9]+$'",
    "similar": "SELECT id FROM customers WHERE similarity(name, 'name 7') > 0.2 AND name % 'name'",
    "between": "SELECT id FROM orders WHERE at BETWEEN '2024-01-01' AND now()",
    "date": "SELECT date_trunc('day', at), count(*) FROM orders GROUP BY 1 ORDER BY 1",
    "extract": "SELECT extract(year FROM at) FROM orders",
    "time-zone": "SELECT at AT TIME ZONE 'UTC' FROM orders LIMIT 3",
    "join": "SELECT o.id, c.name FROM orders o JOIN customers c ON c.id = o.customer_id",
    "left-join": "SELECT c.id, count(o.id) FROM customers c LEFT JOIN orders o ON o.customer_id = c.id GROUP BY c.id",
    "exists": "SELECT id FROM customers c WHERE EXISTS (SELECT FROM orders o WHERE o.customer_id = c.id)",
    "not-in": "SELECT id FROM customers WHERE id NOT IN (SELECT customer_id FROM orders)",
    "aggregates": "SELECT count(*), sum(total), avg(total), min(at), max(at), array_agg(id), string_agg(status, ',') FROM orders",
    "percentile": "SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY total) FROM orders",
    "window": "SELECT id, row_number() OVER (PARTITION BY status ORDER BY at DESC), lag(total) OVER (ORDER BY id) FROM orders",
    "window-frame": "SELECT sum(total) OVER (ORDER BY id ROWS BETWEEN 2 PRECEDING AND CURRENT ROW) FROM orders",
    "grouping-sets": "SELECT status, customer_id, count(*) FROM orders GROUP BY GROUPING SETS ((status), (customer_id))",
    "cte": "WITH big AS (SELECT * FROM orders WHERE total > 50) SELECT count(*) FROM big",
    "recursive": "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r WHERE n < 5) SELECT * FROM r",
    "union": "SELECT id FROM orders UNION SELECT id FROM customers",
    "except": "SELECT id FROM orders EXCEPT SELECT id FROM customers",
    "values": "VALUES (1, 'a'), (2, 'b')",
    "table": "TABLE customers",
    "brackets": "(SELECT 1)",
    "comment": "/* route='x' */ SELECT 1 -- end",
    "semicolon": "SELECT 1;",
    "json": "SELECT data->>'a', data @> '{\"a\": 1}', jsonb_build_object('x', id) FROM orders",
    "json-rows": "SELECT * FROM jsonb_array_elements('[1, 2]'::jsonb)",
    "array": "SELECT id FROM orders WHERE tags @> '{x}' AND 'x' = ANY (tags)",
    "unnest": "SELECT unnest(tags) FROM orders",
    "series": "SELECT d::date FROM generate_series('2024-01-01'::timestamptz, '2024-01-05', '1 day') AS d",
    "lateral": "SELECT c.id, x.total FROM customers c, LATERAL (SELECT total FROM orders o WHERE o.customer_id = c.id LIMIT 1) x",
    "limit": "SELECT id FROM orders ORDER BY at DESC LIMIT 10 OFFSET 20",
    "distinct-on": "SELECT DISTINCT ON (customer_id) customer_id, at FROM orders ORDER BY customer_id, at DESC",
    "case": "SELECT CASE WHEN total > 50 THEN 'much' ELSE 'little' END, coalesce(status, '?'), nullif(id, 1) FROM orders",
    "text-search": "SELECT to_tsvector('english', name) @@ to_tsquery('english', 'name') FROM customers",
    "strings": "SELECT lower(name), upper(email), substring(name FROM 1 FOR 3), trim(name), length(name) FROM customers",
    "random": "SELECT id FROM orders ORDER BY random() LIMIT 1",
    "clock": "SELECT now(), clock_timestamp(), current_date, statement_timestamp()",
    "uuid": "SELECT gen_random_uuid()",
    "size": "SELECT pg_total_relation_size('orders')",
    "view": "SELECT * FROM v_clean",
    "view-nested": "SELECT * FROM v_cleaner",
    "materialized-view": "SELECT * FROM m_clean",
    "partitions": "SELECT * FROM parts WHERE at = '2024-01-15'",
    "sample": "SELECT * FROM orders TABLESAMPLE bernoulli (10) REPEATABLE (1)",
    "enum": "SELECT 'glad'::mood",
    "domain-clean": "SELECT 5::positive",
    "catalog": "SELECT relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE nspname = 'public'",
    "strings-with-words": "SELECT 'nextval(''seq'') ; INTO' AS x, \"id\" FROM orders",
    "schema-view": "SELECT * FROM information_schema.tables",
    "policy-clean": "SELECT * FROM policed_clean",
    "carriage-returns": "SELECT id\r\nFROM orders -- all\r\nWHERE id = 7",
    "escaped-strings": "SELECT E'a\\'b'\n'c', U&'d\\0061t', e'\\x41' FROM orders",
    "numbers": "SELECT 1e5, .5, 0.5e-3, 7 % 2, id%2 FROM orders WHERE id %3 = 1",
    "not-ascii": """SELECT g."Länge", 'größer — €' AS größe FROM "Größen" g WHERE "Länge" > 3""",
    "enum-column": "SELECT id FROM \"Größen\" WHERE mood = 'glad' AND mood IN ('glad', 'sad')",
    "enum-cast-in-out": "SELECT id FROM \"Größen\" WHERE mood = 'sad'::varchar::mood",
    "own-range": "SELECT id FROM \"Größen\" WHERE at && '[08:30,08:40)' AND at @> '08:35'::time",
    "own-range-cast": "SELECT '[08:30,08:40)'::spans",
    "own-row-type": "SELECT (place).x, (place).z FROM \"Größen\" WHERE place = ROW(1, 2, 'sad')::point_3",
    "row-of-table": "SELECT (o::orders).id, to_jsonb(o), row_to_json(o) FROM orders o",
    "domain-column": "SELECT mail, count(*) FROM \"Größen\" WHERE mail LIKE 'a%' GROUP BY mail",
    "populate-clean": 'SELECT x.* FROM orders o, LATERAL jsonb_populate_record(o, \'{"status": "x"}\') x',
    "hstore": "SELECT 'a=>1'::hstore -> 'a', hstore(o) FROM orders o",
    "recovery": "SELECT pg_is_in_recovery(), current_query()",
    "partition-tree": "SELECT relid FROM pg_partition_tree('parts')",
    "shuffled-list": "SELECT string_agg(status, ',' ORDER BY id DESC NULLS LAST) FROM orders WHERE NOT status IS DISTINCT FROM 'open'",
    "keyset": "SELECT id, at FROM orders WHERE (at, id) > ('2024-01-03', 5) ORDER BY at, id LIMIT 10",
    "batch": "SELECT * FROM unnest('{1,2}'::int[], '{a,b}'::text[]) WITH ORDINALITY AS t(a, b, n)",
    "report": "SELECT date_trunc('day', at), sum(total) FILTER (WHERE status = 'open') FROM orders GROUP BY 1",
    "rank": "SELECT * FROM (SELECT id, rank() OVER w AS r FROM orders WINDOW w AS (PARTITION BY status ORDER BY total)) x WHERE r < 3",
    "json-path": "SELECT jsonb_path_query_first(data, '$.a'), data #>> '{a}' FROM orders WHERE data @@ '$.a > 0'",
    "interval": "SELECT id FROM orders WHERE at > now() - make_interval(days => 3) AND at < 'infinity'",
}

WRONGLY_REFUSED = {
    "own-function": "SELECT plain(id) FROM orders",
    "own-function-rows": "SELECT * FROM rows_of(3)",
    "locks-view": "SELECT * FROM pg_locks",
}
"""Reads that cannot be proven to be: code of the user's own, and a view of the server over a volatile function."""
