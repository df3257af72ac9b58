-- used: what each stage read of `stored_stages`, which are those of the pipeline that read rows, and for what. Weights depend
-- on it (`trained_on`) where it is a `reference`, or of a split that the stage trains on: on `validation` not where its
-- record says that nothing was chosen on it. All else gave figures only.
-- grain: one row of `items` and stage that read it; of a reference, one rated response of a native row
-- key: node, dataset, source_row, native_row, conversation_id, objective, pair_id
CREATE VIEW used AS
WITH
    read AS NOT MATERIALIZED (
        SELECT node, stage, items.*
        FROM stored_nodes SEMI JOIN stored_stages USING (stage) JOIN stored_edges USING (node)
        JOIN items ON source = input_node
        WHERE outcome = 'kept'
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
    clean AS NOT MATERIALIZED (
        SELECT embedded.*
        FROM embedded LEFT JOIN left_out ON left_out.node = embedded.node AND left_out.prompt_id = embedded.prompt_id
        WHERE used_for(split, left_out.node IS NOT NULL) IS NOT NULL
    ),
    unfitted AS (  -- objectives that a record does not name; where it names none, all of them were read
        SELECT node, objective
        FROM stored_nodes, (SELECT DISTINCT objective FROM stored_ratings)
        WHERE NOT list_contains(from_json(record -> 'objectives', '["VARCHAR"]'), objective)
    ),
    unchoosing AS (  -- an older gate does not say it, but in its settings
        SELECT node FROM stored_nodes
        WHERE NOT coalesce(list_contains(from_json(record -> 'splits', '["VARCHAR"]'), 'validation'),
            (settings ->> 'early_stopping')::BIGINT > 0, true)
    ),
    reference AS (SELECT node, record -> 'decorrelation' ->> 'reference' AS dataset FROM stored_nodes)
SELECT
    node, stage, split AS usage,
    list_contains(trains_on, split) AND (split = 'train' OR node NOT IN (FROM unchoosing)) AS trained_on,
    source, dataset, source_row, native_row, outcome, prompt_id, conversation_id, other_id, objective, pair_id
FROM clean JOIN stored_stages USING (stage) ANTI JOIN unfitted USING (node, objective)
WHERE rows = if(pair_id IS NULL, 'ratings', 'pairs') AND list_contains(splits, split)
UNION ALL
SELECT DISTINCT
    node, stage, 'reference', true,
    source, dataset, source_row, native_row, outcome, prompt_id, conversation_id, other_id, NULL, pair_id
FROM embedded SEMI JOIN reference USING (node, dataset)
WHERE objective IS NOT NULL
UNION ALL
SELECT DISTINCT
    node, stage, 'reference', true,
    source, dataset, source_row, native_row, outcome, prompt_id, answer, NULL, NULL, pair_id
FROM (SELECT *, unnest([conversation_id, other_id]) AS answer FROM clean)
    SEMI JOIN (FROM reference WHERE dataset = 'all') USING (node)
WHERE split = 'train' AND answer IS NOT NULL;
