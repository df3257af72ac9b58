"""What others have published, to be set beside a model's own figures."""

from collections.abc import Mapping
from typing import Final

REWARDBENCH: Final[Mapping[str, Mapping[str, float]]] = {
    name: dict(zip(("overall", "Chat", "Chat Hard", "Safety", "Reasoning", "Prior Sets"), scores, strict=True))
    for name, scores in {
        "ArmoRM-Llama3-8B-v0.1": (0.890, 0.969, 0.768, 0.922, 0.973, 0.743),
        "Cohere May 2024": (0.883, 0.964, 0.713, 0.927, 0.977, 0.782),
        "pair-preference-model (Llama-3 8B)": (0.857, 0.983, 0.658, 0.897, 0.947, 0.746),
        "GPT-4 Turbo (0125) as a judge": (0.843, 0.953, 0.743, 0.872, 0.869, 0.709),
        "FsfairX-LLaMA3-RM-v0.1 (Bradley-Terry)": (0.836, 0.994, 0.651, 0.878, 0.864, 0.749),
        "Starling-RM-34B": (0.814, 0.969, 0.572, 0.882, 0.885, 0.714),
    }.items()
}
"""Model to its scores on RewardBench (v1), in 0..1, as arXiv 2406.12845 reports them, section by section."""
