-- training_ratings: the ratings that training reads: those of split `train`, which weights are fitted to, and `validation`,
-- which choose settings; without those whose prompt stands in an evaluation dataset (`contamination`).
-- grain: one rating of a conversation by an objective in a native row
-- key: dataset, source_row, conversation_id, objective
CREATE VIEW training_ratings AS
SELECT dataset, source_row, conversation_id, prompt_id, objective, raw, value, split
FROM stored_ratings
WHERE used_for(split, prompt_id IN (SELECT prompt_id FROM contamination)) = 'training';
