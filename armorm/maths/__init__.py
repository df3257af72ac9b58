"""The mathematics: arrays in, arrays out. Knows no store, no text and no presentation."""
