-- contradicted_pairs: the pairs whose rejected answer is rated higher than the chosen one, by most.
-- parameter objective = *: the objectives to look at, as a pattern such as *helpfulness
-- parameter n = 20: how many pairs of ratings
-- grain: one pair, and a rating of each of its answers by one objective of one dataset
-- key: pair_id, objective, rated_in, chosen_row, rejected_row
WITH chosen AS MATERIALIZED (  -- or else ratings may be joined with each other first, by nothing but their objective
    SELECT
        p.dataset, p.source_row, pair_id, chosen_id, rejected_id, objective, r.dataset AS rated_in,
        r.source_row AS chosen_row, raw, value
    FROM preferences AS p JOIN ratings AS r ON r.conversation_id = chosen_id
    WHERE objective GLOB $objective
)
SELECT
    chosen.dataset, chosen.source_row, pair_id, objective, rated_in, r.value - chosen.value AS apart,
    chosen.raw AS chosen_raw, r.raw AS rejected_raw, chosen_row, r.source_row AS rejected_row, chosen_id, rejected_id
FROM chosen JOIN ratings AS r USING (objective)
WHERE r.conversation_id = rejected_id AND r.dataset = rated_in AND r.value > chosen.value
ORDER BY apart DESC, pair_id, objective, rated_in, chosen_row, rejected_row
LIMIT $n;
