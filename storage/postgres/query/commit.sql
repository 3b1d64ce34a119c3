-- What a commit writes. Arrays are sorted by key and hold each key once, so
-- that two transactions with the same keys lock them in the same order.

-- name: acceptPlain
INSERT INTO {{schema}}.message (id, shard, seq, state, attempts, uninterrupted, deliver_at, created_at, finished_at,
       entity_type, entity_id, method, key, codec, digest, meta, payload, outcome)
SELECT * FROM unnest($1::uuid[], $2::integer[], $3::bigint[], $4::smallint[], $5::integer[], $6::boolean[],
       $7::timestamptz[], $8::timestamptz[], $9::timestamptz[], $10::text[], $11::text[], $12::text[], $13::text[], $14::text[],
       $15::bytea[], $16::bytea[], $17::bytea[], $18::bytea[])

-- name: accept
INSERT INTO {{schema}}.message (id, shard, seq, state, attempts, uninterrupted, deliver_at, created_at, finished_at,
       entity_type, entity_id, method, key, codec, digest, meta, payload, outcome)
SELECT * FROM unnest($1::uuid[], $2::integer[], $3::bigint[], $4::smallint[], $5::integer[], $6::boolean[],
       $7::timestamptz[], $8::timestamptz[], $9::timestamptz[], $10::text[], $11::text[], $12::text[], $13::text[], $14::text[],
       $15::bytea[], $16::bytea[], $17::bytea[], $18::bytea[])
ON CONFLICT (id) DO NOTHING
RETURNING id

-- name: startPlain
INSERT INTO {{schema}}.execution (type, id, shard, run, status, attempts, created_at, updated_at, finished_at, deadline,
       wake_at, cancel_at, key, codec, waiting_for, cancel_reason, parent_type, parent_id, tags, digest, meta, input, outcome)
SELECT * FROM unnest($1::text[], $2::text[], $3::integer[], $4::integer[], $5::smallint[], $6::integer[], $7::timestamptz[],
       $8::timestamptz[], $9::timestamptz[], $10::timestamptz[], $11::timestamptz[], $12::timestamptz[], $13::text[], $14::text[],
       $15::text[], $16::text[], $17::text[], $18::text[], $19::text[]::jsonb[], $20::bytea[], $21::bytea[], $22::bytea[], $23::bytea[])

-- name: start
INSERT INTO {{schema}}.execution (type, id, shard, run, status, attempts, created_at, updated_at, finished_at, deadline,
       wake_at, cancel_at, key, codec, waiting_for, cancel_reason, parent_type, parent_id, tags, digest, meta, input, outcome)
SELECT * FROM unnest($1::text[], $2::text[], $3::integer[], $4::integer[], $5::smallint[], $6::integer[], $7::timestamptz[],
       $8::timestamptz[], $9::timestamptz[], $10::timestamptz[], $11::timestamptz[], $12::timestamptz[], $13::text[], $14::text[],
       $15::text[], $16::text[], $17::text[], $18::text[], $19::text[]::jsonb[], $20::bytea[], $21::bytea[], $22::bytea[], $23::bytea[])
ON CONFLICT (type, id) DO NOTHING
RETURNING type, id

-- name: adopt
UPDATE {{schema}}.message m SET seq = u.seq
  FROM unnest($1::uuid[], $2::bigint[]) AS u (id, seq)
 WHERE m.id = u.id AND m.state = 1 AND m.seq = 0

-- name: attempt
UPDATE {{schema}}.message m SET attempts = u.n
  FROM unnest($1::uuid[], $2::integer[]) AS u (id, n)
 WHERE m.id = u.id AND m.state = 1 AND m.attempts < u.n

-- name: finish
UPDATE {{schema}}.message m
   SET state = u.state, attempts = greatest(m.attempts, u.attempts), outcome = u.outcome, finished_at = u.at
  FROM unnest($1::uuid[], $2::smallint[], $3::integer[], $4::bytea[], $5::timestamptz[]) AS u (id, state, attempts, outcome, at)
 WHERE m.id = u.id AND m.state = 1

-- name: step
-- The comparison stands where the stored row is locked and in its newest
-- version: a subquery would look at a snapshot that is older than the lock.
INSERT INTO {{schema}}.step AS s (num, run, pos, kind, attempts, seq, at, due, name, codec, digest, args, outcome)
SELECT coalesce(e.num, {{schema}}.refuse_orphan(u.type, u.id, u.run, u.pos)),
       u.run, u.pos, u.kind, u.attempts, u.seq, u.at, u.due, u.name, u.codec, u.digest, u.args, u.outcome
  FROM unnest($1::text[], $2::text[], $3::integer[], $4::integer[], $5::smallint[], $6::integer[], $7::bigint[], $8::timestamptz[],
              $9::timestamptz[], $10::text[], $11::text[], $12::bytea[], $13::bytea[], $14::bytea[])
       AS u (type, id, run, pos, kind, attempts, seq, at, due, name, codec, digest, args, outcome)
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
  FROM unnest($1::text[], $2::text[], $3::integer[]) AS u (type, id, run)
 WHERE e.type = u.type AND e.id = u.id AND e.run = u.run AND NOT e.cancel_seen

-- name: update
UPDATE {{schema}}.execution e
   SET status = u.status, attempts = u.attempts, wake_at = u.wake_at, waiting_for = u.waiting_for, outcome = u.outcome,
       updated_at = u.at, finished_at = CASE WHEN u.status IN (3, 4, 5, 6) THEN u.at ELSE e.finished_at END
  FROM unnest($1::text[], $2::text[], $3::integer[], $4::smallint[], $5::integer[], $6::timestamptz[], $7::text[], $8::bytea[],
              $9::timestamptz[]) AS u (type, id, run, status, attempts, wake_at, waiting_for, outcome, at)
 WHERE e.type = u.type AND e.id = u.id AND e.run = u.run AND e.status NOT IN (3, 4, 5, 6)

-- name: cancel
UPDATE {{schema}}.execution e SET cancel_reason = u.reason, cancel_at = u.at
  FROM unnest($1::text[], $2::text[], $3::text[], $4::timestamptz[]) AS u (type, id, reason, at)
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
  FROM {{schema}}.execution e JOIN unnest($1::text[], $2::text[]) AS u (type, id) ON e.type = u.type AND e.id = u.id
