-- accuracy: how often the model prefers the chosen answer, and how that hangs on the answers' lengths;
-- without the pairs that `contamination` leaves out of the held-out figures.
-- Lengths are similar where they differ by no more than `similar` characters.
-- parameter split = *: of which splits, as a pattern
-- parameter similar = 50: characters
-- grain: one split of a dataset, and its subset where it has any
-- key: model, split, dataset, subset
WITH
    scored AS (
        SELECT model, split, dataset, subset, chosen_id, rejected_id, correct::INTEGER AS correct
        FROM pair_scores JOIN (FROM training_pairs UNION ALL FROM held_out_pairs) USING (pair_id)
        WHERE split GLOB $split
    ),
    lengths AS MATERIALIZED (SELECT conversation_id, n_chars FROM conversations),
    measured AS (  -- both answers follow the same prompt, which takes itself out
        SELECT model, split, dataset, subset, correct, chosen.n_chars - rejected.n_chars AS longer
        FROM scored
        JOIN lengths AS chosen ON chosen.conversation_id = chosen_id
        JOIN lengths AS rejected ON rejected.conversation_id = rejected_id
    )
SELECT
    model, split, dataset, subset, count(*) AS pairs, avg(correct) AS accuracy,
    avg(correct) FILTER (longer < -$similar) AS chosen_shorter,
    avg(correct) FILTER (abs(longer) <= $similar) AS similar_length,
    avg(correct) FILTER (longer > $similar) AS chosen_longer,
    avg((longer > 0)::INTEGER) AS share_longer
FROM measured
GROUP BY model, split, dataset, subset
ORDER BY model, split, dataset, subset;
