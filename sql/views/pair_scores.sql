-- pair_scores: the model's scores of both sides of every preference; a tie counts as not correct.
-- grain: one pair
-- key: model, pair_id
CREATE VIEW pair_scores AS
SELECT model, pair_id, score_chosen, score_rejected, correct
FROM stored_pair_scores;
