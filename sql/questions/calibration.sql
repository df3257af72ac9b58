-- calibration: whether pairs that the model is surer of are right more often; bins of equally many pairs, by the
-- difference of their scores, without those that `contamination` leaves out of the held-out figures.
-- parameter split = test: of which splits, as a pattern
-- parameter bins = 10: how many
-- grain: one bin of pairs, from the most doubtful on
-- key: model, bin
WITH placed AS (
    SELECT
        model, correct, abs(score_chosen - score_rejected) AS difference,
        ntile($bins) OVER (PARTITION BY model ORDER BY abs(score_chosen - score_rejected), pair_id) AS bin
    FROM pair_scores JOIN (FROM training_pairs UNION ALL FROM held_out_pairs) USING (pair_id)
    WHERE split GLOB $split
)
SELECT
    model, bin, count(*) AS pairs, min(difference) AS smallest, max(difference) AS largest,
    avg(correct::INTEGER) AS accuracy
FROM placed
GROUP BY model, bin
ORDER BY model, bin;
