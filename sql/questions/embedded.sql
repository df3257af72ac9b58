-- embedded: how much of each dataset has vectors, how long it is in tokens, and how much a backbone's longest input cuts.
-- grain: one dataset and backbone
-- key: dataset, backbone
WITH
    held AS (
        SELECT dataset, conversation_id FROM ratings
        UNION  -- each conversation of a dataset once
        SELECT dataset, unnest([chosen_id, rejected_id]) FROM preferences
    ),
    sizes AS (SELECT dataset, count(*) AS conversations FROM held GROUP BY dataset),
    counted AS (
        SELECT
            dataset, backbone, count(*) AS vectors, count(*) FILTER (truncated) AS truncated,
            median(n_tokens)::BIGINT AS median_tokens, quantile_disc(n_tokens, 0.99) AS p99_tokens,
            max(n_tokens) AS most_tokens
        FROM held JOIN features ON kind = 'conversation' AND id = conversation_id
        GROUP BY dataset, backbone
    )
SELECT
    dataset, backbone, conversations, coalesce(vectors, 0) AS vectors, coalesce(truncated, 0) AS truncated,
    max_tokens, median_tokens, p99_tokens, most_tokens
FROM sizes
CROSS JOIN backbones
LEFT JOIN counted USING (dataset, backbone)
ORDER BY dataset, backbone;
