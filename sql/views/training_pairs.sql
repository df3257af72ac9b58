-- training_pairs: the pairs that training reads: those of split `train`, which weights are fitted to, and `validation`,
-- which choose settings; without those whose prompt stands in an evaluation dataset (`contamination`).
-- grain: one pair
-- key: pair_id
CREATE VIEW training_pairs AS
SELECT dataset, source_row, pair_id, prompt_id, chosen_id, rejected_id, margin, subset, split
FROM stored_preferences
WHERE used_for(split, prompt_id IN (SELECT prompt_id FROM contamination)) = 'training';
