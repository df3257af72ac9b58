-- accuracy_by_length: how often the model prefers the chosen answer, by how much longer that is; one that follows length is
-- right where the chosen answer is the longer one. Bins are symmetric, by ranks of the absolute difference, which equal
-- differences share; pairs of equal length are bin 0. Without the pairs that `contamination` leaves out of the held-out
-- figures.
-- parameter split = test: of which splits, as a pattern
-- parameter dataset = *: of which datasets, as a pattern
-- parameter bins = 4: on each side
-- grain: one bin of pairs, from the rejected answer being longer by most to the chosen one
-- key: model, bin
WITH
    scored AS (
        SELECT model, chosen_id, rejected_id, correct::INTEGER AS correct
        FROM pair_scores JOIN (FROM training_pairs UNION ALL FROM held_out_pairs) USING (pair_id)
        WHERE split GLOB $split AND dataset GLOB $dataset
    ),
    lengths AS MATERIALIZED (SELECT conversation_id, n_chars FROM conversations),
    measured AS (  -- both answers follow the same prompt, which takes itself out
        SELECT model, correct, chosen.n_chars - rejected.n_chars AS longer
        FROM scored
        JOIN lengths AS chosen ON chosen.conversation_id = chosen_id
        JOIN lengths AS rejected ON rejected.conversation_id = rejected_id
    ),
    placed AS (
        SELECT
            model, correct, longer,
            sign(longer) * (1 + (rank() OVER same_kind - 1) * $bins // count(*) OVER (PARTITION BY model, longer = 0)) AS bin
        FROM measured
        WINDOW same_kind AS (PARTITION BY model, longer = 0 ORDER BY abs(longer))
    )
SELECT model, bin, count(*) AS pairs, min(longer) AS shortest, max(longer) AS longest, avg(correct) AS accuracy
FROM placed
GROUP BY model, bin
ORDER BY model, bin;
