"""What the documentation says is true: its queries run, its commands exist, every view is named."""

import re
from pathlib import Path

import pytest
import typer

from armorm.features.catalog.query import query
from armorm.features.catalog.questions import ask, list_questions
from armorm.features.catalog.views import VIEWS
from armorm.features.sources import SOURCES
from armorm.features.sources.base import Source
from armorm.features.store import Store
from armorm.flows.cli.app import app
from armorm.flows.configuration.profiles import template
from armorm.flows.configuration.settings import load_settings

pytestmark = pytest.mark.usefixtures("in_process")

ROOT = Path(__file__).parent.parent.parent
README = (ROOT / "README.md").read_text()
DATASETS = (ROOT / "docs" / "datasets.md").read_text()
SECTIONS = {
    text.splitlines()[0].removeprefix("### ").strip("`"): text
    for text in re.split(r"^(?=##+ )", DATASETS, flags=re.MULTILINE)
}
EXAMPLES = [text for text in re.findall(r"```toml\n(.+?)```", DATASETS, re.DOTALL) if "[datasets." in text]
PAGE = (ROOT / "docs" / "queries.md").read_text()
QUERIES = re.findall(r"```sql\n(.+?)```", PAGE, re.DOTALL)


@pytest.fixture(scope="module")
def store(ran: Store) -> Store:
    return ran


@pytest.mark.parametrize("sql", [*QUERIES, *re.findall(r'armorm sql "(.+?)"', README + DATASETS)])
def test_the_queries_of_the_documentation_run(store: Store, sql: str) -> None:
    assert query(store, sql).rows


@pytest.mark.parametrize("name", [q.name for q in list_questions() if q.name != "changes_since"])
def test_the_questions_have_answers_on_a_store_that_was_run(store: Store, name: str) -> None:
    ((start,),) = query(store, "SELECT min(conversation_id) FROM conversations").rows
    assert ask(store, name, **({"conversation_id": start} if name == "neighbours" else {})).rows


def test_the_readme_names_every_view_dataset_and_only_real_commands() -> None:
    for view in VIEWS.glob("*.sql"):
        assert f"`{view.stem}`" in README
    for name, source in SOURCES.items():
        assert re.search(rf"`{name}` .*{source.upstream}.*{re.escape(source.licence)}", README), name
    group = typer.main.get_command(app)
    assert isinstance(group, typer.core.TyperGroup)
    assert set(re.findall(r"^\$ armorm ([\w-]+)", README + DATASETS + PAGE, re.MULTILINE)) <= group.commands.keys()


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_examples_of_datasets_are_valid(example: str, tmp_path: Path) -> None:
    config = tmp_path / "armorm.toml"
    others = re.sub(r"^\[datasets\..+?(?=^\[split\])", "", template(), flags=re.DOTALL | re.MULTILINE)
    config.write_text(f"{others}\n{example}")
    settings = load_settings(config)
    assert set(settings.datasets) == set(re.findall(r"^\[datasets\.([^].]+)\]", example, re.MULTILINE))
    for name, section in settings.datasets.items():
        assert section.source(name).licence
        assert section.options(name).keys() == section.source(name).options.keys()


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES.keys())
def test_every_dataset_has_a_section_with_all_its_settings(source: Source) -> None:
    row = next(line for line in SECTIONS["## What there is"].splitlines() if f"(#{source.name})" in line)
    section = SECTIONS[source.name]
    for text in (row, section):
        assert source.licence in " ".join(text.split())
    assert f"[{source.upstream}](https://" in section
    for objective, scale in source.scales.items():
        assert f"`{objective}`" in row or f"`-{objective.split('-', 1)[1]}`" in row
        assert str(scale) in row
    for name, option in source.options.items():
        assert re.search(rf"`{name} = \"?{re.escape(option.default)}\"?`", section), name
        for choice in option.choices:
            assert f'"{choice}"' in section, choice


def test_every_question_is_listed_with_its_parameters() -> None:
    for question in list_questions():
        parameters = ", ".join(f"`{parameter}`" for parameter in question.parameters)
        row = rf"^\| `{question.name}` \| .+\? \| {re.escape(parameters)} \|$"
        assert re.search(row, PAGE, re.MULTILINE), question.name


def test_links_lead_somewhere() -> None:
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for link in re.findall(r"\]\(([^)#]+?)\)", page.read_text()):
            assert link.startswith("https://") or (page.parent / link).exists(), (page, link)


def test_decisions_are_listed() -> None:
    listed = (ROOT / "docs" / "adr" / "README.md").read_text()
    for page in (ROOT / "docs" / "adr").glob("0*.md"):
        assert f"({page.name})" in listed
        assert page.read_text().startswith(f"# {page.name[:4]} ")
