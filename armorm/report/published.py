"""What others have published, to be set beside a model's own figures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

REWARDBENCH: Final[Mapping[str, Mapping[str, float]]] = {
    name: dict(zip(("overall", "Chat", "Chat Hard", "Safety", "Reasoning", "Prior Sets"), scores, strict=True))
    for name, scores in {
        "Nemotron-4-340B-Reward": (0.893, 0.958, 0.871, 0.915, 0.937, 0.674),
        "ArmoRM-Llama3-8B-v0.1": (0.890, 0.969, 0.768, 0.922, 0.973, 0.743),
        "Cohere May 2024": (0.883, 0.964, 0.713, 0.927, 0.977, 0.782),
        "pair-preference-model (Llama-3 8B)": (0.857, 0.983, 0.658, 0.897, 0.947, 0.746),
        "GPT-4 Turbo (0125) as a judge": (0.843, 0.953, 0.743, 0.872, 0.869, 0.709),
        "FsfairX-LLaMA3-RM-v0.1 (Bradley-Terry)": (0.836, 0.994, 0.651, 0.878, 0.864, 0.749),
        "Starling-RM-34B": (0.814, 0.969, 0.572, 0.882, 0.885, 0.714),
    }.items()
}
"""Model to its scores on RewardBench (v1), in 0..1, as arXiv 2406.12845 reports them, section by section."""


@dataclass(frozen=True, slots=True)
class Published:
    """What others have published of a benchmark that has a rule of its own."""

    title: str
    source: str
    """The place of the figures, and what they measure."""
    columns: tuple[str, ...]
    """Names of scores, those of `armorm.maths.benchmarks.own_scores`."""
    scores: Mapping[str, Mapping[str, float]]
    """Model to its scores, in 0..1."""


def _published(
    title: str, source: str, columns: tuple[str, ...], percentages: Mapping[str, Sequence[float]]
) -> Published:
    scores = {
        model: dict(zip(columns, (round(of / 100, 4) for of in row), strict=True)) for model, row in percentages.items()
    }
    return Published(title, source, columns, scores)


PUBLISHED: Final[Mapping[str, Published]] = {
    "rewardbench-2": _published(
        "RewardBench 2",
        "arXiv 2506.01937, table 3 (* as a judge)",
        ("overall", "Factuality", "Precise IF", "Math", "Safety", "Focus", "Ties"),
        {
            "INF-ORM-Llama3.1-70B": (76.5, 74.1, 41.9, 69.9, 96.4, 90.3, 86.2),
            "Claude Opus 4 (20250514)*": (76.5, 82.7, 41.9, 74.9, 89.5, 86.2, 83.7),
            "Llama-3.1-70B-Instruct-RM-RB2": (76.1, 81.3, 41.9, 69.9, 88.4, 86.5, 88.3),
            "Skywork-Reward-Gemma-2-27B": (75.8, 73.7, 40.3, 70.5, 94.2, 93.2, 82.6),
            "Claude 3.7 Sonnet (20250219)*": (75.4, 73.3, 54.4, 75.0, 90.3, 92.1, 67.2),
            "Skywork-Reward-Gemma-2-27B-v0.2": (75.3, 76.7, 37.5, 67.2, 96.9, 91.7, 81.8),
            "URM-LLaMa-3.1-8B": (73.9, 68.8, 45.0, 63.9, 91.8, 97.6, 76.5),
            "Skywork-Reward-Llama-3.1-8B": (73.1, 69.9, 42.5, 62.8, 93.3, 96.2, 74.1),
            "Llama-3.1-8B-Instruct-RM-RB2": (72.8, 74.3, 44.4, 61.7, 89.6, 90.7, 76.4),
            "LDL-Reward-Gemma-2-27B-v0.1": (72.5, 75.6, 35.0, 64.5, 92.2, 91.3, 76.3),
        },
    ),
    "rm-bench": _published(
        "RM-Bench",
        "its leaderboard (THU-KEG/RM-Bench-Leaderboard, 2025)",
        ("overall", "chat", "math", "code", "safety", "easy", "normal", "hard"),
        {
            "Skywork-Reward-Llama-3.1-8B": (70.1, 69.5, 60.6, 54.5, 95.7, 89.0, 74.7, 46.6),
            "URM-LLaMa-3.1-8B": (70.0, 71.2, 61.8, 54.1, 93.1, 84.0, 73.2, 53.0),
            "Nemotron-4-340B-Reward": (69.5, 71.2, 59.8, 59.4, 87.5, 81.0, 71.4, 56.1),
            "Llama-3-OffsetBias-RM-8B": (69.0, 71.3, 61.9, 53.2, 89.6, 84.6, 72.2, 50.2),
            "internlm2-20b-reward": (68.3, 63.1, 66.8, 56.7, 86.5, 82.6, 71.6, 50.7),
            "GRM-llama3-8B-sftreg": (68.2, 62.7, 62.5, 57.8, 90.0, 83.5, 72.7, 48.6),
            "ArmoRM-Llama3-8B-v0.1": (67.7, 67.8, 57.5, 53.1, 92.4, 82.2, 71.0, 49.8),
            "Skywork-Reward-Gemma-2-27B": (67.3, 69.5, 54.7, 53.2, 91.9, 78.0, 69.2, 54.9),
            "internlm2-7b-reward": (67.1, 61.7, 71.4, 49.7, 85.5, 85.4, 70.7, 45.1),
            "Eurus-RM-7b": (65.9, 59.9, 60.2, 56.9, 86.5, 87.2, 70.2, 40.2),
        },
    ),
    "judgebench": _published(
        "JudgeBench",
        "arXiv 2410.12784, tables 1 to 3, on its 350 pairs of GPT-4o's answers (* asked in both orders)",
        ("overall", "mmlu-pro", "livebench-reasoning", "livebench-math", "livecodebench"),
        {
            "o1-preview (Arena-Hard's prompt)*": (75.43, 66.23, 79.59, 85.71, 85.71),
            "o1-mini (Arena-Hard's prompt)*": (65.71, 58.44, 62.24, 82.14, 78.57),
            "Claude 3.5 Sonnet (Arena-Hard's prompt)*": (64.29, 62.34, 66.33, 66.07, 64.29),
            "Skywork-Reward-Gemma-2-27B": (64.29, 59.74, 66.33, 83.93, 50.00),
            "internlm2-20b-reward": (63.43, 62.34, 69.39, 66.07, 50.00),
            "Skywork-Reward-Llama-3.1-8B": (62.29, 59.09, 64.29, 76.79, 50.00),
            "internlm2-7b-reward": (59.43, 56.49, 61.22, 71.43, 50.00),
            "GRM-Gemma-2B-rewardmodel-ft": (59.43, 62.99, 53.06, 64.29, 54.76),
            "Skywork-Critic-Llama-3.1-70B*": (57.43, 55.84, 55.10, 73.21, 47.62),
            "GPT-4o (Arena-Hard's prompt)*": (56.57, 50.65, 54.08, 75.00, 59.52),
        },
    ),
}
"""Recipe of a benchmark to what others have published of it."""
