-- seq <> 0 is what the index is about; the pair is where the search begins.
SELECT /*columns*/ FROM cruster_message INDEXED BY cruster_message_pending
WHERE state = 1 AND seq <> 0 AND (seq, id) > (?, ?) AND (deliver_at IS NULL OR deliver_at <= ?) /*shards*/
ORDER BY seq, id LIMIT ?
