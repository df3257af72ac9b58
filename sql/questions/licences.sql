-- licences: the licences of what the newest model was trained on, with how much of the training data stands under each.
-- grain: one dataset that the model was made from and that has training rows
-- key: dataset
WITH RECURSIVE
    made_from AS (
        SELECT artifact_id, NULL::VARCHAR AS input FROM artifacts WHERE stage = 'model'
        UNION
        SELECT input_id, lineage.input FROM made_from JOIN lineage USING (artifact_id)
    ),
    rated AS (SELECT dataset, count(*) AS trained_ratings FROM training_ratings WHERE split = 'train' GROUP BY dataset),
    paired AS (SELECT dataset, count(*) AS trained_pairs FROM training_pairs WHERE split = 'train' GROUP BY dataset)
SELECT licence, dataset, upstream, coalesce(trained_ratings, 0) AS ratings, coalesce(trained_pairs, 0) AS pairs
FROM datasets
LEFT JOIN rated USING (dataset)
LEFT JOIN paired USING (dataset)
WHERE 'ingest/' || dataset IN (SELECT input FROM made_from) AND (trained_ratings > 0 OR trained_pairs > 0)
ORDER BY licence, dataset;
