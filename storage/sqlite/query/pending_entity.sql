SELECT /*columns*/ FROM cruster_message INDEXED BY cruster_message_entity
WHERE state = 1 AND type = ? AND entity = ? AND seq <> 0 AND (seq, id) > (?, ?)
	AND (deliver_at IS NULL OR deliver_at <= ?) /*shards*/
ORDER BY seq, id LIMIT ?
