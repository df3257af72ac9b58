-- held_out_ratings: the ratings that figures are reported of: those of split `test`, without those whose prompt stands in
-- an evaluation dataset (`contamination`), and of split `evaluation`.
-- grain: one rating of a conversation by an objective in a native row
-- key: dataset, source_row, conversation_id, objective
CREATE VIEW held_out_ratings AS
SELECT dataset, source_row, conversation_id, prompt_id, objective, raw, value, split
FROM stored_ratings
WHERE used_for(split, prompt_id IN (SELECT prompt_id FROM contamination)) = 'held_out';
