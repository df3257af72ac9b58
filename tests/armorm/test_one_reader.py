"""One reader: for rows in every form, ingest, `check` and `score` see the same messages, byte for byte."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from armorm.features.conversation import Conversation, SplitFractions, canonical_bytes
from armorm.features.ingest.dataset import DatasetFiles
from armorm.features.ingest.native import read_rows
from armorm.features.ingest.normalise import Rules, normalise
from armorm.features.ingest.preview import preview
from armorm.features.ingest.requests import read_requests
from armorm.features.sources.described import form_of
from armorm.features.sources.own import Form, source_of
from tests.strategies import conversations, texts

Row = dict[str, Any]
Drawn = tuple[str, Row, list[Row]]
"""A form, its description, and rows of it."""


def as_given(draw: st.DrawFn, messages: Conversation) -> Any:
    """Messages as somebody may have written them."""
    how = draw(st.sampled_from(["roles", "ShareGPT", "parts", "columns", "JSON"]))
    roles, contents = zip(*messages, strict=True)
    if how == "columns":
        return {"role": list(roles), "content": list(contents)}
    if how == "ShareGPT":
        names = {"user": "human", "assistant": "gpt"}
        return [{"from": names.get(role, role), "value": content} for role, content in messages]
    if how == "parts":
        return [{"role": role, "content": [{"type": "text", "text": content}]} for role, content in messages]
    turns = [{"role": role, "content": content} for role, content in messages]
    return json.dumps(turns) if how == "JSON" else turns


@st.composite
def rows_of_a_form(draw: st.DrawFn) -> Drawn:
    """Rows of one of all forms, as texts or messages; each row's prompt is its own."""
    kind = draw(st.sampled_from(["ratings", "pairs", "verdict", "lists"]))
    style = draw(st.sampled_from(["text", "messages"]))
    described: Row = {"style": style, "system": "rules"} | ({"prompt": "q"} if style == "text" else {})
    rows: list[Row] = []
    for number in range(draw(st.integers(1, 4))):
        (_, question), *others = draw(conversations().filter(lambda turns: turns[0][0] == "user"))
        prompt = (("user", f"{number} {question}"), *others[:-1])
        row: Row = {"q": prompt[0][1], "rules": draw(st.none() | texts | st.just(""))}

        def answer(prompt: Conversation = prompt) -> Any:
            text = draw(texts)
            return text if style == "text" else as_given(draw, (*prompt, ("assistant", text)))

        if kind == "ratings":
            row |= {"answer": answer(), "stars": draw(st.integers(1, 5))}
        elif kind == "lists":
            row |= {side: [answer() for _ in range(draw(st.integers(1, 3)))] for side in ("good", "bad")}
        else:
            row |= {"a": answer(), "b": answer(), "winner": draw(st.sampled_from(["a", "b"]))}
        rows.append(row)
    described |= {
        "ratings": {"response": "answer", "objectives": {"stars": {"lo": 1, "hi": 5}}},
        "pairs": {"chosen": "a", "rejected": "b"},
        "verdict": {"answers": ["a", "b"], "verdict": "winner"},
        "lists": {"chosen": "good", "rejected": "bad"},
    }[kind]
    return kind, described, rows


def ingested(form: Form, file: Path) -> list[dict[int, set[bytes]]]:
    """What ingest and check see of each row that is kept, in canonical bytes."""
    source = source_of("mine", form, licence="", evaluation=True)
    rules = Rules(source, {}, SplitFractions())
    of_ingest, of_check = dict[int, set[bytes]](), dict[int, set[bytes]]()
    for native in read_rows(file):
        tables = normalise(rules, [native], file=file.name)
        if tables["native_rows"]["outcome"].to_pylist() == ["kept"]:
            of_ingest[native.line] = {bytes_of(row) for row in tables["conversations"].to_pylist()}
    seen = preview(DatasetFiles(source, file, {}), SplitFractions(), n_rows=10)
    for row in seen.rows:
        used = [rating["conversation_id"] for rating in row.ratings]
        used += [pair[side] for pair in row.pairs for side in ("chosen_id", "rejected_id")]
        if used:
            of_check[row.line] = {bytes_of(seen.conversations[id]) for id in used}
    return [of_ingest, of_check]


def bytes_of(row: Any) -> bytes:
    return canonical_bytes(tuple([(turn["role"], turn["content"]) for turn in row["messages"]]))


@settings(deadline=None, max_examples=60)
@given(rows_of_a_form())
def test_ingest_check_and_score_see_the_same_messages(drawn: Drawn) -> None:
    kind, described, rows = drawn
    form = form_of(kind, described)
    with TemporaryDirectory() as folder:
        file = Path(folder) / "rows.jsonl"
        file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        scored: dict[int, set[bytes]] = {}
        for request in read_requests(file, [form]):
            scored.setdefault(request.line, set()).add(canonical_bytes(request.messages))
        assert scored.keys() == {*range(1, len(rows) + 1)}
        of_ingest, of_check = ingested(form, file)
    for line, messages in scored.items():
        if len(messages) > 1 or kind == "ratings":  # else both sides of a pair are one answer
            assert of_ingest[line] <= messages
            assert of_ingest[line] == of_check[line]
            assert kind == "lists" or of_ingest[line] == messages
