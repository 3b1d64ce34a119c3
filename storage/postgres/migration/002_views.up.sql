-- compatible-from: 1
--
-- What people read: views whose names and columns stay as they are, described
-- one by one in docs/postgres.md. And the indexes that keep lists away from
-- finished work. On a large schema they can be built before, by the same names,
-- with CREATE INDEX CONCURRENTLY.

-- Messages of an entity. Pending ones are few and have indexes of their own, so
-- accepting a message does not pay for this one.
CREATE INDEX IF NOT EXISTS message_entity ON {{schema}}.message (entity_type, entity_id, created_at, id) WHERE state <> 1;
-- Executions that went wrong, among many that did not.
CREATE INDEX IF NOT EXISTS execution_failed ON {{schema}}.execution (created_at, type, id) WHERE status IN (4, 5, 6);
-- Finished executions by key.
CREATE INDEX IF NOT EXISTS execution_key ON {{schema}}.execution (key) WHERE key IS NOT NULL AND status IN (3, 4, 5, 6);
-- Finished executions normally wait for nothing, so this one is empty.
CREATE INDEX IF NOT EXISTS execution_waited ON {{schema}}.execution (created_at, type, id)
 WHERE waiting_for <> '' AND status IN (3, 4, 5, 6);

-- One field of the failure in an outcome: 'code', 'name' or 'message'. NULL
-- without a failure, and for what a newer version has written.
CREATE FUNCTION {{schema}}.failure_part(p_outcome bytea, p_part text) RETURNS text
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
DECLARE
    len  integer := octet_length(p_outcome);
    pos  integer := 2; -- behind version and flags
    part bytea;
    n    bigint;
    bits integer;
    b    integer;
BEGIN
    IF len < 3 OR get_byte(p_outcome, 0) <> 1 OR get_byte(p_outcome, 1) & 1 = 0 THEN
        RETURN NULL;
    END IF;
    FOREACH p_part IN ARRAY CASE p_part WHEN 'code' THEN '{code}'::text[] WHEN 'name' THEN '{code,name}' ELSE '{code,name,message}' END LOOP
        n := 0;
        bits := 0;
        LOOP -- a number, or the length of a text, in base 128
            IF pos >= len OR bits > 28 THEN
                RETURN NULL;
            END IF;
            b := get_byte(p_outcome, pos);
            pos := pos + 1;
            n := n | ((b & 127)::bigint << bits);
            EXIT WHEN b < 128;
            bits := bits + 7;
        END LOOP;
        IF p_part = 'code' THEN
            CONTINUE;
        END IF;
        IF pos + n > len THEN
            RETURN NULL;
        END IF;
        part := substring(p_outcome FROM pos + 1 FOR n::integer);
        pos := pos + n;
    END LOOP;
    IF p_part = 'code' THEN
        RETURN coalesce((ARRAY['unknown', 'user', 'panic', 'mailbox_full', 'not_owner', 'shutting_down', 'not_started',
            'not_registered', 'not_found', 'dead_lettered', 'parked', 'nondeterminism', 'key_conflict', 'too_large', 'tx_open',
            'reentrant', 'unavailable', 'fenced', 'cancelled', 'timeout', 'suspended', 'terminated', 'history_too_long', 'invalid',
            'encoding', 'forbidden', 'no_sql', 'contract_mismatch', 'tx_done'])[n + 1], 'code_' || n);
    END IF;
    -- A text that is not UTF-8 is shown with escapes: one bad row must not fail
    -- a whole query.
    IF current_setting('server_encoding') = 'UTF8' AND position('\x00'::bytea IN part) = 0
       AND convert_from(part, 'LATIN1') ~ ('^([\u0001-\u007f]|[\u00c2-\u00df][\u0080-\u00bf]|\u00e0[\u00a0-\u00bf][\u0080-\u00bf]'
           '|[\u00e1-\u00ec\u00ee\u00ef][\u0080-\u00bf]{2}|\u00ed[\u0080-\u009f][\u0080-\u00bf]|\u00f0[\u0090-\u00bf][\u0080-\u00bf]{2}'
           '|[\u00f1-\u00f3][\u0080-\u00bf]{3}|\u00f4[\u0080-\u008f][\u0080-\u00bf]{2})*$') THEN
        RETURN nullif(convert_from(part, 'UTF8'), '');
    END IF;
    RETURN nullif(encode(part, 'escape'), '');
