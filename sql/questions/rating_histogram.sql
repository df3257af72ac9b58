-- rating_histogram: how the ratings of each objective are spread over its scale, in tenths of it.
-- parameter objective = *: the objectives, as a pattern such as helpsteer-*
-- grain: one tenth (0 to 9) of an objective's scale in a dataset, where anything lies in it
-- key: dataset, objective, tenth
SELECT
    dataset, objective,
    least(floor(round(10 * value, 9)), 9)::INTEGER AS tenth,  -- the end of the scale lies in the last tenth
    min(raw) AS lowest, max(raw) AS highest, count(*) AS ratings,
    count(*) / sum(count(*)) OVER (PARTITION BY dataset, objective) AS share
FROM ratings
WHERE objective GLOB $objective
GROUP BY dataset, objective, tenth
ORDER BY dataset, objective, tenth;
