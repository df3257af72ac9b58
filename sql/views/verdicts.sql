-- verdicts: what a judge says of two answers to one prompt; the first is the one whose id comes first.
-- score_first, score_second: of a judge that scores answers alone. shown_first, shown_second: by how much the first
-- answer is preferred where it stands first, and where it stands second, of a judge that is asked in both orders.
-- preference: above 0 for the first answer, 0 for a tie; NULL where there is no verdict, and why_not says why.
-- grain: one judge and two answers
-- key: judge, first_id, second_id
CREATE VIEW verdicts AS
SELECT judge, first_id, second_id, score_first, score_second, shown_first, shown_second, preference, why_not
FROM stored_verdicts;
