-- changes_since: what was added to each dataset since an earlier snapshot, removed from it, or given another rating.
-- The earlier snapshot's views are in the schema `before`. Datasets whose content is the same are not listed.
-- grain: one dataset whose content changed, and its ratings or its pairs
-- key: dataset, part
WITH
    -- equal artifacts have equal content: most datasets need not be compared row by row
    changed AS (
        SELECT replace(slot, 'ingest/', '') AS dataset
        FROM (FROM artifacts WHERE stage = 'ingest') AS now
        FULL JOIN (FROM before.artifacts WHERE stage = 'ingest') AS earlier USING (slot)
        WHERE now.artifact_id IS DISTINCT FROM earlier.artifact_id
    ),
    rows AS (
        SELECT 'ratings' AS part, dataset, source_row, conversation_id, objective, raw, 1 AS now
        FROM ratings SEMI JOIN changed USING (dataset)
        UNION ALL
        SELECT 'ratings', dataset, source_row, conversation_id, objective, raw, 0
        FROM before.ratings SEMI JOIN changed USING (dataset)
        UNION ALL
        SELECT 'pairs', dataset, chosen_id, rejected_id, NULL, NULL, 1
        FROM preferences SEMI JOIN changed USING (dataset)
        UNION ALL
        SELECT 'pairs', dataset, chosen_id, rejected_id, NULL, NULL, 0
        FROM before.preferences SEMI JOIN changed USING (dataset)
    ),
    compared AS (
        SELECT
            dataset, part, min(now) = 1 AS added, max(now) = 0 AS removed,
            min(now) = 0 AND max(now) = 1 AND min(raw) <> max(raw) AS rated_otherwise
        FROM rows
        GROUP BY dataset, part, source_row, conversation_id, objective
    )
SELECT
    dataset, part,
    count(*) FILTER (NOT added) AS earlier, count(*) FILTER (NOT removed) AS now,
    count(*) FILTER (added) AS added, count(*) FILTER (removed) AS removed,
    count(*) FILTER (rated_otherwise) AS rated_otherwise
FROM compared
GROUP BY dataset, part
ORDER BY dataset, part;
