-- coverage: how many ratings each dataset brings of every objective, by split; objectives that none rates have zeros.
-- grain: one objective and dataset that rates it (dataset is NULL where none does)
-- key: objective, dataset
WITH counted AS (
    SELECT
        objective, dataset, count(*) AS ratings,
        count(*) FILTER (split = 'train') AS train,
        count(*) FILTER (split = 'validation') AS validation,
        count(*) FILTER (split = 'test') AS test,
        avg(raw) AS mean
    FROM ratings
    GROUP BY objective, dataset
)
SELECT
    objective, dataset, coalesce(ratings, 0) AS ratings,
    coalesce(train, 0) AS train, coalesce(validation, 0) AS validation, coalesce(test, 0) AS test,
    lo, mean, hi
FROM objectives LEFT JOIN counted USING (objective, dataset)
ORDER BY position, dataset;
