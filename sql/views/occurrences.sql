-- occurrences: where each conversation stands in the datasets, rated or as a side of a pair.
-- grain: one rated conversation of a native row, or one side of a pair (pair_id is NULL where it is rated)
-- key: dataset, source_row, conversation_id, usage, pair_id
CREATE VIEW occurrences AS
SELECT
    dataset, source_row, conversation_id, any_value(prompt_id) AS prompt_id, any_value(split) AS split,
    'rated' AS usage, NULL::VARCHAR AS pair_id
FROM stored_ratings
GROUP BY dataset, source_row, conversation_id
UNION ALL
SELECT dataset, source_row, chosen_id, prompt_id, split, 'chosen', pair_id FROM stored_preferences
UNION ALL
SELECT dataset, source_row, rejected_id, prompt_id, split, 'rejected', pair_id FROM stored_preferences;
