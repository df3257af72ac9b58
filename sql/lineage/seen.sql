-- seen: which artifact saw which rows, and how. `trace` asks it by artifact and `impact` by row: they cannot disagree.
-- A model saw what its regression, its decorrelation and its gate used; `stage` says through which of them.
-- grain: one artifact, stage, and row of `items` that it saw, in one way
-- key: node, stage, usage, dataset, source_row, native_row, outcome, conversation_id, objective, pair_id
CREATE VIEW seen AS
WITH
    read AS NOT MATERIALIZED (
        SELECT node, stage, items.*
        FROM stored_nodes JOIN stored_edges USING (node) JOIN items ON source = input_node
    ),
    through AS NOT MATERIALIZED (  -- whose use of rows is an artifact's: its own, and a model's that of its inputs
        SELECT node, node AS used_by FROM stored_nodes
        UNION ALL
        SELECT node, input_node FROM stored_nodes JOIN stored_edges USING (node) WHERE stage = 'model'
    ),
    left_out AS NOT MATERIALIZED (SELECT DISTINCT node, prompt_id FROM stored_contamination),
    texts AS NOT MATERIALIZED (  -- each id that a vector may be of; a vector is of a text, whichever version of a dataset held it
        SELECT 'conversation' AS kind, conversation_id AS id, * FROM items
        UNION ALL
        SELECT 'conversation', other_id, * FROM items
        UNION ALL
        SELECT 'prompt', prompt_id, * FROM items
    )
SELECT
    source AS node, 'ingest' AS stage, outcome AS usage, false AS trained_on,
    source, dataset, source_row, native_row, outcome, prompt_id, conversation_id, other_id, objective, pair_id
FROM items
UNION ALL
SELECT
    node, 'quality', 'checked', false,
    source, dataset, source_row, native_row, outcome, prompt_id, conversation_id, other_id, objective, pair_id
FROM read WHERE stage = 'quality'
UNION ALL
SELECT
    read.node, 'contamination', if(used_for(split, found.node IS NOT NULL) IS NULL, 'left out', 'compared'), false,
    source, dataset, source_row, native_row, outcome, prompt_id, conversation_id, other_id, objective, pair_id
FROM read LEFT JOIN left_out AS found USING (node, prompt_id)
WHERE stage = 'contamination' AND outcome = 'kept'
UNION ALL
SELECT
    vector.node, 'embed', kind, false,
    max(source), dataset, source_row, native_row, outcome, prompt_id, conversation_id, other_id, objective, pair_id
FROM stored_vectors AS vector JOIN texts USING (kind, id)
GROUP BY ALL
UNION ALL
SELECT
    rejected.node, 'embed', 'rejected', false,
    max(source), dataset, source_row, native_row, outcome, prompt_id, conversation_id, other_id, objective, pair_id
FROM rejected_texts AS rejected JOIN texts USING (kind, id)
GROUP BY ALL
UNION ALL
SELECT through.node, used.* EXCLUDE node
FROM used JOIN through ON used.node = through.used_by
UNION ALL
SELECT
    node, stage, 'scored', false,
    source, dataset, source_row, native_row, outcome, prompt_id, conversation_id, other_id, objective, pair_id
FROM read SEMI JOIN stored_pair_scores USING (node, pair_id)
UNION ALL
SELECT
    node, stage, 'predicted', false,
    source, dataset, source_row, native_row, outcome, prompt_id, conversation_id, other_id, objective, pair_id
FROM read SEMI JOIN stored_predictions USING (node, conversation_id, objective);
