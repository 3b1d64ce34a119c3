-- What people and tools read. Conditions are appended; see list.go.

-- name: listMessages
SELECT id, shard, seq, state, attempts, uninterrupted, deliver_at, created_at, finished_at, entity_type, entity_id, method, key,
       codec, digest, meta, NULL::bytea AS payload, outcome
  FROM {{schema}}.message WHERE true

-- name: listExecutions
SELECT type, id, shard, run, status, attempts, created_at, updated_at, finished_at, deadline, wake_at,
       cancel_at, key, codec, waiting_for, cancel_reason, parent_type, parent_id, tags::text, digest, meta,
       NULL::bytea AS input, outcome
  FROM {{schema}}.execution WHERE true

-- name: countMessages
SELECT entity_type, state, count(*) FROM {{schema}}.message WHERE state = 1 GROUP BY 1, 2
UNION ALL
SELECT entity_type, state, count(*) FROM {{schema}}.message WHERE state = 3 GROUP BY 1, 2

-- name: countExecutions
SELECT type, status, count(*) FROM {{schema}}.execution WHERE status = 1 GROUP BY 1, 2
UNION ALL
SELECT type, status, count(*) FROM {{schema}}.execution WHERE status IN (2, 7, 8) GROUP BY 1, 2
