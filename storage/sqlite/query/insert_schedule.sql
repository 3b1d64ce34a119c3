INSERT INTO cruster_schedule (shard, last_tick, next_tick, paused, holder, since, restarts, last_error, updated_at,
	version, history, kind, name)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (kind, name) DO NOTHING
