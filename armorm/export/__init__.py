"""Reward models in the published model's layout, as Hugging Face folders: writing them, and reading them back."""
