-- disagreement: the conversations whose ratings lie farthest apart, be it between rows, datasets or objectives.
-- parameter objective = *: the objectives to compare, as a pattern such as *helpfulness
-- parameter n = 20: how many conversations
-- grain: one conversation
-- key: conversation_id
WITH
    compared AS (SELECT * FROM ratings WHERE objective GLOB $objective),
    widest AS (
        SELECT conversation_id, count(*) AS ratings, max(value) - min(value) AS spread
        FROM compared
        GROUP BY conversation_id
        HAVING min(value) < max(value)
        ORDER BY spread DESC, conversation_id
        LIMIT $n
    )
SELECT
    conversation_id, any_value(ratings) AS ratings, any_value(spread) AS spread,
    unnest(min(
        {lowest: value, lowest_objective: objective, lowest_dataset: dataset, lowest_source_row: source_row}
    )),
    unnest(max(
        {highest: value, highest_objective: objective, highest_dataset: dataset, highest_source_row: source_row}
    ))
FROM compared JOIN widest USING (conversation_id)
GROUP BY conversation_id
ORDER BY spread DESC, conversation_id;
