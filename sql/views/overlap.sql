-- overlap: how many distinct conversations and prompts two datasets share, and each dataset with itself: all it has.
-- A conversation is marked with a bit for each dataset that has it; sets of datasets are few, so only they are paired.
-- grain: one pair of datasets that share a prompt (dataset <= other)
-- key: dataset, other
CREATE VIEW overlap AS
WITH
    numbered AS (
        SELECT dataset, row_number() OVER (ORDER BY dataset)::INTEGER - 1 AS place, count(*) OVER () AS n FROM datasets
    ),
    masks AS (SELECT dataset, place, set_bit(repeat('0', n)::BIT, place, 1) AS mask FROM numbered),
    held AS (
        SELECT conversation_id, prompt_id, mask FROM stored_ratings JOIN masks USING (dataset)
        UNION ALL
        SELECT unnest([chosen_id, rejected_id]), prompt_id, mask FROM stored_preferences JOIN masks USING (dataset)
    ),
    sets AS (
        SELECT among, count(*) AS conversations, 0 AS prompts
        FROM (SELECT bit_or(mask) AS among FROM held GROUP BY conversation_id)
        GROUP BY among
        UNION ALL
        SELECT among, 0, count(*)
        FROM (SELECT bit_or(mask) AS among FROM held GROUP BY prompt_id)
        GROUP BY among
    )
SELECT
    a.dataset, b.dataset AS other, sum(conversations)::BIGINT AS conversations, sum(prompts)::BIGINT AS prompts
FROM sets
JOIN masks AS a ON get_bit(among, a.place) = 1
JOIN masks AS b ON get_bit(among, b.place) = 1 AND a.dataset <= b.dataset
GROUP BY a.dataset, b.dataset;
