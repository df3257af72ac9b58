-- correlations: of each objective's predicted reward with each nuisance and with the answer's tokens (`n_tokens`), before
-- and after decorrelation; over the reference (part `reference`) and over the answers of each dataset's held-out prompts
-- (part `held_out`), with 95 % bootstrap intervals over prompts. NULL where an objective does not vary.
-- grain: one part, dataset, objective and nuisance
-- key: part, dataset, objective, nuisance
CREATE VIEW correlations AS
SELECT part, dataset, objective, nuisance, n_responses, n_prompts,
    before, before_low, before_high, after, after_low, after_high
FROM stored_correlations;