END $$;

-- All views join or aggregate, so PostgreSQL refuses to write through them.
DO $do$
DECLARE
    messages text := $view$
        SELECT m.id, m.entity_type, m.entity_id, m.method,
               CASE m.state WHEN 1 THEN 'pending' WHEN 2 THEN 'done' WHEN 3 THEN 'dead' ELSE 'invalid' END AS state,
               m.attempts, m.created_at, m.deliver_at, m.finished_at, m.key, g.name AS shard_group, m.shard & 65535 AS shard, m.seq,
               m.codec, octet_length(m.payload) AS payload_bytes, octet_length(m.outcome) AS outcome_bytes,
               {{schema}}.failure_part(m.outcome, 'code') AS error_code, {{schema}}.failure_part(m.outcome, 'name') AS error_name,
               {{schema}}.failure_part(m.outcome, 'message') AS error, m.uninterrupted, m.purged
          FROM {{schema}}.message m LEFT JOIN {{schema}}.shard_group g ON g.id = m.shard >> 16
         WHERE %s $view$;
    executions text := $view$
        SELECT e.type, e.id, e.run,
               CASE e.status WHEN 1 THEN 'running' WHEN 2 THEN 'suspended' WHEN 3 THEN 'completed' WHEN 4 THEN 'failed'
                   WHEN 5 THEN 'cancelled' WHEN 6 THEN 'terminated' WHEN 7 THEN 'parked' WHEN 8 THEN 'dead' ELSE 'invalid' END AS status,
               e.attempts, e.created_at, e.updated_at, e.finished_at, e.deadline, e.wake_at, e.waiting_for,
               e.cancel_at, e.cancel_reason, e.key, e.parent_type, e.parent_id, e.tags, g.name AS shard_group, e.shard & 65535 AS shard,
               e.codec, octet_length(e.input) AS input_bytes, octet_length(e.outcome) AS outcome_bytes,
               {{schema}}.failure_part(e.outcome, 'code') AS error_code, {{schema}}.failure_part(e.outcome, 'name') AS error_name,
               {{schema}}.failure_part(e.outcome, 'message') AS error, e.purged
          FROM {{schema}}.execution e LEFT JOIN {{schema}}.shard_group g ON g.id = e.shard >> 16
         WHERE %s $view$;
BEGIN
    EXECUTE 'CREATE VIEW {{schema}}.messages AS' || format(messages, 'true');
    EXECUTE 'CREATE VIEW {{schema}}.pending_messages AS' || format(messages, 'm.state = 1');
    EXECUTE 'CREATE VIEW {{schema}}.finished_messages AS' || format(messages, 'm.state <> 1');
    EXECUTE 'CREATE VIEW {{schema}}.dead_letters AS' || format(messages, 'm.state = 3');
    EXECUTE 'CREATE VIEW {{schema}}.executions AS' || format(executions, 'true');
    EXECUTE 'CREATE VIEW {{schema}}.unfinished_executions AS' || format(executions, 'e.status = 1')
         || 'UNION ALL' || format(executions, 'e.status IN (2, 7, 8)');
END $do$;

CREATE VIEW {{schema}}.steps AS
SELECT e.type, e.id, s.run, s.pos,
       CASE s.kind WHEN 1 THEN 'activity' WHEN 2 THEN 'step' WHEN 3 THEN 'sleep' WHEN 4 THEN 'call' WHEN 5 THEN 'notify' WHEN 6 THEN 'start'
           WHEN 7 THEN 'execute' WHEN 8 THEN 'changed' WHEN 9 THEN 'cancel' ELSE 'invalid' END AS kind,
       s.name, s.seq > 0 AS done, s.seq, s.attempts, s.at, s.due, s.codec,
       octet_length(s.args) AS args_bytes, octet_length(s.outcome) AS outcome_bytes,
       {{schema}}.failure_part(s.outcome, 'code') AS error_code, {{schema}}.failure_part(s.outcome, 'name') AS error_name,
       {{schema}}.failure_part(s.outcome, 'message') AS error
  FROM {{schema}}.step s JOIN {{schema}}.execution e ON e.num = s.num;

