-- What the debug endpoints read: the library's views, which stay as they are
-- from version to version. Conditions take the place of {{where}}.

-- name: calls
-- Everything that is called once and has an outcome: persisted requests,
-- workflow executions, and their steps. IDs are 63 bits of a digest.
SELECT ('x' || left(md5('message ' || m.id), 16))::bit(64)::bigint & 9223372036854775807 AS request_id,
       m.shard_group, m.shard AS shard_id, m.entity_type, m.entity_id,
       lower(regexp_replace(m.method, '(.)([A-Z])', '\1_\2', 'g')) AS tag,
       m.state <> 'pending' AS processed, greatest(m.attempts - 1, 0) AS retry_count, m.created_at, m.finished_at
  FROM cruster.messages m
UNION ALL
SELECT ('x' || left(md5('execution ' || x.type || ' ' || x.id || ' ' || x.run), 16))::bit(64)::bigint & 9223372036854775807,
       x.shard_group, x.shard, 'Workflow/' || x.type, x.id, 'execute',
       x.status IN ('completed', 'failed', 'cancelled', 'terminated'), greatest(x.attempts - 1, 0), x.created_at, x.finished_at
  FROM cruster.executions x
UNION ALL
SELECT ('x' || left(md5('step ' || s.type || ' ' || s.id || ' ' || s.run || ' ' || s.pos), 16))::bit(64)::bigint & 9223372036854775807,
       x.shard_group, x.shard, 'Workflow/' || s.type, s.id,
       '__journal/' || lower(regexp_replace(coalesce(nullif(s.name, ''), s.kind), '(.)([A-Z])', '\1_\2', 'g')),
       s.done, greatest(s.attempts - 1, 0), s.at, CASE WHEN s.done THEN s.at END
  FROM cruster.steps s JOIN cruster.executions x ON x.type = s.type AND x.id = s.id

-- name: messages
-- All of them are called by somebody who may wait for the reply.
SELECT request_id, shard_group, shard_id, entity_type, entity_id, tag, true, processed, retry_count, created_at
  FROM ({{calls}}) AS calls WHERE {{where}} ORDER BY created_at DESC, request_id DESC LIMIT {{limit}}

-- name: replies
-- A call has one reply: its outcome.
SELECT id, request_id, 0, is_exit, created_at
  FROM (SELECT request_id # 1 AS id, request_id, true AS is_exit, coalesce(finished_at, created_at) AS created_at
          FROM ({{calls}}) AS calls WHERE processed) AS replies
 WHERE {{where}} ORDER BY created_at DESC, id DESC LIMIT {{limit}}

-- name: journal
SELECT key, value_size, at, at, completed_at
  FROM (SELECT replace(concat_ws('/', '__journal/Workflow', s.type, s.id,
                   lower(regexp_replace(coalesce(nullif(s.name, ''), s.kind), '(.)([A-Z])', '\1_\2', 'g')),
                   CASE WHEN s.run > 1 THEN s.run || '.' || s.pos ELSE s.pos::text END), '[]', '%5B%5D') AS key,
               coalesce(s.outcome_bytes, 0) AS value_size, s.at, x.finished_at AS completed_at
          FROM cruster.steps s JOIN cruster.executions x ON x.type = s.type AND x.id = s.id) AS journal
 WHERE {{where}} ORDER BY at DESC, key DESC LIMIT {{limit}}
