-- predicted: what each run's embedding should have taken by the plan, and what it took.
-- grain: one backbone and run that made shards which stand
-- key: backbone, run_id
WITH
    shards AS (
        SELECT split_part(slot, '/', 2) AS backbone, run_id, created_at, summary::JSON -> 'measured' AS measured
        FROM artifacts
        WHERE stage = 'embed'
    ),
    counted AS (
        SELECT
            backbone, run_id, created_at,
            (measured ->> 'predicted_seconds')::DOUBLE AS predicted_seconds,  -- NULL where no speed was known
            (measured ->> 'seconds')::DOUBLE AS seconds,
            (measured ->> 'predicted_tokens')::DOUBLE AS predicted_tokens,
            (measured ->> 'tokens')::BIGINT AS tokens,
            (measured ->> 'forwarded')::BIGINT AS forwarded
        FROM shards
    )
SELECT
    backbone, run_id, count(*) AS shards, max(created_at) AS finished_at,
    sum(predicted_seconds) AS predicted_seconds, sum(seconds) AS seconds,
    sum(predicted_tokens)::BIGINT AS predicted_tokens, sum(tokens)::BIGINT AS tokens,
    sum(forwarded)::BIGINT AS forwarded, sum(tokens) / nullif(sum(seconds), 0) AS tokens_per_s
FROM counted
GROUP BY backbone, run_id
ORDER BY finished_at DESC, backbone;
