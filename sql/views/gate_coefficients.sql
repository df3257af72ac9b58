-- gate_coefficients: the gate's weights for the prompts of held-out pairs (split test or evaluation), and what follows
-- for the raw rewards: a score is the sum of reward * coefficient. The weights of a prompt add up to 1.
-- grain: one prompt and objective
-- key: model, prompt_id, objective
CREATE VIEW gate_coefficients AS
SELECT model, prompt_id, objective, weight, coefficient
FROM stored_gate_coefficients;
