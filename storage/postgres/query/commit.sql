-- What a commit writes. Arrays are sorted by key and hold each key once, so
-- that two transactions with the same keys lock them in the same order.

-- Arrays are unnested in the target list: as functions in FROM, each of them
-- gets a tuplestore of 16 kB, and a one-row insert costs five times as much.

-- name: byIndex
-- Statements that look rows up are planned once for each connection, perhaps
-- while the tables are empty and a scan is the best plan. The plan stays when
-- they have grown. For the same reason they say "state NOT IN (2, 3)": with
-- "state = 1" the partial indexes match, and look small.
SELECT set_config('enable_seqscan', 'off', true), set_config('enable_hashjoin', 'off', true),
       set_config('enable_mergejoin', 'off', true), set_config('plan_cache_mode', 'force_generic_plan', true)

-- name: acceptPlain
INSERT INTO {{schema}}.message (id, shard, seq, state, attempts, uninterrupted, deliver_at, created_at, finished_at,
       entity_type, entity_id, method, key, codec, digest, meta, payload, outcome)
SELECT unnest($1::uuid[]), unnest($2::integer[]), unnest($3::bigint[]), unnest($4::smallint[]),
       unnest($5::integer[]), unnest($6::boolean[]), unnest($7::timestamptz[]), unnest($8::timestamptz[]),
       unnest($9::timestamptz[]), unnest($10::text[]), unnest($11::text[]), unnest($12::text[]), unnest($13::text[]),
       unnest($14::text[]), unnest($15::bytea[]), unnest($16::bytea[]), unnest($17::bytea[]), unnest($18::bytea[])

-- name: accept
INSERT INTO {{schema}}.message (id, shard, seq, state, attempts, uninterrupted, deliver_at, created_at, finished_at,
       entity_type, entity_id, method, key, codec, digest, meta, payload, outcome)
SELECT unnest($1::uuid[]), unnest($2::integer[]), unnest($3::bigint[]), unnest($4::smallint[]),
       unnest($5::integer[]), unnest($6::boolean[]), unnest($7::timestamptz[]), unnest($8::timestamptz[]),
       unnest($9::timestamptz[]), unnest($10::text[]), unnest($11::text[]), unnest($12::text[]), unnest($13::text[]),
       unnest($14::text[]), unnest($15::bytea[]), unnest($16::bytea[]), unnest($17::bytea[]), unnest($18::bytea[])
ON CONFLICT (id) DO NOTHING
RETURNING id

-- name: startPlain
INSERT INTO {{schema}}.execution (type, id, shard, run, status, attempts, created_at, updated_at, finished_at, deadline,
       wake_at, cancel_at, key, codec, waiting_for, cancel_reason, parent_type, parent_id, tags, digest, meta, input, outcome)
SELECT unnest($1::text[]), unnest($2::text[]), unnest($3::integer[]), unnest($4::integer[]), unnest($5::smallint[]),
       unnest($6::integer[]), unnest($7::timestamptz[]), unnest($8::timestamptz[]), unnest($9::timestamptz[]),
       unnest($10::timestamptz[]), unnest($11::timestamptz[]), unnest($12::timestamptz[]), unnest($13::text[]),
       unnest($14::text[]), unnest($15::text[]), unnest($16::text[]), unnest($17::text[]), unnest($18::text[]),
       unnest($19::text[])::jsonb, unnest($20::bytea[]), unnest($21::bytea[]), unnest($22::bytea[]),
       unnest($23::bytea[])

-- name: start
INSERT INTO {{schema}}.execution (type, id, shard, run, status, attempts, created_at, updated_at, finished_at, deadline,
       wake_at, cancel_at, key, codec, waiting_for, cancel_reason, parent_type, parent_id, tags, digest, meta, input, outcome)
SELECT unnest($1::text[]), unnest($2::text[]), unnest($3::integer[]), unnest($4::integer[]), unnest($5::smallint[]),
       unnest($6::integer[]), unnest($7::timestamptz[]), unnest($8::timestamptz[]), unnest($9::timestamptz[]),
       unnest($10::timestamptz[]), unnest($11::timestamptz[]), unnest($12::timestamptz[]), unnest($13::text[]),
       unnest($14::text[]), unnest($15::text[]), unnest($16::text[]), unnest($17::text[]), unnest($18::text[]),
       unnest($19::text[])::jsonb, unnest($20::bytea[]), unnest($21::bytea[]), unnest($22::bytea[]),
       unnest($23::bytea[])
ON CONFLICT (type, id) DO NOTHING
RETURNING type, id

-- name: adopt
UPDATE {{schema}}.message m SET seq = u.seq
  FROM (SELECT unnest($1::uuid[]) AS id, unnest($2::bigint[]) AS seq) AS u
 WHERE m.id = u.id AND m.state NOT IN (2, 3) AND m.seq = 0

-- name: attempt
UPDATE {{schema}}.message m SET attempts = u.n
  FROM (SELECT unnest($1::uuid[]) AS id, unnest($2::integer[]) AS n) AS u
 WHERE m.id = u.id AND m.state NOT IN (2, 3) AND m.attempts < u.n

-- name: finish
UPDATE {{schema}}.message m
   SET state = u.state, attempts = greatest(m.attempts, u.attempts), outcome = u.outcome, finished_at = u.at
  FROM (SELECT unnest($1::uuid[]) AS id, unnest($2::smallint[]) AS state, unnest($3::integer[]) AS attempts,
              unnest($4::bytea[]) AS outcome, unnest($5::timestamptz[]) AS at) AS u
 WHERE m.id = u.id AND m.state NOT IN (2, 3)

