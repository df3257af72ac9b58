-- snapshots: every state of the store, newest first; of an expired one only this is left.
-- grain: one snapshot
-- key: number
CREATE VIEW snapshots AS
SELECT number, snapshot_id, created_at, run_id, expired
FROM stored_snapshots;
