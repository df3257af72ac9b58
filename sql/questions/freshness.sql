-- freshness: how old each dataset's content is, and whether what was made since has seen it.
-- Of each stage: `fresh`, it has read this content; `stale`, it has read what the dataset was before; NULL, it has read
-- nothing of the dataset, or has not run.
-- grain: one dataset
-- key: dataset
WITH
    ingested AS (SELECT slot, artifact_id, created_at, run_id FROM artifacts WHERE stage = 'ingest'),
    read AS (
        SELECT ingested.slot, stage, if(input_id = ingested.artifact_id, 'fresh', 'stale') AS state
        FROM ingested
        JOIN lineage ON input = ingested.slot
        JOIN artifacts ON artifacts.artifact_id = lineage.artifact_id
    )
SELECT
    replace(slot, 'ingest/', '') AS dataset, created_at AS ingested_at, run_id,
    any_value(state) FILTER (stage = 'quality') AS quality,
    any_value(state) FILTER (stage = 'contamination') AS contamination,
    any_value(state) FILTER (stage = 'regress') AS regression,
    any_value(state) FILTER (stage = 'gate') AS gate,
    any_value(state) FILTER (stage = 'evaluate') AS evaluation
FROM ingested LEFT JOIN read USING (slot)
GROUP BY slot, created_at, run_id
ORDER BY ingested_at, dataset;
