-- near_benchmark: the training prompts nearest in meaning to prompts of benchmarks, with both texts, to be looked at.
-- parameter dataset = *: of which benchmarks, as a pattern
-- parameter n = 20: how many
-- grain: one prompt of a benchmark
-- key: evaluation_dataset, evaluation_prompt_id
WITH
    closest AS MATERIALIZED (
        FROM near_prompts WHERE evaluation_dataset GLOB $dataset
        ORDER BY cosine DESC, evaluation_dataset, evaluation_prompt_id LIMIT $n
    ),
    told AS (
        SELECT prompt_id, any_value(messages[-2].content) AS question
        FROM texts
        WHERE prompt_id IN (SELECT unnest([prompt_id, evaluation_prompt_id]) FROM closest)
        GROUP BY prompt_id
    )
SELECT
    cosine, evaluation_dataset, theirs.question AS benchmark, ours.question AS training, evaluation_prompt_id,
    closest.prompt_id
FROM closest
JOIN told AS ours ON ours.prompt_id = closest.prompt_id
JOIN told AS theirs ON theirs.prompt_id = evaluation_prompt_id
ORDER BY cosine DESC, evaluation_dataset, evaluation_prompt_id;
