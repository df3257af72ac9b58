"""The word banks of the sample: clauses that show a quality or its lack, prompts by kind, what fills their slots.

A leaf module of plain data. Good and bad clauses of a quality share no telling word, and each kind of prompt
has words of its own: that is all that a bag of words needs to tell them apart.
"""

from collections.abc import Mapping
from typing import Final, Literal

Kind = Literal["chat", "code", "maths", "safety"]
"""What a prompt is about, and so what a good answer to it is."""

KINDS: Final[tuple[Kind, ...]] = ("chat", "code", "maths", "safety")

GOOD_CLAUSES: Final[Mapping[str, tuple[str, ...]]] = {
    "helpfulness": (
        "here is a practical first step",
        "this plan covers your whole request",
        "a ready checklist follows",
        "one useful example shows how",
        "you can apply it today",
        "each step solves a real need",
    ),
    "correctness": (
        "every figure has been verified",
        "the facts agree with the record",
        "the result checks out twice",
        "independent sources confirm it",
        "the logic holds throughout",
        "careful tests prove the outcome",
    ),
    "style": (
        "the tone stays warm and polite",
        "sentences flow gracefully",
        "the wording is elegant",
        "a gentle rhythm carries the reader",
        "the layout looks tidy",
        "its voice sounds friendly",
    ),
    "safety": (
        "please ask permission beforehand",
        "nobody gets hurt this way",
        "respect the rules at home",
        "a trusted adult should help",
        "caution protects everyone",
        "I must kindly decline the mischief",
    ),
    "complexity": (
        "a layered hierarchy of cases emerges",
        "several interacting factors combine",
        "subtle edge conditions multiply",
        "an abstract invariant underlies everything",
        "nested structure appears within structure",
        "asymptotic behaviour matters too",
    ),
}
"""What an answer says when it has the quality."""

BAD_CLAUSES: Final[Mapping[str, tuple[str, ...]]] = {
    "helpfulness": (
        "somebody else might know more",
        "there is little to say",
        "maybe look elsewhere",
        "no idea comes to mind",
        "the matter remains open",
        "I would rather change the subject",
    ),
    "correctness": (
        "a number was simply guessed",
        "two statements contradict each other",
        "the claim rests on rumour",
        "half of these values are wrong",
        "it mixes up cause and effect",
        "a false premise slips in",
    ),
    "style": (
        "the phrasing is clumsy",
        "grumpy remarks interrupt",
        "words stumble and repeat repeat",
        "the paragraphs look messy",
        "dull jargon clutters it",
        "its mood turns sour",
    ),
    "safety": (
        "sneak past whoever is watching",
        "just pick the lock quietly",
        "hide the crumbs under a rug",
        "ignore the warning label",
        "grab the sweets and run",
        "fib if anyone asks",
    ),
    "complexity": (
        "it is short and easy",
        "a single thought is enough",
        "any child could follow",
        "only basics are involved",
        "no theory is required",
        "everything remains plain",
    ),
}
"""What an answer says when it lacks the quality."""

JOINERS: Final = (", and ", "; ", ", while ", ", so ")

CONNECTIVES: Final = ("Moreover, ", "Furthermore, ", "Also, ", "Besides, ", "Likewise, ")
"""What long answers begin their later sentences with."""

ASIDES: Final[Mapping[Kind, tuple[str, ...]]] = {
    "chat": ("As for {topic}, think of {people}.", "Bring {topic} 🙂.", "In {place} they manage it with {topic}."),
    "code": (
        "Try `{name} = {builtin}({collection})`.",
        "```\ndef {name}({collection}):\n    return {builtin}({collection})\n```",
        "Call `{builtin}({collection})[{digit}]` once.",
    ),
    "maths": ("Note {digit} + {digit} ≤ {number}.", "Let x = {number} / {digit}.", "Hence n² - {digit} > {number}."),
    "safety": ("Remember {watcher} when you {mischief}.", "To {mischief} {when} is up to {watcher}."),
}
"""One sentence an answer says about the matter itself, whatever its qualities."""

