-- verbosity: how each objective goes with length, in the ratings and in what the model predicts for the same texts.
-- Length is that of the whole conversation in characters; the correlation is Pearson's.
-- grain: one objective
-- key: objective
WITH measured AS (
    SELECT conversation_id, objective, value, NULL AS predicted FROM ratings
    UNION ALL
    SELECT conversation_id, objective, NULL, predicted FROM predictions
)
SELECT
    objective, count(value) AS ratings, corr(value, n_chars) AS rated, corr(measured.predicted, n_chars) AS predicted
FROM measured JOIN conversations USING (conversation_id)
GROUP BY objective
ORDER BY rated DESC, objective;
