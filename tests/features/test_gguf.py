"""A GGUF file as a backbone: which one it is, what it computes, and what is refused."""

import json
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from armorm.features.conversation import single_turn
from armorm.features.embedding import gguf_file
from armorm.features.embedding.backbone import load
from armorm.features.embedding.canary import embed_canaries
from armorm.features.embedding.fingerprint import BackboneSettings, find_folder, read_fingerprint
from armorm.features.embedding.forecast import backbone_files
from armorm.features.embedding.packs import TokenSequence, Wanted
from armorm.features.embedding.render import render
from armorm.features.errors import BackboneError
from armorm.features.store import Store
from armorm.features.upkeep.doctor import examine
from tests.features.tiny_gguf import model, write_gguf

pytest.importorskip("gguf")
pytest.importorskip("accelerate")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the user's."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file, which no test may change."""
    return write_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf")


@pytest.fixture
def file(written: Path, tmp_path: Path) -> Path:
    """The file, alone in a folder."""
    (tmp_path / "here").mkdir()
    return Path(shutil.copy(written, tmp_path / "here"))


def backbone_id(path: Path) -> str:
    return read_fingerprint(BackboneSettings(str(path))).backbone_id


def no_reading(*_: object) -> None:
    pytest.fail("read the file again")


def test_its_content_alone_decides_which_backbone_it_is(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = read_fingerprint(BackboneSettings(str(file)))
    assert first.record["weights"] == {"model.gguf": gguf_file.file_sha256(file)}
    (file.parent / "config.json").write_text("no part of it")
    moved = file.rename(file.with_name("renamed.gguf"))
    with monkeypatch.context() as patched:
        patched.setattr(gguf_file, "_write", no_reading)
        again = read_fingerprint(BackboneSettings(str(moved)))
    assert (again.backbone_id, again.folder) == (first.backbone_id, first.folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another machine"))
    elsewhere = read_fingerprint(BackboneSettings(str(moved)))
    assert (elsewhere.backbone_id, elsewhere.record) == (first.backbone_id, first.record)
    assert elsewhere.folder != first.folder
    assert gguf_file._checksums(elsewhere.folder) == gguf_file._checksums(first.folder)


def test_its_vectors_are_those_of_the_model_that_it_was_written_from(file: Path) -> None:
    settings = BackboneSettings(str(file))
    backbone = load(settings, read_fingerprint(settings))
    (rendered,) = render(backbone.tokenizer, [single_turn("hello", "the end")], system="template").rendered
    n_tokens = len(rendered.token_ids)
    whole = TokenSequence(rendered.token_ids, (Wanted("conversation", "one", n_tokens - 1, n_tokens),))
    with torch.inference_mode():
        expected_LD = model()(input_ids=torch.tensor([rendered.token_ids])).last_hidden_state[0].numpy()
    ((_, vector_D),) = backbone.embed([whole], token_budget=4096)
    np.testing.assert_allclose(vector_D, expected_LD[-1], atol=1e-4)
    assert backbone.tokenizer.convert_ids_to_tokens(rendered.token_ids)[:3] == ["<bos>", "<turn>", "u"]


def test_its_vectors_are_those_of_the_folder_in_the_cache(file: Path) -> None:
    settings = BackboneSettings(str(file))
    folder = BackboneSettings(str(find_folder(settings)))
    one, other = (embed_canaries(load(of, read_fingerprint(of)), token_budget=4096) for of in (settings, folder))
    np.testing.assert_array_equal(one, other)
    assert "quantization_config" not in json.loads(Path(folder.path, "config.json").read_text())
    assert backbone_id(Path(folder.path)) != backbone_id(file)


@pytest.mark.parametrize("damage", ["a byte", "a file gone", "a file more", "no checksums", "empty"])
def test_a_damaged_folder_is_made_anew(damage: str, file: Path) -> None:
    folder = find_folder(BackboneSettings(str(file)))
    before = gguf_file._checksums(folder)
    if damage == "a byte":
        weights = bytearray((folder / "model.safetensors").read_bytes())
        weights[-1] ^= 1
        (folder / "model.safetensors").write_bytes(weights)
    elif damage == "a file gone":
        (folder / "tokenizer.json").unlink()
    elif damage == "a file more":
        (folder / "adapter_config.json").write_text("{}")
    elif damage == "no checksums":
        (folder / gguf_file.CHECKSUMS).unlink()
    else:
        shutil.rmtree(folder)
        folder.mkdir()
    assert not gguf_file.is_whole(folder)
    assert find_folder(BackboneSettings(str(file))) == folder
    assert gguf_file.is_whole(folder)
    assert gguf_file._checksums(folder) == before
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_what_a_killed_process_left_is_never_used(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(path: Path, scratch: Path, made: Path) -> None:
        made.mkdir()
        (made / "config.json").write_text("{}")
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(gguf_file, "_write", killed)
        with pytest.raises(KeyboardInterrupt):
            find_folder(BackboneSettings(str(file)))
    assert not gguf_file.cached(file).exists()
    assert gguf_file.is_whole(find_folder(BackboneSettings(str(file))))


def test_of_several_at_once_all_get_the_same_whole_folder(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ready = find_folder(BackboneSettings(str(file)))
    together, results = threading.Barrier(4), list[Path]()
    content = shutil.move(ready, ready.with_name("aside"))

    def copy(path: Path, scratch: Path, made: Path) -> None:
        shutil.copytree(content, made, ignore=shutil.ignore_patterns(gguf_file.CHECKSUMS))
        together.wait(timeout=60)

    monkeypatch.setattr(gguf_file, "_write", copy)
    threads = [threading.Thread(target=lambda: results.append(gguf_file.in_floats(file))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [ready] * 4
    assert gguf_file.is_whole(ready)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r" b'';.*\bGGUF\b"),
        (b"PK\3\4 an archive", r" b'PK\\x03\\x04';.*\bGGUF\b"),
        (b"GGUF", r"\bGGUF\b.*\btransformers\b"),
        (b"GGUF" + bytes(100), r"\bGGUF\b.*\btransformers\b"),
    ],
)
def test_what_is_no_gguf_is_refused(content: bytes, message: str, tmp_path: Path, cache: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(content)
    with pytest.raises(BackboneError, match=message):
        backbone_id(tmp_path / "model.gguf")
    assert list(cache.rglob("*.json")) == []


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.999])
def test_a_file_that_was_cut_is_refused(share: float, file: Path, cache: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: int(share * len(content))])
    with pytest.raises(BackboneError, match=r"\bGGUF\b.*\btransformers\b"):
        backbone_id(file)
    assert list(cache.rglob("*.json")) == []


@pytest.mark.parametrize(
    ("architecture", "layers", "message"),
    [
        ("unheard", 2, r"\bunheard\b"),
        ("llama", 3, r"\blayers\.2\."),
        ("llama", 100_000, r"\bnum_hidden_layers 100000\b"),
        ("llama", 900, r" [\d,]+ parameters\b"),
    ],
)
def test_a_model_that_cannot_be_read_is_refused(architecture: str, layers: int, message: str, tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "model.gguf", architecture=architecture, layers=layers)
    with pytest.raises(BackboneError, match=message):
        backbone_id(path)


def test_a_missing_package_is_named(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gguf_file, "find_spec", lambda name: None)
    with pytest.raises(BackboneError, match=r"\bgguf\b.*\baccelerate\b.*`pip install 'armorm\[gguf\]'`"):
        backbone_id(file)


@pytest.mark.parametrize(
    ("name", "message"),
    [("models/none.gguf", r"^(?!.*\bHub\b).*\bnone\.gguf: "), ("file.bin", r"\bfile\.bin: .*\*\.gguf\b")],
)
def test_another_path_is_refused(name: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file.bin").touch()
    with pytest.raises(BackboneError, match=message):
        backbone_id(Path(name))


def test_the_forecast_and_the_doctor_tell_of_the_file(file: Path, tmp_path: Path, cache: Path) -> None:
    store, settings = Store(tmp_path / "store"), BackboneSettings(str(file))

    def told(check: str) -> str:
        return next(one.what for one in examine(store, lambda: store, settings) if one.check == check)

    files = backbone_files(settings)
    assert (files.n_files, files.size_bytes, files.problem) == (1, file.stat().st_size, None)
    assert "float32" in told("backbone")
    assert not cache.exists()
    find_folder(settings)
    assert "weights" in told("backbone")
    assert "float32" not in told("backbone")
    file.write_bytes(b"no GGUF")
    assert "b'no G'" in told("backbone")
