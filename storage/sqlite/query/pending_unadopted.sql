SELECT /*columns*/ FROM cruster_message INDEXED BY cruster_message_pending
WHERE state = 1 AND seq = 0 AND deliver_at IS NULL /*shards*/
ORDER BY id LIMIT ?
