"""Canaries: the same vectors on every machine and day, or nothing is appended."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from armorm.features.catalog.query import query
from armorm.features.embedding import backbone as backbone_module
from armorm.features.embedding.backbone import Backbone, load
from armorm.features.embedding.canary import BANDS, CANARIES, SLOT, FirstCanaries, distances, embed_canaries
from armorm.features.embedding.embed import EmbedSettings, embed_missing
from armorm.features.embedding.fingerprint import BackboneSettings, read_fingerprint
from armorm.features.embedding.packs import Pack
from armorm.features.errors import BackboneError, CanaryError
from armorm.features.store import Writer, content_id
from armorm.features.store.json_records import read_summary
from tests.features import tiny
from tests.features.test_robust import FORWARD, NO_SYSTEM, Forward, fill, why_embed

SETTINGS = EmbedSettings(token_budget=512)


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> BackboneSettings:
    return BackboneSettings(str(tiny.write_backbone(tmp_path_factory.mktemp("backbone"))))


def shaking(by: float) -> Forward:
    """Moves every vector by a share of its length."""

    def forward(model: Any, last_layer: Any, pack: Pack) -> torch.Tensor:
        states_WD = FORWARD(model, last_layer, pack)
        if len(pack.features[0].id) == 1:  # what loading probes with
            return states_WD
        noise_WD = torch.randn(states_WD.shape, generator=torch.Generator().manual_seed(0))
        return states_WD + by * states_WD.norm(dim=1, keepdim=True) * noise_WD / noise_WD.norm(dim=1, keepdim=True)

    return forward


def test_the_conversations_are_fixed_and_of_many_kinds() -> None:
    assert content_id(CANARIES) == "14337eacf4879a7787e2bd313f19a15f"  # another value asks for another STAGE_VERSION
    assert len(set(CANARIES)) == 64
    assert len({tuple(turn for turn in one if turn[0] != "system") for one in CANARIES}) == 64
    assert {len(one) for one in CANARIES} == {2, 3, 4}
    scripts = {ord(character) >> 8 for one in CANARIES for _, text in one for character in text}
    assert len(scripts) > 15


def test_they_are_kept_at_the_first_run_and_compared_at_the_next(writer: Writer, backbone: BackboneSettings) -> None:
    fill(writer, range(8))
    first = embed_missing(writer, backbone, SETTINGS)
    assert first.canary_distance == 0
    kept = writer.store.head().artifacts[f"{SLOT}/{first.backbone_id}"]
    summary = read_summary(kept, FirstCanaries)
    assert (summary.band, summary.dtype) == (0.001, "float32")
    assert summary.machine
    fill(writer, range(12))
    second = embed_missing(writer, backbone, replace(SETTINGS, token_budget=100))
    assert second.canary_distance < 1e-5
    assert writer.store.head().artifacts[f"{SLOT}/{first.backbone_id}"] == kept


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize("dtype", BANDS)
def test_outside_of_the_band_nothing_is_appended(
    writer: Writer, backbone: BackboneSettings, monkeypatch: pytest.MonkeyPatch, dtype: Any
) -> None:
    settings = replace(backbone, dtype=dtype)
    fill(writer, range(8))
    embed_missing(writer, settings, SETTINGS)
    fill(writer, range(12))
    count = "SELECT count(*) FROM features"
    before = query(writer.store, count).rows
    monkeypatch.setattr(backbone_module, "forward", shaking(2 * BANDS[dtype]))
    with pytest.raises(CanaryError, match=rf"\bcanary \d+\b.*\b{BANDS[dtype]:g}\b") as error:
        embed_missing(writer, settings, SETTINGS)
    assert error.value.band == BANDS[dtype]
    assert error.value.distance == pytest.approx(2 * BANDS[dtype], rel=0.2)
    assert query(writer.store, count).rows == before
    monkeypatch.setattr(backbone_module, "forward", shaking(BANDS[dtype] / 2))
    assert embed_missing(writer, settings, SETTINGS).n_conversations == 4


@pytest.mark.parametrize("dtype", BANDS)
@pytest.mark.parametrize("architecture", ["llama", "gemma2"])
def test_the_band_is_wide_enough_for_passes_of_any_size(tmp_path: Path, architecture: str, dtype: Any) -> None:
    settings = BackboneSettings(str(tiny.write_backbone(tmp_path, architecture=architecture)), dtype=dtype)
    loaded = load(settings, read_fingerprint(settings))
    alone, together = (embed_canaries(loaded, token_budget=budget) for budget in (1, 4096))
    assert distances(alone, together).max() < BANDS[dtype] / 2


@pytest.mark.parametrize("other", ["no_bos", "plain"])
def test_another_template_is_far_outside(tmp_path: Path, other: str) -> None:
    vectors = []
    for template in ("bos", other):
        settings = BackboneSettings(str(tiny.write_backbone(tmp_path / template, template=template)))
        vectors.append(embed_canaries(load(settings, read_fingerprint(settings)), token_budget=4096))
    apart_N = distances(*vectors)
    assert np.median(apart_N) > BANDS["bfloat16"]
    assert apart_N.max() > 3 * BANDS["bfloat16"]


def test_a_system_turn_is_left_out_where_the_template_refuses_it(tmp_path: Path) -> None:
    folder = tiny.write_backbone(tmp_path)
    (folder / "chat_template.jinja").write_text(NO_SYSTEM + tiny.TEMPLATES["bos"])
    settings = BackboneSettings(str(folder))
    assert embed_canaries(load(settings, read_fingerprint(settings)), token_budget=4096).shape == (64, 32)


@pytest.mark.parametrize("template", ["{{ 1 / 0 }}", "{{ raise_exception('no turns') }}", "{{ messages[9].x.y }}"])
def test_a_template_that_renders_nothing_stops_the_run_in_one_line(
    writer: Writer, tmp_path: Path, template: str
) -> None:
    folder = tiny.write_backbone(tmp_path / "backbone")
    (folder / "chat_template.jinja").write_text(template)
    fill(writer, range(4))
    with pytest.raises(BackboneError, match=r"\btemplate\b.*\buser, assistant\b") as error:
        embed_missing(writer, BackboneSettings(str(folder)), SETTINGS)
    assert "\n" not in str(error.value)


def test_a_backbone_without_usable_vectors_stops_the_run(
    writer: Writer, backbone: BackboneSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(writer, range(4))
    run = Backbone.run
    monkeypatch.setattr(Backbone, "run", lambda *given: [(of, vector * np.nan) for of, vector in run(*given)])
    with pytest.raises(BackboneError, match=r"\bnot_finite\b.*\b64 of 64\b"):
        embed_missing(writer, backbone, SETTINGS)


@pytest.mark.usefixtures("in_process")
def test_canaries_are_no_features_and_are_made_again_where_they_are_lost(
    writer: Writer, backbone: BackboneSettings
) -> None:
    fill(writer, range(4))
    backbone_id = embed_missing(writer, backbone, SETTINGS).backbone_id
    before = writer.store.head()
    assert query(writer.store, "SELECT count(*) FROM features").rows == [(5,)]
    writer.commit_all([], remove=[f"{SLOT}/{backbone_id}"])
    assert "canaries" in str(why_embed(writer, backbone, "float32"))
    assert embed_missing(writer, backbone, SETTINGS).n_conversations == 0
    assert why_embed(writer, backbone, "float32") is None
    assert writer.store.head().snapshot_id == before.snapshot_id
