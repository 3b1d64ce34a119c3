-- Changes no row when a done one, or one of another step, is there already.
INSERT INTO cruster_step (execution, run, pos, kind, name, digest, codec, seq, attempts, due, at, args, outcome)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (execution, run, pos) DO UPDATE SET
	codec = excluded.codec, seq = excluded.seq, attempts = excluded.attempts, due = excluded.due, at = excluded.at,
	args = excluded.args, outcome = excluded.outcome
WHERE cruster_step.seq = 0 AND kind = excluded.kind AND name = excluded.name AND digest = excluded.digest
