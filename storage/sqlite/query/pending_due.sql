-- Scheduled messages that nobody adopted and that are due by now.
SELECT /*columns*/ FROM cruster_message INDEXED BY cruster_message_scheduled
WHERE state = 1 AND deliver_at <= ? AND seq = 0 /*shards*/
ORDER BY id LIMIT ?
