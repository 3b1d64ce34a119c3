SELECT /*columns*/ FROM cruster_execution INDEXED BY cruster_execution_running
WHERE status = 1 AND (created_at, type, id) > (?, ?, ?) /*shards*/
ORDER BY created_at, type, id LIMIT ?
