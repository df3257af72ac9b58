"""The prompt's end by token ids, in the templates of known families, with a tokenizer that joins bytes."""

from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from armorm.errors import ExportError
from armorm.export.pattern import PromptEnd, Sample, find_pattern
from armorm.features.embedding.render import render
from armorm.features.sample.backbone import sample_texts
from armorm.release.export import probe_conversations

SPECIAL = [
    *("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|im_start|>", "<|im_end|>"),
    *("<s>", "</s>", "[INST]", "[/INST]", "<bos>", "<start_of_turn>", "<end_of_turn>"),
]

TEMPLATES = {
    "llama": "{{ '<|begin_of_text|>' }}{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n"
    "{{ m.content | trim }}<|eot_id|>{% endfor %}",
    "qwen": "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}",
    # As Qwen3: an empty thought in the last answer alone.
    "thinking": "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' and loop.last %}"
    "<think>\n\n</think>\n\n{% endif %}{{ m.content }}<|im_end|>\n{% endfor %}",
    "mistral": "<s>{% for m in messages %}{% if m.role == 'assistant' %} {{ m.content }}</s>{% else %}"
    "[INST] {{ m.content }}[/INST]{% endif %}{% endfor %}",
    "gemma": "<bos>{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    "<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n{{ m.content | trim }}<end_of_turn>\n"
    "{% endfor %}",
}

EXPECTED = {
    "llama": "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
    "qwen": "<|im_end|>\n<|im_start|>assistant\n",
    "thinking": "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n",
    "mistral": "[/INST]",
    "gemma": "<end_of_turn>\n<start_of_turn>model\n",
}


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trained.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=800,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    trained.train_from_iterator([*sample_texts(), "a\n\nb\n\n\nc\n\n\n\n" * 200], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=trained)


def found(tokenizer: Any, template: str) -> tuple[PromptEnd, list[Sample]]:
    tokenizer.chat_template = template
    rendered = render(tokenizer, probe_conversations()).rendered
    samples = [Sample(one.token_ids, one.n_prompt_tokens) for one in rendered if one.n_prompt_tokens]
    return find_pattern(samples), samples


@pytest.mark.parametrize("family", TEMPLATES)
def test_every_family_has_a_pattern(family: str, tokenizer: Any) -> None:
    prompt_end, samples = found(tokenizer, TEMPLATES[family])
    assert len(samples) > 150
    assert all(map(prompt_end.finds, samples))
    text = tokenizer.decode(prompt_end.pattern)
    assert EXPECTED[family].startswith(text), text
    assert any(special in text for special in SPECIAL), "what tells it from plain text"


def test_llamas_pattern_is_the_published_one(tokenizer: Any) -> None:
    prompt_end, _ = found(tokenizer, TEMPLATES["llama"])
    assert (tokenizer.decode(prompt_end.pattern), prompt_end.offset) == (EXPECTED["llama"], 0)


def test_a_template_of_plain_text_whose_seams_are_joined_is_refused(tokenizer: Any) -> None:
    with pytest.raises(ExportError, match=r"\bchat_template\b.*\[backbone\]"):
        found(tokenizer, "{% for m in messages %}{{ m.content }}\n{% endfor %}")
