-- compatible-from: 1
--
-- Names in double braces are replaced by the quoted name of the schema. All
-- text that takes part in an order or in equality is compared by bytes.

-- One row: the first half of the advisory lock keys of this schema. Keys are
-- shared by a whole database, so each schema draws its own.
CREATE TABLE {{schema}}.space (
    one        boolean PRIMARY KEY DEFAULT true CHECK (one),
    lock_space integer NOT NULL
);
INSERT INTO {{schema}}.space (lock_space) VALUES ((random() * 2147483646)::integer);

-- Shards are numbers in all other tables: id * 65536 + index.
CREATE TABLE {{schema}}.shard_group (
    id   integer PRIMARY KEY CHECK (id BETWEEN 1 AND 32767),
    name text COLLATE "C" NOT NULL UNIQUE
);

CREATE TABLE {{schema}}.runner (
    incarnation bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    address     text NOT NULL,
    groups      text[] NOT NULL,
    weight      integer NOT NULL,
    version     text NOT NULL,
    lease_until timestamptz NOT NULL,
    draining    boolean NOT NULL
);

-- Who may write for a shard. Nothing else is ever changed together with it.
-- The first half of a token is the epoch, so that comparing tokens compares
-- both.
CREATE TABLE {{schema}}.shard (
    shard             integer PRIMARY KEY,
    owner_incarnation bigint NOT NULL,
    epoch             bigint NOT NULL,
    token             uuid NOT NULL,
    lock_rev          bigint NOT NULL
) WITH (fillfactor = 50);

CREATE TABLE {{schema}}.message (
    id            uuid PRIMARY KEY,
    shard         integer NOT NULL,
    seq           bigint NOT NULL,
    state         smallint NOT NULL, -- 1 pending, 2 done, 3 dead
    attempts      integer NOT NULL,
    uninterrupted boolean NOT NULL,
    purged        boolean NOT NULL DEFAULT false,
    deliver_at    timestamptz,
    created_at    timestamptz NOT NULL,
    finished_at   timestamptz,
    entity_type   text COLLATE "C" NOT NULL,
    entity_id     text COLLATE "C" NOT NULL,
    method        text COLLATE "C" NOT NULL,
    key           text COLLATE "C",
    codec         text COLLATE "C" NOT NULL,
    digest        bytea,
    meta          bytea,
    payload       bytea,
    outcome       bytea
);
-- Pending work, of a few shards and of many.
CREATE INDEX message_pending ON {{schema}}.message (shard, seq, id) WHERE state = 1;
CREATE INDEX message_order ON {{schema}}.message (seq, id, shard) WHERE state = 1;
CREATE INDEX message_timer ON {{schema}}.message (deliver_at, id, shard) WHERE state = 1 AND deliver_at IS NOT NULL;
CREATE INDEX message_dead ON {{schema}}.message (created_at, id) WHERE state = 3;
-- Listing and retention.
CREATE INDEX message_created ON {{schema}}.message (created_at, id);
CREATE INDEX message_finished ON {{schema}}.message (entity_type, purged, finished_at) WHERE state = 2;

