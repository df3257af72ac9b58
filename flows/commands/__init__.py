"""Commands of `armorm`, a file for each part of the house that they speak of."""
