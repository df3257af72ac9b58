-- items: every rating, every pair and every native row that gave neither, of each version of a dataset, with the native
-- rows that it comes from: a pair that was made of mean ratings comes from all rows that rate either of its answers.
-- grain: one rating, pair, or native row and what became of it, of one ingest, and one native row that it comes from
-- key: source, dataset, source_row, native_row, outcome, conversation_id, objective, pair_id
CREATE VIEW items AS
WITH
    made_of AS (
        SELECT node, pair_id, unnest(string_split(source_row, '+')) AS native_row FROM stored_preferences
        UNION
        SELECT node, pair_id, rating.source_row
        FROM (
            SELECT node, pair_id, unnest([chosen_id, rejected_id]) AS conversation_id
            FROM stored_preferences WHERE contains(source_row, '+')
        ) JOIN stored_ratings AS rating USING (node, conversation_id)
    )
SELECT
    node AS source, dataset, source_row, source_row AS native_row, 'kept' AS outcome, split,
    prompt_id, conversation_id, NULL::VARCHAR AS other_id, objective, NULL::VARCHAR AS pair_id
FROM stored_ratings
UNION ALL
SELECT
    node, dataset, source_row, native_row, 'kept', split,
    prompt_id, chosen_id, rejected_id, NULL, pair_id
FROM stored_preferences JOIN made_of USING (node, pair_id)
UNION ALL
SELECT DISTINCT node, dataset, source_row, source_row, outcome, NULL, NULL, NULL, NULL, NULL, NULL
FROM stored_native_rows WHERE outcome <> 'kept';
