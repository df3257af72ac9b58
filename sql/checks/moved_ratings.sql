-- moved_ratings: objectives whose ratings moved by more than 0.1 since the dataset's content last changed.
-- The distance is the total variation of both histograms, in tenths of the scale: the share of ratings that lie in
-- another tenth. `earlier_ratings` are of the last snapshot in which the dataset had other content; `armorm status`
-- puts those that a model was trained on in their place, and another bound.
-- severity: warn
-- grain: one objective of a dataset
-- key: dataset, objective
WITH
    now AS (
        SELECT dataset, objective, floor(10 * value) AS bin, count(*) AS n
        FROM ratings SEMI JOIN earlier_ratings USING (dataset)
        GROUP BY ALL
    ),
    earlier AS (SELECT dataset, objective, floor(10 * value) AS bin, count(*) AS n FROM earlier_ratings GROUP BY ALL),
    bins AS (
        SELECT dataset, objective, coalesce(now.n, 0) AS now, coalesce(earlier.n, 0) AS earlier
        FROM now FULL JOIN earlier USING (dataset, objective, bin)
    ),
    shares AS (
        SELECT
            dataset, objective, now, earlier,
            coalesce(now / nullif(sum(now) OVER of_objective, 0), 0) AS now_share,
            coalesce(earlier / nullif(sum(earlier) OVER of_objective, 0), 0) AS earlier_share
        FROM bins
        WINDOW of_objective AS (PARTITION BY dataset, objective)
    )
SELECT
    dataset, objective, sum(earlier)::BIGINT AS ratings_earlier, sum(now)::BIGINT AS ratings_now,
    -- an objective that is rated in one of both only has moved as a whole
    greatest(sum(greatest(now_share - earlier_share, 0)), sum(greatest(earlier_share - now_share, 0))) AS distance
FROM shares
GROUP BY dataset, objective
HAVING distance > coalesce(getvariable('moved_by_more_than'), 0.1)
ORDER BY ALL;
