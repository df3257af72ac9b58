"""From conversations to scores: which backbone, its features, the model, and files of any size. Nothing is stored."""
