-- forwarded: what a backbone was run on for its vectors, against one whole pass for each rated row and two for each pair,
-- as the public scripts do. Forwarded is counted by the runs that finished the shards, not what a killed one had kept.
-- grain: one backbone
-- key: backbone
WITH
    mentioned AS (SELECT conversation_id, count(*) AS n FROM occurrences GROUP BY conversation_id),
    one_by_one AS (
        SELECT backbone, sum(n) AS mentions, sum(n * least(n_tokens, max_tokens)) AS tokens
        FROM mentioned
        JOIN features ON kind = 'conversation' AND id = conversation_id
        JOIN backbones USING (backbone)
        GROUP BY backbone
    ),
    made AS (SELECT backbone, count(*) AS vectors FROM features GROUP BY backbone),
    shards AS (
        SELECT
            split_part(slot, '/', 2) AS backbone, (summary::JSON -> 'measured' ->> 'forwarded')::BIGINT AS forwarded
        FROM artifacts
        WHERE stage = 'embed'
    ),
    counted AS (  -- nothing where an earlier version has made one of them, and counted nothing
        SELECT backbone, sum(forwarded) AS tokens FROM shards GROUP BY backbone HAVING count(*) = count(forwarded)
    )
SELECT
    backbone, mentions::BIGINT AS mentions, vectors, vectors / mentions AS vectors_per_mention,
    one_by_one.tokens::BIGINT AS tokens_one_by_one, counted.tokens::BIGINT AS tokens_forwarded,
    one_by_one.tokens / counted.tokens AS times_fewer
FROM one_by_one JOIN made USING (backbone) LEFT JOIN counted USING (backbone)
ORDER BY backbone;
