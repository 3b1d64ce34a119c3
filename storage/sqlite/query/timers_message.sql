SELECT deliver_at, shard, id FROM cruster_message INDEXED BY cruster_message_scheduled
WHERE state = 1 AND (deliver_at, id) > (?, ?) AND deliver_at <= ? /*shards*/
ORDER BY deliver_at, id LIMIT ?
