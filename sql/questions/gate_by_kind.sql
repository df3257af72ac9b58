-- gate_by_kind: which objectives the gate turns to for each kind of held-out prompt: its mean weight, and the mean
-- coefficient that the raw reward then has in the score.
-- parameter dataset = *: of which datasets, as a pattern
-- parameter n = 3: how many objectives of each kind, by weight
-- grain: one objective and kind of prompt: a dataset, and its subset where it has any
-- key: model, dataset, subset, objective
WITH kinds AS (
    SELECT DISTINCT dataset, subset, prompt_id
    FROM held_out_pairs
    WHERE dataset GLOB $dataset
)
SELECT
    model, dataset, subset, objective, count(*) AS prompts, avg(weight) AS weight, stddev_pop(weight) AS spread,
    avg(coefficient) AS coefficient
FROM kinds JOIN gate_coefficients USING (prompt_id)
GROUP BY model, dataset, subset, objective
QUALIFY row_number() OVER (PARTITION BY model, dataset, subset ORDER BY avg(weight) DESC, objective) <= $n
ORDER BY model, dataset, subset, weight DESC, objective;
