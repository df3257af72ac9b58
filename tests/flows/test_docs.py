"""What the documentation says is true: its queries run, its commands exist, every view is named."""

import re
from pathlib import Path

import pytest

from features.catalog import VIEWS, query
from features.sources import SOURCES
from features.store import Store
from flows.cli import app
from flows.pipeline import pipeline
from tests.flows.conftest import write_config

ROOT = Path(__file__).parent.parent.parent
README = (ROOT / "README.md").read_text()
QUERIES = re.findall(r"```sql\n(.+?)```", (ROOT / "docs" / "queries.md").read_text(), re.DOTALL)


@pytest.fixture(scope="module")
def store(sample: Path, tmp_path_factory: pytest.TempPathFactory, server: None) -> Store:
    folder = tmp_path_factory.mktemp("docs")
    pipeline(write_config(folder, sample))
    return Store(folder / "store")


@pytest.mark.parametrize("sql", [*QUERIES, *re.findall(r'armorm sql "(.+?)"', README)])
def test_the_queries_of_the_documentation_run(store: Store, sql: str) -> None:
    assert query(store, sql).rows


def test_the_readme_names_every_view_dataset_and_only_real_commands() -> None:
    for view in VIEWS.glob("*.sql"):
        assert f"`{view.stem}`" in README
    for name, source in SOURCES.items():
        assert re.search(rf"`{name}` .*{source.upstream}.*{re.escape(source.licence)}", README), name
    commands = {command.name or getattr(command.callback, "__name__", "") for command in app.registered_commands}
    assert set(re.findall(r"^\$ armorm (\w+)", README, re.MULTILINE)) <= commands


def test_links_lead_somewhere() -> None:
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for link in re.findall(r"\]\(([^)#]+?)\)", page.read_text()):
            assert link.startswith("https://") or (page.parent / link).exists(), (page, link)


def test_decisions_are_listed() -> None:
    listed = (ROOT / "docs" / "adr" / "README.md").read_text()
    for page in (ROOT / "docs" / "adr").glob("0*.md"):
        assert f"({page.name})" in listed
        assert page.read_text().startswith(f"# {page.name[:4]} ")
