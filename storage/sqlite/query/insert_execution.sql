INSERT INTO cruster_execution (type, id, shard, run, key, digest, codec, status, attempts, wake_at, waiting_for,
	cancel_reason, cancel_at, created_at, updated_at, finished_at, deadline, parent_type, parent_id, tags,
	meta, outcome, input)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (type, id) DO NOTHING
