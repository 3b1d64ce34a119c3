-- What the engine reads.

-- name: message
SELECT id, shard, seq, state, attempts, uninterrupted, deliver_at, created_at, finished_at, entity_type, entity_id, method, key,
       codec, digest, meta, payload, outcome
  FROM {{schema}}.message WHERE id = $1::uuid

-- name: execution
SELECT type, id, shard, run, status, attempts, created_at, updated_at, finished_at, deadline, wake_at,
       cancel_at, key, codec, waiting_for, cancel_reason, parent_type, parent_id, tags::text, digest, meta, input, outcome
  FROM {{schema}}.execution WHERE type = $1::text AND id = $2::text

-- name: steps
SELECT s.run, s.pos, s.kind, s.attempts, s.seq, s.at, s.due, s.name, s.codec, s.digest, s.args, s.outcome
  FROM {{schema}}.execution e JOIN {{schema}}.step s ON s.num = e.num
 WHERE e.type = $1::text AND e.id = $2::text AND s.run = $3::integer
 ORDER BY s.pos

-- name: pendingFew
-- Of a few shards: a walk along message_pending for each.
SELECT m.id, m.shard, m.seq, m.state, m.attempts, m.uninterrupted, m.deliver_at, m.created_at, m.finished_at, m.entity_type,
       m.entity_id, m.method, m.key, m.codec, m.digest, m.meta, m.payload, m.outcome
  FROM unnest($1::integer[]) AS q (shard) CROSS JOIN LATERAL (
       SELECT * FROM {{schema}}.message p
        WHERE p.shard = q.shard AND p.state = 1 AND (p.seq, p.id) > ($2::bigint, $3::uuid) AND p.seq <= $4::bigint
          AND (p.deliver_at IS NULL OR p.deliver_at <= $5::timestamptz)
          AND ($6::text = '' OR p.entity_type = $6::text AND p.entity_id = $7::text)
        ORDER BY p.seq, p.id LIMIT $8::bigint) m
 ORDER BY m.seq, m.id LIMIT $8::bigint

-- name: pendingMany
-- Of many shards, or all: a walk along message_order.
SELECT id, shard, seq, state, attempts, uninterrupted, deliver_at, created_at, finished_at, entity_type, entity_id, method, key,
       codec, digest, meta, payload, outcome
  FROM {{schema}}.message
 WHERE ($1::integer[] IS NULL OR shard = ANY ($1::integer[])) AND state = 1
   AND (seq, id) > ($2::bigint, $3::uuid) AND seq <= $4::bigint
   AND (deliver_at IS NULL OR deliver_at <= $5::timestamptz)
   AND ($6::text = '' OR entity_type = $6::text AND entity_id = $7::text)
 ORDER BY seq, id LIMIT $8::bigint

-- name: runnable
SELECT type, id, shard, run, status, attempts, created_at, updated_at, finished_at, deadline, wake_at,
       cancel_at, key, codec, waiting_for, cancel_reason, parent_type, parent_id, tags::text, digest, meta,
       NULL::bytea AS input, outcome
  FROM {{schema}}.execution
 WHERE status = 1 AND (created_at, type, id) > ($1::timestamptz, $2::text, $3::text)
   AND ($4::integer[] IS NULL OR shard = ANY ($4::integer[]))
 ORDER BY created_at, type, id LIMIT $5::bigint

-- name: timers
-- Each part is a walk along its own index, from behind its own bound.
SELECT at, shard, id, type, execution FROM (
    (SELECT wake_at AS at, 1 AS sort, shard, NULL::uuid AS id, type, id AS execution
       FROM {{schema}}.execution
      WHERE status = 2 AND wake_at IS NOT NULL AND wake_at <= $2::timestamptz
        AND (wake_at, type, id) > ($3::timestamptz, $4::text, $5::text)
        AND ($1::integer[] IS NULL OR shard = ANY ($1::integer[]))
      ORDER BY wake_at, type, id LIMIT $8::bigint)
    UNION ALL
    (SELECT cancel_at, 1, shard, NULL::uuid, type, id
       FROM {{schema}}.execution
      WHERE status = 2 AND cancel_at IS NOT NULL AND NOT cancel_seen AND cancel_at <= $2::timestamptz
        AND (cancel_at, type, id) > ($3::timestamptz, $4::text, $5::text) AND cancel_at IS DISTINCT FROM wake_at
        AND ($1::integer[] IS NULL OR shard = ANY ($1::integer[]))
      ORDER BY cancel_at, type, id LIMIT $8::bigint)
    UNION ALL
    (SELECT deliver_at, 2, shard, id, '', ''
       FROM {{schema}}.message
      WHERE state = 1 AND deliver_at IS NOT NULL AND deliver_at <= $2::timestamptz
        AND (deliver_at, id) > ($6::timestamptz, $7::uuid)
        AND ($1::integer[] IS NULL OR shard = ANY ($1::integer[]))
      ORDER BY deliver_at, id LIMIT $8::bigint)
) AS t ORDER BY at, sort, type, execution, id LIMIT $8::bigint

-- name: scheduleOne
SELECT kind, name, shard, version, holder, restarts, paused, last_tick, next_tick, since, updated_at, last_error, history
  FROM {{schema}}.schedule WHERE kind = $1::smallint AND name = $2::text

-- name: scheduleAll
SELECT kind, name, shard, version, holder, restarts, paused, last_tick, next_tick, since, updated_at, last_error, history
  FROM {{schema}}.schedule WHERE kind = $1::smallint ORDER BY name

-- name: groups
SELECT id, name FROM {{schema}}.shard_group

-- name: groupAdd
INSERT INTO {{schema}}.shard_group (id, name)
SELECT coalesce(max(g.id), 0) + 1, $1::text FROM {{schema}}.shard_group g
ON CONFLICT DO NOTHING
