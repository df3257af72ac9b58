-- preferences: pairs of answers to one prompt, the first one preferred.
-- grain: one pair
-- key: pair_id
CREATE VIEW preferences AS
SELECT dataset, source_row, pair_id, prompt_id, chosen_id, rejected_id, margin, subset, split
FROM stored_preferences;
