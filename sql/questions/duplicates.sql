-- duplicates: how many distinct conversations each two datasets have in common, what share of each that is, and how many
-- prompts.
-- grain: one pair of datasets that share a conversation (dataset < other)
-- key: dataset, other
WITH
    shared AS MATERIALIZED (FROM overlap),
    held AS (SELECT dataset, conversations AS n FROM shared WHERE dataset = other)
SELECT
    dataset, other, conversations,
    conversations / mine.n AS share_of_dataset, conversations / theirs.n AS share_of_other, prompts
FROM shared
JOIN held AS mine USING (dataset)
JOIN held AS theirs ON theirs.dataset = other
WHERE dataset < other AND conversations > 0
ORDER BY conversations DESC, dataset, other;
