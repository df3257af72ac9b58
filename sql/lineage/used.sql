-- used: what the regression and its statistics, a decorrelation or a gate read, and for what. Weights depend on it (`trained_on`)
-- where it is of `train` or a `reference`, or of `validation` in the regression, whose alphas are chosen so, and in a
-- gate of which something was chosen on it; all else gave figures only.
-- grain: one row of `items` and stage that read it; of the decorrelation, one rated response of a native row
-- key: node, dataset, source_row, native_row, conversation_id, objective, pair_id
CREATE VIEW used AS
WITH
    read AS NOT MATERIALIZED (
        SELECT node, stage, items.*
        FROM stored_nodes JOIN stored_edges USING (node) JOIN items ON source = input_node
        WHERE stage IN ('statistics', 'regress', 'preference', 'decorrelate', 'gate') AND outcome = 'kept'
    ),
    left_out AS NOT MATERIALIZED (
        SELECT DISTINCT edge.node, prompt_id
        FROM stored_edges AS edge JOIN stored_contamination AS found ON found.node = input_node
    ),
    without_vector AS NOT MATERIALIZED (
        SELECT DISTINCT edge.node, kind, id
        FROM stored_edges AS edge JOIN rejected_texts AS found ON found.node = input_node
    ),
    embedded AS NOT MATERIALIZED (  -- a rating needs the vector of its conversation, a pair those of both and its prompt's
        SELECT *
        FROM read
        ANTI JOIN without_vector AS answer
            ON answer.node = read.node AND answer.kind = 'conversation' AND answer.id = conversation_id
        ANTI JOIN without_vector AS other
            ON other.node = read.node AND other.kind = 'conversation' AND other.id = other_id
        ANTI JOIN without_vector AS prompt
            ON prompt.node = read.node AND prompt.kind = 'prompt' AND prompt.id = prompt_id AND pair_id IS NOT NULL
    ),
    fitted AS (
        SELECT node, unnest(from_json(record -> 'objectives', '["VARCHAR"]')) AS objective
        FROM stored_nodes WHERE stage = 'regress'
    ),
    reference AS (
        SELECT node, record -> 'decorrelation' ->> 'reference' AS dataset FROM stored_nodes WHERE stage = 'decorrelate'
    ),
    validated AS (  -- an older gate does not say it, but in its settings
        SELECT node FROM stored_nodes
        WHERE stage = 'preference' OR coalesce(list_contains(from_json(record -> 'splits', '["VARCHAR"]'), 'validation'),
            coalesce((settings ->> 'early_stopping')::BIGINT, 0) > 0)
    ),
    clean AS NOT MATERIALIZED (FROM embedded ANTI JOIN left_out USING (node, prompt_id))
SELECT
    node, stage, split AS usage, split IN ('train', 'validation') AS trained_on,
    source, dataset, source_row, native_row, outcome, prompt_id, conversation_id, other_id, objective, pair_id
FROM clean SEMI JOIN fitted USING (node, objective)
WHERE split IN ('train', 'validation', 'test')
UNION ALL
SELECT
    node, stage, split, false,
    source, dataset, source_row, native_row, outcome, prompt_id, conversation_id, other_id, objective, pair_id
FROM clean
WHERE stage = 'statistics' AND split IN ('train', 'validation') AND objective IS NOT NULL
UNION ALL
SELECT
    node, stage, split, split = 'train' OR node IN (FROM validated),
    source, dataset, source_row, native_row, outcome, prompt_id, conversation_id, other_id, objective, pair_id
FROM clean
WHERE stage IN ('preference', 'gate') AND split IN ('train', 'validation') AND pair_id IS NOT NULL
UNION ALL
SELECT DISTINCT
    node, stage, 'reference', true,
    source, dataset, source_row, native_row, outcome, prompt_id, conversation_id, other_id, NULL, pair_id
FROM embedded SEMI JOIN reference USING (node, dataset)
WHERE stage = 'decorrelate' AND objective IS NOT NULL
UNION ALL
SELECT DISTINCT
    node, stage, 'reference', true,
    source, dataset, source_row, native_row, outcome, prompt_id, answer, NULL, NULL, pair_id
FROM (SELECT *, unnest([conversation_id, other_id]) AS answer FROM clean)
    SEMI JOIN (FROM reference WHERE dataset = 'all') USING (node)
WHERE stage = 'decorrelate' AND split = 'train' AND answer IS NOT NULL;
