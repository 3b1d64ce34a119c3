SELECT cancel_at, shard, type, id FROM cruster_execution INDEXED BY cruster_execution_cancel
WHERE status = 2 AND cancel_seen = 0 AND (cancel_at, type, id) > (?, ?, ?) AND cancel_at <= ? /*shards*/
ORDER BY cancel_at, type, id LIMIT ?
