UPDATE cruster_schedule
SET shard = ?, last_tick = ?, next_tick = ?, paused = ?, holder = ?, since = ?, restarts = ?, last_error = ?,
	updated_at = ?, version = ?, history = ?
WHERE kind = ? AND name = ? AND version = ?
