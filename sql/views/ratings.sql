-- ratings: absolute ratings, raw on the dataset's own scale and as value in 0..1.
-- grain: one rating of a conversation by an objective in a native row
-- key: dataset, source_row, conversation_id, objective
CREATE VIEW ratings AS
SELECT dataset, source_row, conversation_id, prompt_id, objective, raw, value, split
FROM stored_ratings;
