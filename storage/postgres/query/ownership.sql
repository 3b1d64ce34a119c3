-- Times are the database's: no two runners agree on another clock.

-- name: register
INSERT INTO {{schema}}.runner (address, groups, weight, version, lease_until, draining)
VALUES ($1::text, $2::text[], $3::integer, $4::text, clock_timestamp() + $5::bigint * interval '1 microsecond', $6::boolean)
RETURNING incarnation

-- name: renew
UPDATE {{schema}}.runner SET draining = $2::boolean, lease_until = clock_timestamp() + $3::bigint * interval '1 microsecond'
 WHERE incarnation = $1::bigint AND lease_until > clock_timestamp()

-- name: unregister
DELETE FROM {{schema}}.runner WHERE incarnation = $1::bigint

-- name: runners
SELECT incarnation, address, groups, weight, version, lease_until, draining
  FROM {{schema}}.runner WHERE lease_until > clock_timestamp() ORDER BY incarnation

-- name: owners
SELECT shard, owner_incarnation, epoch, token FROM {{schema}}.shard WHERE shard = ANY ($1::integer[])

-- name: shardsAdd
INSERT INTO {{schema}}.shard (shard, owner_incarnation, epoch, token, lock_rev)
SELECT u, 0, 0, {{schema}}.new_token(0), 0 FROM unnest($1::integer[]) AS u
ON CONFLICT (shard) DO NOTHING

-- name: lockOwner
SELECT pg_advisory_xact_lock($1::integer, ($2::bigint & 2147483647)::integer)

-- name: takeOver
-- The owner is compared too: whoever read the owner, paused, and then locked a
-- former one holds the wrong lock.
UPDATE {{schema}}.shard
   SET epoch = epoch + 1, token = {{schema}}.new_token(epoch + 1), owner_incarnation = $3::bigint,
       lock_rev = CASE WHEN $4::bigint = 0 THEN lock_rev ELSE $4::bigint END
 WHERE shard = ANY ($1::integer[]) AND owner_incarnation = $2::bigint AND ($4::bigint = 0 OR lock_rev < $4::bigint)
RETURNING shard, epoch, token

-- name: handOver
SELECT shard, epoch, token FROM {{schema}}.hand_over($1::integer, $2::bigint, $3::integer[], $4::uuid[], $5::bigint)

-- name: endHolders
-- While the taker stays queued for the lock, nobody new is granted it, so who
-- holds it in shared mode is stuck. Another taker may have been granted it just
-- now; it is ended only when it was seen before ($3).
SELECT l.pid, l.mode = 'ShareLock' OR l.pid = ANY ($3::integer[]),
       CASE WHEN l.mode = 'ShareLock' OR l.pid = ANY ($3::integer[]) THEN pg_terminate_backend(l.pid) ELSE false END
  FROM pg_locks l
 WHERE l.locktype = 'advisory' AND l.granted AND l.mode IN ('ShareLock', 'ExclusiveLock')
   AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
   AND l.classid = $1::bigint::oid AND l.objid = ($2::bigint & 2147483647)::oid AND l.objsubid = 2

-- name: endSessions
-- Sessions of a dead incarnation that still have a transaction open, and with
-- it locks on users' rows.
SELECT a.pid, pg_terminate_backend(a.pid)
  FROM pg_stat_activity a
 WHERE a.datname = current_database() AND a.application_name = $1::text AND a.xact_start IS NOT NULL AND a.pid <> pg_backend_pid()
   AND NOT EXISTS (SELECT 1 FROM {{schema}}.runner r WHERE r.incarnation = $2::bigint AND r.lease_until > clock_timestamp())

-- name: lockSpace
SELECT lock_space FROM {{schema}}.space

-- name: outboxXid
SELECT pg_current_xact_id()::text

-- name: outboxStatus
SELECT coalesce(pg_xact_status($1::text::xid8), 'gone')