CREATE TABLE {{schema}}.execution (
    num           bigint GENERATED ALWAYS AS IDENTITY UNIQUE, -- names the execution in step
    type          text COLLATE "C" NOT NULL,
    id            text COLLATE "C" NOT NULL,
    shard         integer NOT NULL,
    run           integer NOT NULL,
    status        smallint NOT NULL, -- 1 running, 2 suspended, 3 completed, 4 failed, 5 cancelled, 6 terminated, 7 parked, 8 dead
    attempts      integer NOT NULL,
    purged        boolean NOT NULL DEFAULT false,
    cancel_seen   boolean NOT NULL DEFAULT false, -- the run's journal has the cancel
    created_at    timestamptz NOT NULL,
    updated_at    timestamptz NOT NULL,
    finished_at   timestamptz,
    deadline      timestamptz,
    wake_at       timestamptz,
    cancel_at     timestamptz,
    key           text COLLATE "C",
    codec         text COLLATE "C" NOT NULL,
    waiting_for   text COLLATE "C" NOT NULL,
    cancel_reason text NOT NULL,
    parent_type   text COLLATE "C",
    parent_id     text COLLATE "C",
    tags          jsonb,
    digest        bytea,
    meta          bytea,
    input         bytea,
    outcome       bytea,
    PRIMARY KEY (type, id)
);
CREATE INDEX execution_runnable ON {{schema}}.execution (created_at, type, id) WHERE status = 1;
CREATE INDEX execution_wake ON {{schema}}.execution (wake_at, type, id) WHERE status = 2 AND wake_at IS NOT NULL;
CREATE INDEX execution_cancel ON {{schema}}.execution (cancel_at, type, id) WHERE status = 2 AND cancel_at IS NOT NULL AND NOT cancel_seen;
CREATE INDEX execution_waiting ON {{schema}}.execution (type, status) WHERE status IN (2, 7, 8);
CREATE INDEX execution_created ON {{schema}}.execution (created_at, type, id);
CREATE INDEX execution_finished ON {{schema}}.execution (type, purged, finished_at) WHERE status IN (3, 4, 5, 6);
CREATE INDEX execution_parent ON {{schema}}.execution (parent_type, parent_id) WHERE parent_id IS NOT NULL;
CREATE INDEX execution_tags ON {{schema}}.execution USING gin (tags jsonb_path_ops) WHERE tags IS NOT NULL;

-- No foreign key: it would lock the execution's row for each step. Who writes
-- a step looks the execution up, who deletes an execution deletes its steps.
CREATE TABLE {{schema}}.step (
    num      bigint NOT NULL,
    run      integer NOT NULL,
    pos      integer NOT NULL,
    kind     smallint NOT NULL,
    attempts integer NOT NULL,
    seq      bigint NOT NULL, -- 0: not done
    at       timestamptz NOT NULL,
    due      timestamptz,
    name     text COLLATE "C" NOT NULL,
    codec    text COLLATE "C" NOT NULL,
    digest   bytea,
    args     bytea,
    outcome  bytea,
    PRIMARY KEY (num, run, pos)
);

CREATE TABLE {{schema}}.schedule (
    kind       smallint NOT NULL,
    name       text COLLATE "C" NOT NULL,
    shard      integer NOT NULL,
    version    bigint NOT NULL,
    holder     bigint NOT NULL,
    restarts   integer NOT NULL,
    paused     boolean NOT NULL,
    last_tick  timestamptz,
    next_tick  timestamptz,
    since      timestamptz,
    updated_at timestamptz,
    last_error text NOT NULL,
    history    bytea,
    PRIMARY KEY (kind, name)
);

-- A new token for an epoch.
CREATE FUNCTION {{schema}}.new_token(p_epoch bigint) RETURNS uuid
LANGUAGE sql VOLATILE AS $$
    SELECT (lpad(to_hex(p_epoch), 16, '0') || right(replace(gen_random_uuid()::text, '-', ''), 16))::uuid
$$;

-- The fence: the last statement of every transaction that relies on owning
-- shards. It waits until no take-over from p_inc is under way, and fails unless
-- p_inc still owns all of p_shard, which is sorted, with the tokens p_token.
--
-- VOLATILE is load-bearing: each statement inside then has a snapshot of its
-- own, and the second one is newer than the lock. Under a stricter isolation
-- level the snapshot is the transaction's, so the rows are locked instead:
-- PostgreSQL then refuses a row that has changed since (40001).
CREATE FUNCTION {{schema}}.fence(p_space integer, p_inc bigint, p_shard integer[], p_token uuid[]) RETURNS void
LANGUAGE plpgsql VOLATILE SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    live uuid[];
BEGIN
    PERFORM pg_advisory_xact_lock_shared(p_space, (p_inc & 2147483647)::integer);
    IF current_setting('transaction_isolation') = 'read committed' THEN
        live := ARRAY(SELECT s.token FROM {{schema}}.shard s
                       WHERE s.shard = ANY (p_shard) AND s.owner_incarnation = p_inc ORDER BY s.shard);
    ELSE
        live := ARRAY(SELECT s.token FROM {{schema}}.shard s
                       WHERE s.shard = ANY (p_shard) AND s.owner_incarnation = p_inc ORDER BY s.shard FOR SHARE);
    END IF;
    IF live IS DISTINCT FROM p_token THEN
        RAISE EXCEPTION 'cruster: fenced' USING ERRCODE = 'CR001', DETAIL = (
            SELECT coalesce(array_agg(w.shard), p_shard)::text FROM unnest(p_shard, p_token) AS w (shard, token)
             WHERE NOT EXISTS (SELECT 1 FROM {{schema}}.shard s
                                WHERE s.shard = w.shard AND s.token = w.token AND s.owner_incarnation = p_inc));
    END IF;
