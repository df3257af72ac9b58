-- agreement: how often the ratings of each objective prefer the answer that is chosen, where they differ at all.
-- grain: one dataset of pairs, and an objective by which a dataset rates both answers of some of them
-- key: dataset, objective, rated_in
WITH chosen AS MATERIALIZED (  -- or else ratings may be joined with each other first, by nothing but their objective
    SELECT p.dataset, rejected_id, objective, r.dataset AS rated_in, value
    FROM preferences AS p JOIN ratings AS r ON r.conversation_id = chosen_id
)
SELECT
    chosen.dataset, objective, rated_in, count(*) AS comparisons,
    count(*) FILTER (chosen.value = r.value) AS ties,
    avg((chosen.value > r.value)::INTEGER) FILTER (chosen.value <> r.value) AS agreement,
    avg(chosen.value - r.value) AS mean_difference
FROM chosen JOIN ratings AS r USING (objective)
WHERE r.conversation_id = rejected_id AND r.dataset = rated_in
GROUP BY chosen.dataset, objective, rated_in
ORDER BY agreement DESC, chosen.dataset, objective, rated_in;
