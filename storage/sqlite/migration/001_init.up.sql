-- Times are microseconds since 1970 in UTC; NULL is "never". Outcomes and
-- metas are what package crustertype encodes. States are its numbers.

CREATE TABLE cruster_runner (
	incarnation  INTEGER PRIMARY KEY AUTOINCREMENT, -- numbers are never used again
	address      TEXT    NOT NULL,
	shard_groups TEXT    NOT NULL, -- JSON array
	weight       INTEGER NOT NULL,
	version      TEXT    NOT NULL,
	lease_until  INTEGER NOT NULL,
	draining     INTEGER NOT NULL
) STRICT;

CREATE TABLE cruster_shard (
	shard    TEXT    NOT NULL PRIMARY KEY, -- group/index
	owner    INTEGER NOT NULL,             -- incarnation; 0: nobody
	epoch    INTEGER NOT NULL,
	token    BLOB    NOT NULL,
	lock_rev INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE cruster_message (
	num           INTEGER PRIMARY KEY,
	id            BLOB    NOT NULL UNIQUE,
	shard         TEXT    NOT NULL,
	type          TEXT    NOT NULL,
	entity        TEXT    NOT NULL,
	method        TEXT    NOT NULL,
	key           TEXT    NOT NULL,
	digest        BLOB    NOT NULL,
	codec         TEXT    NOT NULL,
	seq           INTEGER NOT NULL, -- 0: no owner has adopted it yet
	state         INTEGER NOT NULL, -- 1 pending, 2 done, 3 dead
	attempts      INTEGER NOT NULL,
	deliver_at    INTEGER,
	created_at    INTEGER NOT NULL,
	finished_at   INTEGER,
	uninterrupted INTEGER NOT NULL,
	tomb          INTEGER NOT NULL DEFAULT 0, -- 1: retention took the payload
	meta          BLOB,
	outcome       BLOB,
	payload       BLOB
) STRICT;

-- In the order of delivery. What is not adopted and not due now is in the next
-- index alone, so that a million reminders cost the poll nothing.
CREATE INDEX cruster_message_pending ON cruster_message (seq, id, shard, deliver_at)
	WHERE state = 1 AND (seq <> 0 OR deliver_at IS NULL);
CREATE INDEX cruster_message_scheduled ON cruster_message (deliver_at, id, seq, shard)
	WHERE state = 1 AND deliver_at IS NOT NULL;
CREATE INDEX cruster_message_entity ON cruster_message (type, entity, seq, id, deliver_at)
	WHERE state = 1;
CREATE INDEX cruster_message_dead ON cruster_message (type) WHERE state = 3;

-- For people and for retention.
CREATE INDEX cruster_message_created ON cruster_message (created_at, id);
CREATE INDEX cruster_message_finished ON cruster_message (type, finished_at) WHERE state = 2 AND tomb = 0;
CREATE INDEX cruster_message_tomb ON cruster_message (type, finished_at) WHERE state = 2 AND tomb = 1;

CREATE TABLE cruster_execution (
	num           INTEGER PRIMARY KEY,
	type          TEXT    NOT NULL,
	id            TEXT    NOT NULL,
	shard         TEXT    NOT NULL,
	run           INTEGER NOT NULL,
	key           TEXT    NOT NULL,
	digest        BLOB    NOT NULL,
	codec         TEXT    NOT NULL,
	status        INTEGER NOT NULL, -- 1 running, 2 suspended, 3 to 6 final, 7 parked, 8 dead
	attempts      INTEGER NOT NULL,
	wake_at       INTEGER,
	waiting_for   TEXT    NOT NULL,
	cancel_reason TEXT    NOT NULL,
	cancel_at     INTEGER,
	cancel_seen   INTEGER NOT NULL DEFAULT 0, -- 1: the journal of the run shows the cancel
	created_at    INTEGER NOT NULL,
	updated_at    INTEGER NOT NULL,
	finished_at   INTEGER,
	deadline      INTEGER,
	parent_type   TEXT    NOT NULL,
	parent_id     TEXT    NOT NULL,
	tomb          INTEGER NOT NULL DEFAULT 0, -- 1: retention took input and journal
	tags          BLOB, -- names and values, each after its length, by name
	meta          BLOB,
	outcome       BLOB,
	input         BLOB,
	UNIQUE (type, id)
) STRICT;

CREATE INDEX cruster_execution_running ON cruster_execution (created_at, type, id, shard) WHERE status = 1;
CREATE INDEX cruster_execution_wake ON cruster_execution (wake_at, type, id, shard)
	WHERE status = 2 AND wake_at IS NOT NULL;
CREATE INDEX cruster_execution_cancel ON cruster_execution (cancel_at, type, id, shard)
	WHERE status = 2 AND cancel_at IS NOT NULL AND cancel_seen = 0;
CREATE INDEX cruster_execution_open ON cruster_execution (type, status) WHERE status IN (1, 2, 7, 8);

CREATE INDEX cruster_execution_created ON cruster_execution (created_at, type, id);
CREATE INDEX cruster_execution_finished ON cruster_execution (type, finished_at)
	WHERE status BETWEEN 3 AND 6 AND tomb = 0;
CREATE INDEX cruster_execution_tomb ON cruster_execution (type, finished_at)
	WHERE status BETWEEN 3 AND 6 AND tomb = 1;

CREATE TABLE cruster_step (
	execution INTEGER NOT NULL, -- cruster_execution.num
	run       INTEGER NOT NULL,
	pos       INTEGER NOT NULL,
	kind      INTEGER NOT NULL,
	name      TEXT    NOT NULL,
	digest    BLOB    NOT NULL,
	codec     TEXT    NOT NULL,
	seq       INTEGER NOT NULL, -- 0: not done
	attempts  INTEGER NOT NULL,
	due       INTEGER,
	at        INTEGER NOT NULL,
	args      BLOB,
	outcome   BLOB,
	PRIMARY KEY (execution, run, pos)
) STRICT, WITHOUT ROWID;

CREATE TABLE cruster_schedule (
	kind       INTEGER NOT NULL, -- 1 cron, 2 singleton
	name       TEXT    NOT NULL,
	shard      TEXT    NOT NULL,
	last_tick  INTEGER,
	next_tick  INTEGER,
	paused     INTEGER NOT NULL,
	holder     INTEGER NOT NULL,
	since      INTEGER,
	restarts   INTEGER NOT NULL,
	last_error TEXT    NOT NULL,
	updated_at INTEGER NOT NULL,
	version    INTEGER NOT NULL,
	history    BLOB,
	PRIMARY KEY (kind, name)
) STRICT, WITHOUT ROWID;
