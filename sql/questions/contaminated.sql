-- contaminated: how much of each dataset is left out because its prompts stand in an evaluation dataset, exactly or nearly.
-- grain: one dataset, and an evaluation dataset that has some of its prompts
-- key: dataset, evaluation_dataset
WITH
    hits AS (
        SELECT dataset, evaluation_dataset, prompt_id, max(similarity) AS similarity,
            bool_or(prompt_id = evaluation_prompt_id) AS exact
        FROM contamination
        GROUP BY dataset, evaluation_dataset, prompt_id
    ),
    rated AS (
        SELECT dataset, prompt_id, count(*) AS ratings
        FROM ratings SEMI JOIN hits USING (dataset, prompt_id)
        GROUP BY dataset, prompt_id
    ),
    paired AS (
        SELECT dataset, prompt_id, count(*) AS pairs
        FROM preferences SEMI JOIN hits USING (dataset, prompt_id)
        GROUP BY dataset, prompt_id
    )
SELECT
    dataset, evaluation_dataset, count(*) AS prompts, count(*) FILTER (exact) AS exact,
    min(similarity) AS least_similarity,
    coalesce(sum(ratings), 0)::BIGINT AS ratings, coalesce(sum(pairs), 0)::BIGINT AS pairs
FROM hits
LEFT JOIN rated USING (dataset, prompt_id)
LEFT JOIN paired USING (dataset, prompt_id)
GROUP BY dataset, evaluation_dataset
ORDER BY prompts DESC, dataset, evaluation_dataset;
