-- runs: the runs that committed anything.
-- grain: one run
-- key: run_id
CREATE VIEW runs AS
SELECT run_id, command, started_at, last_commit_at, code_version
FROM stored_runs;
