-- predictions: what the model predicts, in 0..1, wherever a rating is given.
-- grain: one conversation and objective
-- key: model, conversation_id, objective
CREATE VIEW predictions AS
SELECT model, conversation_id, objective, predicted
FROM stored_predictions;
