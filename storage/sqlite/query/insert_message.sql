INSERT INTO cruster_message (id, shard, type, entity, method, key, digest, codec, seq, state, attempts,
	deliver_at, created_at, finished_at, uninterrupted, meta, outcome, payload)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (id) DO NOTHING