END $$;

-- The owner gives shards away. It holds the shared lock while it waits for
-- rows, as the fence does not; that is safe because a take-over, which has the
-- exclusive lock, touches no row whose change it would have to wait for.
CREATE FUNCTION {{schema}}.hand_over(p_space integer, p_inc bigint, p_shard integer[], p_token uuid[], p_to bigint)
RETURNS TABLE (shard integer, epoch bigint, token uuid)
LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
BEGIN
    PERFORM {{schema}}.fence(p_space, p_inc, p_shard, p_token);
    PERFORM 1 FROM {{schema}}.shard s WHERE s.shard = ANY (p_shard) ORDER BY s.shard FOR UPDATE;
    PERFORM {{schema}}.fence(p_space, p_inc, p_shard, p_token); -- another hand-over may have had the rows
    RETURN QUERY
        UPDATE {{schema}}.shard s
           SET epoch = s.epoch + 1, token = {{schema}}.new_token(s.epoch + 1), owner_incarnation = p_to
         WHERE s.shard = ANY (p_shard)
        RETURNING s.shard, s.epoch, s.token;
END $$;

-- Refuses a journal row that differs from the stored one.
CREATE FUNCTION {{schema}}.refuse_step(p_num bigint, p_run integer, p_pos integer, p_kind smallint, p_name text, p_seq bigint)
RETURNS boolean
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    RAISE EXCEPTION 'cruster: step differs' USING ERRCODE = 'CR002', DETAIL = (
        SELECT json_build_object('type', e.type, 'id', e.id, 'run', p_run, 'pos', p_pos, 'kind', p_kind, 'name', p_name, 'seq', p_seq)::text
          FROM {{schema}}.execution e WHERE e.num = p_num);
END $$;

-- Refuses a journal row of an execution that does not exist.
CREATE FUNCTION {{schema}}.refuse_orphan(p_type text, p_id text, p_run integer, p_pos integer)
RETURNS bigint
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    RAISE EXCEPTION 'cruster: no execution' USING ERRCODE = 'CR003',
        DETAIL = json_build_object('type', p_type, 'id', p_id, 'run', p_run, 'pos', p_pos)::text;
END $$;

-- Writes one schedule row if its version is the stored one plus one; p_index
-- names the row in the refusal.
CREATE FUNCTION {{schema}}.write_schedule(p_index integer, w {{schema}}.schedule) RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    stored {{schema}}.schedule;
BEGIN
    IF w.version = 1 THEN
        INSERT INTO {{schema}}.schedule SELECT (w).* ON CONFLICT DO NOTHING;
        IF FOUND THEN
            RETURN;
        END IF;
    END IF;
    SELECT * INTO stored FROM {{schema}}.schedule s WHERE s.kind = w.kind AND s.name = w.name FOR UPDATE;
    IF FOUND AND stored.version = w.version - 1 THEN
        UPDATE {{schema}}.schedule s
           SET shard = w.shard, version = w.version, holder = w.holder, restarts = w.restarts, paused = w.paused,
               last_tick = w.last_tick, next_tick = w.next_tick, since = w.since, updated_at = w.updated_at,
               last_error = w.last_error, history = w.history
         WHERE s.kind = w.kind AND s.name = w.name;
    ELSIF stored IS DISTINCT FROM w THEN
        RAISE EXCEPTION 'cruster: stale schedule' USING ERRCODE = 'CR004',
            DETAIL = json_build_object('index', p_index, 'stored', coalesce(stored.version, 0))::text;
    END IF;
END $$;
