UPDATE cruster_execution
SET status = ?, attempts = ?, wake_at = ?, waiting_for = ?, outcome = ?, updated_at = ?, finished_at = ?
WHERE type = ? AND id = ? AND run = ? AND status NOT BETWEEN 3 AND 6
