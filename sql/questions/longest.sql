-- longest: the longest conversations, whether a backbone's longest input cuts them, and where they stand.
-- Tokens are those counted at embedding (before anything is cut off), where there is a vector, else n_chars / 4.
-- parameter n = 20: how many
-- grain: one conversation
-- key: conversation_id
WITH
    counted AS (
        SELECT id AS conversation_id, max(n_tokens) AS n_tokens, bool_or(truncated) AS truncated
        FROM features
        WHERE kind = 'conversation'
        GROUP BY id
    ),
    longest AS (
        SELECT conversation_id, n_turns, n_chars, n_tokens, truncated, coalesce(n_tokens, n_chars / 4) AS tokens
        FROM conversations LEFT JOIN counted USING (conversation_id)
        ORDER BY tokens DESC, conversation_id
        LIMIT $n
    ),
    placed AS (
        SELECT conversation_id, list(DISTINCT dataset ORDER BY dataset) AS datasets
        FROM (
            SELECT conversation_id, dataset FROM ratings
            UNION ALL
            SELECT unnest([chosen_id, rejected_id]), dataset FROM preferences
        )
        SEMI JOIN longest USING (conversation_id)
        GROUP BY conversation_id
    )
SELECT conversation_id, tokens::BIGINT AS tokens, n_tokens IS NOT NULL AS counted, truncated, n_turns, n_chars, datasets
FROM longest LEFT JOIN placed USING (conversation_id)
ORDER BY tokens DESC, conversation_id;
