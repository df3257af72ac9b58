-- storage: what each stage's results take in the newest snapshot; an object that several artifacts hold counts for each.
-- grain: one stage
-- key: stage
SELECT
    stage, count(*) AS artifacts, sum(n_objects)::BIGINT AS objects, sum(size_bytes)::BIGINT AS size_bytes,
    sum(size_bytes) / nullif(sum(sum(size_bytes)) OVER (), 0) AS share,
    min(created_at) AS oldest, max(created_at) AS newest
FROM artifacts
GROUP BY stage
ORDER BY size_bytes DESC, stage;
