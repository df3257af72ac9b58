-- shared_prompts: the prompts that stand in most datasets, and how many different answers they have in all.
-- parameter n = 20: how many prompts
-- grain: one prompt that at least two datasets have
-- key: prompt_id
WITH
    placed AS MATERIALIZED (
        SELECT dataset, prompt_id FROM ratings
        UNION  -- each prompt of a dataset once
        SELECT dataset, prompt_id FROM preferences
    ),
    shared AS MATERIALIZED (
        SELECT prompt_id, count(*) AS n_datasets
        FROM placed
        GROUP BY prompt_id
        HAVING count(*) > 1
        ORDER BY n_datasets DESC, prompt_id
        LIMIT $n
    ),
    named AS (
        SELECT prompt_id, list(dataset ORDER BY dataset) AS datasets
        FROM placed SEMI JOIN shared USING (prompt_id)
        GROUP BY prompt_id
    )
SELECT
    prompt_id, any_value(n_datasets) AS n_datasets, any_value(datasets) AS datasets,
    count(DISTINCT conversation_id) AS answers, any_value(messages[-2].content) AS question
FROM texts
JOIN shared USING (prompt_id)
JOIN named USING (prompt_id)
GROUP BY prompt_id
ORDER BY n_datasets DESC, prompt_id;
