-- name: retryMessage
UPDATE {{schema}}.message SET state = 1, seq = 0, attempts = 0, outcome = NULL, finished_at = NULL
 WHERE id = $1::uuid AND state = 3

-- name: discardMessage
DELETE FROM {{schema}}.message WHERE id = $1::uuid AND state = 3

-- name: retryExecution
UPDATE {{schema}}.execution
   SET run = CASE WHEN status IN (4, 5, 6) THEN run + 1 ELSE run END,
       cancel_at = CASE WHEN status IN (4, 5, 6) THEN NULL ELSE cancel_at END,
       cancel_reason = CASE WHEN status IN (4, 5, 6) THEN '' ELSE cancel_reason END,
       cancel_seen = cancel_seen AND status NOT IN (4, 5, 6),
       status = 1, attempts = 0, wake_at = NULL, waiting_for = '', outcome = NULL, updated_at = $3::timestamptz, finished_at = NULL
 WHERE type = $1::text AND id = $2::text AND status IN (4, 5, 6, 7, 8) AND NOT purged
RETURNING type, id, shard, run, status, attempts, created_at, updated_at, finished_at, deadline, wake_at,
       cancel_at, key, codec, waiting_for, cancel_reason, parent_type, parent_id, tags::text, digest, meta, input, outcome

-- name: executionStatus
SELECT status, purged FROM {{schema}}.execution WHERE type = $1::text AND id = $2::text

-- name: purgeRunners
DELETE FROM {{schema}}.runner WHERE incarnation IN (
    SELECT incarnation FROM {{schema}}.runner WHERE lease_until <= clock_timestamp() ORDER BY incarnation LIMIT $1::bigint)

-- name: messageTypes
-- A loose index scan: one step for each type that has finished rows.
WITH RECURSIVE t AS (
    (SELECT entity_type FROM {{schema}}.message WHERE state = 2 ORDER BY entity_type LIMIT 1)
    UNION ALL
    SELECT (SELECT m.entity_type FROM {{schema}}.message m WHERE m.state = 2 AND m.entity_type > t.entity_type
             ORDER BY m.entity_type LIMIT 1)
      FROM t WHERE t.entity_type IS NOT NULL)
SELECT entity_type FROM t WHERE entity_type IS NOT NULL

-- name: executionTypes
WITH RECURSIVE t AS (
    (SELECT type FROM {{schema}}.execution WHERE status IN (3, 4, 5, 6) ORDER BY type LIMIT 1)
    UNION ALL
    SELECT (SELECT e.type FROM {{schema}}.execution e WHERE e.status IN (3, 4, 5, 6) AND e.type > t.type
             ORDER BY e.type LIMIT 1)
      FROM t WHERE t.type IS NOT NULL)
SELECT type FROM t WHERE type IS NOT NULL

-- name: purgeMessages
WITH old AS (
    SELECT m.id, m.key FROM unnest($1::text[]) AS w (type) CROSS JOIN LATERAL (
        SELECT p.id, p.key FROM {{schema}}.message p
         WHERE p.state = 2 AND p.entity_type = w.type AND NOT p.purged AND p.finished_at < $2::timestamptz
         ORDER BY p.finished_at LIMIT $3::bigint FOR UPDATE SKIP LOCKED) m
     LIMIT $3::bigint),
gone AS (
    DELETE FROM {{schema}}.message m USING old WHERE m.id = old.id AND old.key IS NULL RETURNING 1),
kept AS (
    UPDATE {{schema}}.message m
       SET purged = true, payload = NULL, meta = NULL,
           outcome = CASE WHEN octet_length(m.outcome) <= 1024 THEN m.outcome END
      FROM old WHERE m.id = old.id AND old.key IS NOT NULL RETURNING 1)
SELECT (SELECT count(*) FROM gone) + (SELECT count(*) FROM kept)

-- name: purgeMessageKeys
WITH old AS (
    SELECT m.id FROM unnest($1::text[]) AS w (type) CROSS JOIN LATERAL (
        SELECT p.id FROM {{schema}}.message p
         WHERE p.state = 2 AND p.entity_type = w.type AND p.purged AND p.finished_at < $2::timestamptz
         ORDER BY p.finished_at LIMIT $3::bigint FOR UPDATE SKIP LOCKED) m
     LIMIT $3::bigint),
gone AS (
    DELETE FROM {{schema}}.message m USING old WHERE m.id = old.id RETURNING 1)
SELECT count(*) FROM gone

-- name: purgeExecutions
WITH old AS (
    SELECT e.num, e.key FROM unnest($1::text[]) AS w (type) CROSS JOIN LATERAL (
        SELECT p.num, p.key FROM {{schema}}.execution p
         WHERE p.status IN (3, 4, 5, 6) AND p.type = w.type AND NOT p.purged AND p.finished_at < $2::timestamptz
         ORDER BY p.finished_at LIMIT $3::bigint FOR UPDATE SKIP LOCKED) e
     LIMIT $3::bigint),
steps AS (
    DELETE FROM {{schema}}.step s USING old WHERE s.num = old.num),
gone AS (
    DELETE FROM {{schema}}.execution e USING old WHERE e.num = old.num AND old.key IS NULL RETURNING 1),
kept AS (
    UPDATE {{schema}}.execution e
       SET purged = true, input = NULL, meta = NULL,
           outcome = CASE WHEN octet_length(e.outcome) <= 1024 THEN e.outcome END
      FROM old WHERE e.num = old.num AND old.key IS NOT NULL RETURNING 1)
SELECT (SELECT count(*) FROM gone) + (SELECT count(*) FROM kept)

-- name: purgeExecutionKeys
WITH old AS (
    SELECT e.num FROM unnest($1::text[]) AS w (type) CROSS JOIN LATERAL (
        SELECT p.num FROM {{schema}}.execution p
         WHERE p.status IN (3, 4, 5, 6) AND p.type = w.type AND p.purged AND p.finished_at < $2::timestamptz
         ORDER BY p.finished_at LIMIT $3::bigint FOR UPDATE SKIP LOCKED) e
     LIMIT $3::bigint),
gone AS (
    DELETE FROM {{schema}}.execution e USING old WHERE e.num = old.num RETURNING 1)
SELECT count(*) FROM gone
