-- contradicted_pairs: the pairs whose rejected answer is rated higher than the chosen one, by most.
-- parameter objective = *: the objectives to look at, as a pattern such as *helpfulness
-- parameter n = 20: how many pairs and objectives
-- grain: one pair, and an objective by which a dataset rates both of its answers (of several ratings, the widest apart)
-- key: pair_id, objective, rated_in
WITH
    -- materialized: or else ratings may be joined with each other first, by nothing but their objective
    chosen AS MATERIALIZED (
        SELECT pair_id, rejected_id, objective, r.dataset AS rated_in, raw, value
        FROM preferences JOIN ratings AS r ON r.conversation_id = chosen_id
        WHERE objective GLOB $objective
    ),
    contradicted AS (
        SELECT
            pair_id, objective, rated_in,
            {apart: r.value - chosen.value, chosen_raw: chosen.raw, rejected_raw: r.raw} AS sides
        FROM chosen JOIN ratings AS r USING (objective)
        WHERE r.conversation_id = rejected_id AND r.dataset = rated_in AND r.value > chosen.value
    ),
    widest AS (
        SELECT pair_id, objective, rated_in, max(sides) AS found
        FROM contradicted
        GROUP BY pair_id, objective, rated_in
        ORDER BY found DESC, pair_id, objective, rated_in  -- by `apart`, which stands first
        LIMIT $n
    )
SELECT dataset, source_row, pair_id, objective, rated_in, found.*, chosen_id, rejected_id
FROM widest JOIN preferences USING (pair_id)
ORDER BY found.apart DESC, pair_id, objective, rated_in;
