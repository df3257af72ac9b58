-- hardest_pairs: the pairs that the model gets wrong by most, with their texts.
-- parameter split = test: of which splits, as a pattern
-- parameter dataset = *: of which datasets, as a pattern
-- parameter n = 20: how many
-- grain: one pair
-- key: model, pair_id
WITH
    hardest AS MATERIALIZED (
        SELECT
            model, pair_id, dataset, source_row, subset, chosen_id, rejected_id, score_rejected - score_chosen AS wrong_by
        FROM pair_scores JOIN (FROM training_pairs UNION ALL FROM held_out_pairs) USING (pair_id)
        WHERE NOT correct AND split GLOB $split AND dataset GLOB $dataset
        ORDER BY wrong_by DESC, pair_id
        LIMIT $n
    ),
    told AS (
        SELECT conversation_id, any_value(messages[-2].content) AS question, any_value(messages[-1].content) AS answer
        FROM texts
        WHERE conversation_id IN (SELECT unnest([chosen_id, rejected_id]) FROM hardest)
        GROUP BY conversation_id
    )
SELECT
    model, wrong_by, dataset, subset, source_row, pair_id, chosen.question, chosen.answer AS chosen,
    rejected.answer AS rejected
FROM hardest
JOIN told AS chosen ON chosen.conversation_id = chosen_id
JOIN told AS rejected ON rejected.conversation_id = rejected_id
ORDER BY wrong_by DESC, pair_id;
