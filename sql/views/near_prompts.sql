-- near_prompts: the training prompt whose vector is nearest to that of a benchmark's prompt, by cosine about the mean of
-- the training prompts. Nothing is left out of training by it.
-- grain: one prompt of a benchmark
-- key: evaluation_dataset, evaluation_prompt_id
CREATE VIEW near_prompts AS
SELECT evaluation_dataset, evaluation_prompt_id, prompt_id, cosine
FROM stored_near_prompts;
