-- artifacts: what stands in the snapshot, which stage made it, by which run and settings.
-- grain: one artifact in its slot
-- key: slot
CREATE VIEW artifacts AS
SELECT
    artifact_id, slot, stage, key, run_id, created_at,
    n_objects::BIGINT AS n_objects, size_bytes::BIGINT AS size_bytes,  -- of an empty store, all columns come as text
    parameters, summary
FROM stored_artifacts;