-- name: step
-- The comparison stands where the stored row is locked and in its newest
-- version: a subquery would look at a snapshot that is older than the lock.
INSERT INTO {{schema}}.step AS s (num, run, pos, kind, attempts, seq, at, due, name, codec, digest, args, outcome)
SELECT coalesce(e.num, {{schema}}.refuse_orphan(u.type, u.id, u.run, u.pos)),
       u.run, u.pos, u.kind, u.attempts, u.seq, u.at, u.due, u.name, u.codec, u.digest, u.args, u.outcome
  FROM (SELECT unnest($1::text[]) AS type, unnest($2::text[]) AS id, unnest($3::integer[]) AS run,
              unnest($4::integer[]) AS pos, unnest($5::smallint[]) AS kind, unnest($6::integer[]) AS attempts,
              unnest($7::bigint[]) AS seq, unnest($8::timestamptz[]) AS at, unnest($9::timestamptz[]) AS due,
              unnest($10::text[]) AS name, unnest($11::text[]) AS codec, unnest($12::bytea[]) AS digest,
              unnest($13::bytea[]) AS args, unnest($14::bytea[]) AS outcome) AS u
  LEFT JOIN {{schema}}.execution e ON e.type = u.type AND e.id = u.id
ON CONFLICT (num, run, pos) DO UPDATE
   SET attempts = excluded.attempts, seq = excluded.seq, at = excluded.at, due = excluded.due,
       codec = excluded.codec, args = excluded.args, outcome = excluded.outcome
 WHERE CASE
       WHEN s.kind <> excluded.kind OR s.name <> excluded.name OR s.digest IS DISTINCT FROM excluded.digest
            THEN {{schema}}.refuse_step(s.num, s.run, s.pos, s.kind, s.name, s.seq)
       WHEN s.seq = 0 THEN true
       WHEN excluded.seq = 0 OR s.seq = excluded.seq AND s.outcome IS NOT DISTINCT FROM excluded.outcome THEN false
       ELSE {{schema}}.refuse_step(s.num, s.run, s.pos, s.kind, s.name, s.seq)
       END

-- name: cancelSeen
UPDATE {{schema}}.execution e SET cancel_seen = true
  FROM (SELECT unnest($1::text[]) AS type, unnest($2::text[]) AS id, unnest($3::integer[]) AS run) AS u
 WHERE e.type = u.type AND e.id = u.id AND e.run = u.run AND NOT e.cancel_seen

-- name: update
UPDATE {{schema}}.execution e
   SET status = u.status, attempts = u.attempts, wake_at = u.wake_at, waiting_for = u.waiting_for, outcome = u.outcome,
       updated_at = u.at, finished_at = CASE WHEN u.status IN (3, 4, 5, 6) THEN u.at ELSE e.finished_at END
  FROM (SELECT unnest($1::text[]) AS type, unnest($2::text[]) AS id, unnest($3::integer[]) AS run,
              unnest($4::smallint[]) AS status, unnest($5::integer[]) AS attempts,
              unnest($6::timestamptz[]) AS wake_at, unnest($7::text[]) AS waiting_for,
              unnest($8::bytea[]) AS outcome, unnest($9::timestamptz[]) AS at) AS u
 WHERE e.type = u.type AND e.id = u.id AND e.run = u.run AND e.status NOT IN (3, 4, 5, 6)

-- name: cancel
UPDATE {{schema}}.execution e SET cancel_reason = u.reason, cancel_at = u.at
  FROM (SELECT unnest($1::text[]) AS type, unnest($2::text[]) AS id, unnest($3::text[]) AS reason,
              unnest($4::timestamptz[]) AS at) AS u
 WHERE e.type = u.type AND e.id = u.id AND e.status NOT IN (3, 4, 5, 6) AND e.cancel_at IS NULL

-- name: schedule
SELECT {{schema}}.write_schedule((u.index - 1)::integer,
       ROW(u.kind, u.name, u.shard, u.version, u.holder, u.restarts, u.paused, u.last_tick, u.next_tick, u.since, u.updated_at,
           u.last_error, u.history)::{{schema}}.schedule)
  FROM unnest($1::smallint[], $2::text[], $3::integer[], $4::bigint[], $5::bigint[], $6::integer[], $7::boolean[], $8::timestamptz[],
              $9::timestamptz[], $10::timestamptz[], $11::timestamptz[], $12::text[], $13::bytea[]) WITH ORDINALITY
       AS u (kind, name, shard, version, holder, restarts, paused, last_tick, next_tick, since, updated_at, last_error, history, index)

-- name: fence
SELECT {{schema}}.fence($1::integer, $2::bigint, $3::integer[], $4::uuid[])

-- name: existingMessages
SELECT id, shard, seq, state, attempts, uninterrupted, deliver_at, created_at, finished_at, entity_type, entity_id, method, key,
       codec, digest, meta, NULL::bytea AS payload, outcome
  FROM {{schema}}.message WHERE id = ANY ($1::uuid[])

-- name: existingExecutions
SELECT e.type, e.id, e.shard, e.run, e.status, e.attempts, e.created_at, e.updated_at, e.finished_at, e.deadline, e.wake_at,
       e.cancel_at, e.key, e.codec, e.waiting_for, e.cancel_reason, e.parent_type, e.parent_id, e.tags::text, e.digest, e.meta,
       NULL::bytea AS input, e.outcome
  FROM {{schema}}.execution e JOIN (SELECT unnest($1::text[]) AS type, unnest($2::text[]) AS id) AS u ON e.type = u.type AND e.id = u.id