CREATE VIEW {{schema}}.schedules AS
SELECT CASE s.kind WHEN 1 THEN 'cron' WHEN 2 THEN 'singleton' ELSE 'invalid' END AS kind, s.name, s.paused,
       s.last_tick, s.next_tick, nullif(s.holder, 0) AS holder, s.since, s.restarts, s.last_error, s.updated_at,
       g.name AS shard_group, s.shard & 65535 AS shard, s.version
  FROM {{schema}}.schedule s LEFT JOIN {{schema}}.shard_group g ON g.id = s.shard >> 16;

CREATE VIEW {{schema}}.shards AS
SELECT g.name AS shard_group, s.shard & 65535 AS shard, nullif(s.owner_incarnation, 0) AS owner, r.address AS owner_address,
       coalesce(r.lease_until > clock_timestamp(), false) AS owner_alive, s.epoch, s.lock_rev
  FROM {{schema}}.shard s
  LEFT JOIN {{schema}}.shard_group g ON g.id = s.shard >> 16
  LEFT JOIN {{schema}}.runner r ON r.incarnation = s.owner_incarnation
 WHERE s.epoch > 0;

CREATE VIEW {{schema}}.runners AS
SELECT r.incarnation, r.address, r.groups, r.weight, r.version, r.draining, r.lease_until,
       r.lease_until > clock_timestamp() AS alive, coalesce(s.shards, 0) AS shards
  FROM {{schema}}.runner r
  LEFT JOIN (SELECT o.owner_incarnation, count(*) AS shards FROM {{schema}}.shard o GROUP BY 1) s ON s.owner_incarnation = r.incarnation;

CREATE VIEW {{schema}}.counts AS
SELECT 'message' AS kind, m.entity_type AS type, 'pending' AS state, count(*) AS total
  FROM {{schema}}.message m WHERE m.state = 1 GROUP BY m.entity_type
UNION ALL
SELECT 'message', m.entity_type, 'dead', count(*)
  FROM {{schema}}.message m WHERE m.state = 3 GROUP BY m.entity_type
UNION ALL
SELECT 'execution', e.type, 'running', count(*)
  FROM {{schema}}.execution e WHERE e.status = 1 GROUP BY e.type
UNION ALL
SELECT 'execution', e.type, CASE e.status WHEN 2 THEN 'suspended' WHEN 7 THEN 'parked' ELSE 'dead' END, count(*)
  FROM {{schema}}.execution e WHERE e.status IN (2, 7, 8) GROUP BY e.type, e.status;

COMMENT ON VIEW {{schema}}.messages IS 'persisted requests, all of them: ask by id, or for the newest';
COMMENT ON VIEW {{schema}}.pending_messages IS 'persisted requests that are not finished';
COMMENT ON VIEW {{schema}}.finished_messages IS 'persisted requests that are done or dead: ask by entity_type and entity_id';
COMMENT ON VIEW {{schema}}.dead_letters IS 'persisted requests that delivery gave up';
COMMENT ON VIEW {{schema}}.executions IS 'workflow executions, all of them: ask by type and id, or for the newest';
COMMENT ON VIEW {{schema}}.unfinished_executions IS 'workflow executions that run, sleep, or wait for a person';
COMMENT ON VIEW {{schema}}.steps IS 'journals: ask by type and id';
COMMENT ON VIEW {{schema}}.schedules IS 'crons and singletons';
COMMENT ON VIEW {{schema}}.shards IS 'who owns each shard';
COMMENT ON VIEW {{schema}}.runners IS 'processes that are alive, or were lately';
COMMENT ON VIEW {{schema}}.counts IS 'unfinished work, by type and state';
