-- fit: how near the regression's predictions come to the ratings of each objective, without those that `contamination`
-- leaves out of the held-out figures.
-- parameter split = test: of which splits, as a pattern
-- grain: one objective and dataset that rates it
-- key: model, objective, dataset
SELECT
    model, objective, dataset, count(*) AS ratings,
    corr(predicted, value) AS correlation,
    avg(abs(predicted - value)) AS mean_error,
    1 - avg((predicted - value) ** 2) / nullif(var_pop(value), 0) AS explained  -- share of the ratings' variance
FROM (FROM training_ratings UNION ALL FROM held_out_ratings) JOIN predictions USING (conversation_id, objective)
WHERE split GLOB $split
GROUP BY model, objective, dataset
ORDER BY model, objective, dataset;
