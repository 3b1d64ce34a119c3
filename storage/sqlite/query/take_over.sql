-- Takes a shard that its row says another one owns.
UPDATE cruster_shard
SET owner = ?, epoch = epoch + 1, token = ?, lock_rev = max(lock_rev, ?)
WHERE shard = ? AND owner = ? AND (? = 0 OR lock_rev < ?)
RETURNING epoch
