-- commits: every run that committed anything, the newest first, and what of it stands in the newest snapshot.
-- grain: one run
-- key: run_id
SELECT
    run_id, command, started_at, last_commit_at, code_version,
    count(artifact_id) AS artifacts, coalesce(sum(size_bytes), 0)::BIGINT AS size_bytes,
    list(DISTINCT stage ORDER BY stage) FILTER (stage IS NOT NULL) AS stages
FROM runs LEFT JOIN artifacts USING (run_id)
GROUP BY ALL
ORDER BY last_commit_at DESC, run_id;