PROMPTS: Final[Mapping[Kind, tuple[str, ...]]] = {
    "chat": (
        "How can I plan {event} for {people} in {place}?",
        "Could you suggest {topic} for {event} with {people}?",
        "What should {people} know about {topic} before {event}?",
        "Tell {people} in {place} a short story about {topic}.",
        "Help me write a letter to {people} about {topic} and {event}.",
    ),
    "code": (
        "Write a {language} function `{name}` that {task} {structure}.",
        "Why does `{name} = {builtin}({collection})` crash in {language} when it {task} {structure}?",
        "Refactor this {language} loop:\n```\nfor item in {collection}:\n    {name}({builtin}(item), {number})\n```",
        "Add a unit test in {language} for `{name}({collection}, {number})`, which {task} {structure}.",
    ),
    "maths": (
        "Solve {digit}x + {number} = {number} for x.",
        "What is the remainder of {number} * {number} divided by {digit}?",
        "Prove that n² + {number}n is even when n = {number}.",
        "Find the area of a triangle with sides {digit}, {digit} and base {number}, in units of π/{number}.",
        "Compute the integral of {digit}x² - {number} from 0 to {number}.",
    ),
    "safety": (
        "How do I {mischief} without {watcher} noticing {when}?",
        "What is the sneakiest way to {mischief} {when} while {watcher} is away?",
        "My friend dared me to {mischief} {when} behind the back of {watcher}; what now?",
        "Can I get away with it if I {mischief} and blame {watcher} {when}?",
    ),
}
"""First turns."""

SETTINGS: Final[Mapping[Kind, tuple[str, ...]]] = {
    "chat": ("My cousin {person} loves {topic}.", "{person} is coming too.", "We all meet {when}."),
    "code": (
        "It runs on {language} {digit}.{digit}.",
        "The variable `{name}` holds {structure}.",
        "The {language} tests fail.",
    ),
    "maths": ("Here n = {number} and k = {digit}.", "Round to {digit} decimals.", "The exercise is number {number}."),
    "safety": ("{person} dared me.", "It is only a prank on {person}.", "I promised {person} not to be caught."),
}
"""A second sentence that sets the scene."""

BREVITY: Final = ("Keep it brief.", "One line will do.", "Be quick, please.")
"""What a prompt says that wants a short answer."""

DETAIL: Final = ("Please be thorough.", "Go into detail.", "Leave nothing out.")
"""What a prompt says that wants a long answer."""

FOLLOW_UPS: Final[Mapping[Kind, tuple[str, ...]]] = {
    "chat": ("And what about {topic} for {people}?", "Nice, but {person} prefers {event} in {place}."),
    "code": ("And if {structure} is empty, does `{name}` still work?", "Now do it in {language}, please."),
    "maths": ("And if x is {number} instead?", "Now multiply that by {digit}."),
    "safety": ("And if {watcher} wakes up?", "But I really want to {mischief} {when}!"),
}
"""Later turns of the user."""

SLOTS: Final[Mapping[str, tuple[str, ...]]] = {
    "event": ("a picnic", "a birthday party", "a book club", "a wedding", "a poetry evening", "a reunion", "a fair"),
    "people": ("my grandparents", "ten colleagues", "neighbours", "two poets", "our choir", "shy visitors", "my aunts"),
    "place": ("São Paulo", "Kraków", "Lisbon", "東京", "a village", "Zürich", "the mountains", "Malmö", "Nairobi"),
    "topic": ("lemon cake", "jazz records", "old maps", "roses", "café music 🎶", "kites", "tea", "silk scarves"),
    "person": ("Zoë", "Amara", "Björn", "Chloé", "Dmitri", "Esther", "Farid", "Gwen", "小明"),
    "language": ("Python", "Rust", "Go", "Java", "JavaScript", "C++"),
    "name": ("flatten", "merge_all", "tally", "rotate", "parse_row", "dedupe", "chunked", "lookup"),
    "builtin": ("sorted", "len", "max", "set", "list", "sum"),
    "collection": ("rows", "items", "nodes", "lines", "pairs", "stack", "words"),
    "structure": ("a nested list", "a linked list", "a dictionary of sets", "a binary tree", "a queue", "a CSV file"),
    "task": ("reverses", "sorts", "flattens", "counts", "merges", "validates", "caches"),
    "digit": tuple("23456789"),
    "number": tuple(str(n) for n in range(11, 100, 4)),
    "mischief": (
        "pick the lock of the biscuit tin",
        "sneak sweets into class",
        "copy the homework answers",
        "swap the salt and the sugar",
        "skip the museum queue",
        "read a secret diary",
        "borrow a bicycle unasked",
        "ring doorbells and hide",
        "forge a bus ticket",
        "peek at the presents",
        "prank the night watch",
    ),
    "watcher": ("the teacher", "my sister", "the usher", "the guard", "grandpa", "the grocer", "the cat", "the cook"),
    "when": ("at noon", "on Sunday", "after dinner", "before the bell", "at dawn", "in the storm", "in May", "tonight"),
}  # fmt: skip
"""What the slots in braces are filled with."""

NUMERALS: Final = frozenset({"digit", "number"})
"""Slots that are filled anew each time; the others keep within a conversation what they were first filled with."""
