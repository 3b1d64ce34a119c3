SELECT /*columns*/ FROM cruster_message INDEXED BY cruster_message_entity
WHERE state = 1 AND type = ? AND entity = ? AND seq = 0 AND (deliver_at IS NULL OR deliver_at <= ?) /*shards*/
ORDER BY id LIMIT ?
