-- neighbours: the conversations whose vectors are nearest to one conversation's, by cosine, with their last turns.
-- parameter conversation_id: the conversation to start from
-- parameter n = 10: how many by each backbone
-- grain: one neighbour by a backbone
-- key: backbone, conversation_id
WITH
    mine AS (SELECT backbone, vector FROM features WHERE kind = 'conversation' AND id = $conversation_id),
    nearest AS MATERIALIZED (
        SELECT backbone, id AS conversation_id, list_cosine_similarity(features.vector, mine.vector) AS similarity
        FROM features JOIN mine USING (backbone)
        WHERE kind = 'conversation' AND id <> $conversation_id
        QUALIFY row_number() OVER (PARTITION BY backbone ORDER BY similarity DESC, id) <= $n
    )
SELECT
    backbone, similarity, conversation_id,
    any_value(messages[-2].content) AS question, any_value(messages[-1].content) AS answer
FROM nearest JOIN texts USING (conversation_id)
GROUP BY backbone, similarity, conversation_id
ORDER BY backbone, similarity DESC, conversation_id;
