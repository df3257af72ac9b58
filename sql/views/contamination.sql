-- contamination: prompts outside of the evaluation split that stand in it, exactly (equal ids) or nearly; their ratings
-- and pairs are left out of training and of the held-out figures.
-- grain: one prompt of a dataset and one of an evaluation dataset that is similar to it
-- key: dataset, prompt_id, evaluation_dataset, evaluation_prompt_id
CREATE VIEW contamination AS
WITH asked AS (  -- few prompts are contaminated: looked for before they are made distinct
    SELECT dataset, prompt_id FROM stored_ratings SEMI JOIN stored_contamination USING (prompt_id)
    WHERE split <> 'evaluation'
    UNION
    SELECT dataset, prompt_id FROM stored_preferences SEMI JOIN stored_contamination USING (prompt_id)
    WHERE split <> 'evaluation'
)
SELECT dataset, prompt_id, evaluation_dataset, evaluation_prompt_id, similarity
FROM stored_contamination JOIN asked USING (prompt_id);
