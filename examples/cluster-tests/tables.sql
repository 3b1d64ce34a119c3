-- The application's own tables. Texts that are listed in order are compared by
-- bytes.
CREATE SCHEMA IF NOT EXISTS cluster_tests;

CREATE TABLE IF NOT EXISTS cluster_tests.counters (
    id    text PRIMARY KEY,
    value bigint NOT NULL
);

CREATE TABLE IF NOT EXISTS cluster_tests.stateless_counters (
    id    text PRIMARY KEY,
    value bigint NOT NULL
);

-- The value is the JSON text as it was set.
CREATE TABLE IF NOT EXISTS cluster_tests.kv (
    store text NOT NULL,
    key   text COLLATE "C" NOT NULL,
    value text NOT NULL,
    PRIMARY KEY (store, key)
);

CREATE TABLE IF NOT EXISTS cluster_tests.executions (
    owner  text NOT NULL,
    id     text COLLATE "C" NOT NULL,
    steps  text[] NOT NULL DEFAULT '{}',
    result text,
    PRIMARY KEY (owner, id)
);

CREATE TABLE IF NOT EXISTS cluster_tests.activity_log (
    num    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    owner  text NOT NULL,
    id     text NOT NULL,
    action text NOT NULL,
    at     timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX IF NOT EXISTS activity_log_owner ON cluster_tests.activity_log (owner, num);

CREATE TABLE IF NOT EXISTS cluster_tests.accounts (
    id        text PRIMARY KEY,
    transfers bigint NOT NULL,
    total     bigint NOT NULL
);

CREATE TABLE IF NOT EXISTS cluster_tests.transfers (
    num     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account text NOT NULL,
    target  text NOT NULL,
    amount  bigint NOT NULL,
    at      timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX IF NOT EXISTS transfers_account ON cluster_tests.transfers (account);

CREATE TABLE IF NOT EXISTS cluster_tests.traits (
    id   text PRIMARY KEY,
    data text NOT NULL
);

CREATE TABLE IF NOT EXISTS cluster_tests.versions (
    id      text PRIMARY KEY,
    version bigint NOT NULL
);

CREATE TABLE IF NOT EXISTS cluster_tests.audit (
    owner   text NOT NULL,
    num     bigint NOT NULL,
    action  text NOT NULL,
    actor   text NOT NULL,
    details text,
    at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (owner, num)
);

CREATE TABLE IF NOT EXISTS cluster_tests.pending_timers (
    owner     text NOT NULL,
    id        text COLLATE "C" NOT NULL,
    scheduled timestamptz NOT NULL,
    delay_ms  bigint NOT NULL,
    cancelled boolean NOT NULL DEFAULT false,
    PRIMARY KEY (owner, id)
);

CREATE TABLE IF NOT EXISTS cluster_tests.timer_fires (
    num       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    owner     text NOT NULL,
    id        text NOT NULL,
    scheduled timestamptz NOT NULL,
    fired     timestamptz NOT NULL
);
CREATE INDEX IF NOT EXISTS timer_fires_owner ON cluster_tests.timer_fires (owner, fired);

CREATE TABLE IF NOT EXISTS cluster_tests.cross_messages (
    num     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    owner   text NOT NULL,
    sender  text NOT NULL,
    content text NOT NULL,
    at      timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX IF NOT EXISTS cross_messages_owner ON cluster_tests.cross_messages (owner, num);

CREATE TABLE IF NOT EXISTS cluster_tests.ping_counts (
    id    text PRIMARY KEY,
    count bigint NOT NULL
);

CREATE TABLE IF NOT EXISTS cluster_tests.order_steps (
    num      bigint GENERATED ALWAYS AS IDENTITY,
    order_id text NOT NULL,
    step     text NOT NULL,
    detail   text NOT NULL,
    at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (order_id, step)
);

-- One row, whoever runs the singleton.
CREATE TABLE IF NOT EXISTS cluster_tests.singleton (
    one                  boolean PRIMARY KEY DEFAULT true CHECK (one),
    runner_id            text NOT NULL,
    tick_count           bigint NOT NULL,
    last_tick_at         timestamptz NOT NULL,
    became_leader_at     timestamptz NOT NULL,
    graceful_shutdown_at timestamptz
);
