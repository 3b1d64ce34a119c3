SELECT wake_at, shard, type, id FROM cruster_execution INDEXED BY cruster_execution_wake
WHERE status = 2 AND (wake_at, type, id) > (?, ?, ?) AND wake_at <= ? /*shards*/
ORDER BY wake_at, type, id LIMIT ?
