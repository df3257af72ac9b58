"""Commands about the store itself: names, integrity, collection, and whether all is in order."""

from dataclasses import asdict
from typing import Annotated

import typer

from armorm.flows.cli.options import DEFAULT_CONFIG, As, At, Config, Format, existing_store
from armorm.flows.configuration.settings import load_settings
from armorm.flows.runlog import console

app = typer.Typer()


@app.command()
def tag(
    name: Annotated[str, typer.Argument(help="The name; without one, all names are listed.")] = "",
    at: At = "head",
    delete: Annotated[bool, typer.Option("--delete", help="Delete the name.")] = False,
    config: Config = DEFAULT_CONFIG,
    format: As = Format.table,
) -> None:
    """Give a name to a snapshot, to find and to keep it by; or list all names.

    Example: `armorm tag before-cleaning`
    """
    from armorm.features.store import pointers

    store = existing_store(config)
    if name:
        with store.writing(f"armorm tag {name}") as writer:
            if delete:
                pointers.untag(writer, name)
            else:
                pointers.tag(writer, name, store.snapshot(at))
    listed = sorted(store.head().pointers.items())
    if format is Format.json:
        console.print_json({name: asdict(pointer) for name, pointer in listed})
        return
    console.print_table(
        ["name", "kind", "id", "snapshot", "set at"],
        [(name, pointer.kind, pointer.id, pointer.number, pointer.set_at) for name, pointer in listed],
    )


@app.command()
def promote(
    kind: Annotated[str, typer.Argument(help="`model` or `backbone`.")],
    id: Annotated[str, typer.Argument(help="Its id, or the beginning of it.")],
    config: Config = DEFAULT_CONFIG,
) -> None:
    """Make a model, or a backbone, the one that is used where none is named; only a pointer moves.

    Example: `armorm promote model 720ee6b9`
    """
    from armorm.features.store import pointers

    kinds = {promoted: promoted for promoted in pointers.PROMOTED}
    if kind not in kinds:
        raise typer.BadParameter(f"got {kind}; expected {' or '.join(kinds)}")
    store = existing_store(config)
    with store.writing(f"armorm promote {kind}") as writer:
        pointer = pointers.promote(writer, kinds[kind], id)
    print(f"{kind}: {pointer.id}, of snapshot {pointer.number}")


@app.command()
def rollback(
    name: Annotated[str, typer.Argument(help="`model`, `backbone` or a tag.")], config: Config = DEFAULT_CONFIG
) -> None:
    """Point a name to what it pointed to before.

    Example: `armorm rollback model`
    """
    from armorm.features.store import pointers

    with existing_store(config).writing(f"armorm rollback {name}") as writer:
        pointer = pointers.rollback(writer, name)
    print(f"{name}: {pointer.id}, of snapshot {pointer.number}")


@app.command()
def verify(
    sample: Annotated[float, typer.Option("--sample", min=0, max=1, help="Share of the objects, at random.")] = 1.0,
    repair: Annotated[
        bool, typer.Option("--repair", help="Move damaged files to the trash, so that the next run makes them again.")
    ] = False,
    config: Config = DEFAULT_CONFIG,
    format: As = Format.table,
) -> None:
    """Compare every manifest, object and published model with its checksums; exit code 1 if any is damaged.

    Example: `armorm verify --repair`
    """
    from armorm.features.upkeep.verify import quarantine
    from armorm.features.upkeep.verify import verify as compare
    from armorm.stages.model import check_model_folders, rewrite_model_folders

    store, models = existing_store(config), load_settings(config).models_path
    with console.progress("comparing checksums", of_bytes=True) as on_progress:
        found = compare(store, share=sample, seed=int.from_bytes(_entropy()), on_progress=on_progress)
    folders = check_model_folders(store, models)
    if format is Format.json:
        shown = [{"folder": folder.folder, "problem": folder.problem} for folder in folders]
        console.print_json(asdict(found) | {"model_folders": shown})
    else:
        rows = [(damage.name, ", ".join(damage.slots), damage.problem) for damage in found.damages]
        rows += [(f"{models.name}/{folder.folder}", "", folder.problem) for folder in folders]
        if rows:
            console.print_table(["file", "part of", "problem"], rows)
        print(found.line + (f"; {len(folders)} model folders damaged" if folders else ""))
    if repair and (found.damages or folders):
        with store.writing("armorm verify --repair") as writer:
            slots = quarantine(writer, found.damages) if found.damages else []
            rewritten = rewrite_model_folders(store, models, folders)
        if found.damages:
            print(f"moved to quarantine/; to be made again: {', '.join(slots) or 'nothing'}; run `armorm run`")
        for folder in folders:
            done = "written again" if folder.folder in rewritten else "left: the store cannot make it again; remove it"
            print(f"{models.name}/{folder.folder}: {done}")
    if found.damages or folders:
        raise typer.Exit(1)


@app.command()
def gc(
    delete: Annotated[bool, typer.Option("--delete", help="Delete files; without this they are only counted.")] = False,
    config: Config = DEFAULT_CONFIG,
    format: As = Format.table,
) -> None:
    """Move what no kept snapshot refers to into the trash, and delete it later; [retention] sets what is kept.

    Example: `armorm gc --delete`
    """
    from armorm.features.upkeep.gc import collect, plan_collection

    store, retention = existing_store(config), load_settings(config).retention
    if delete:
        with store.writing("armorm gc", kind="gc") as writer, console.progress("collecting") as on_progress:
            collection = collect(writer, retention, on_progress=on_progress)
    else:
        collection = plan_collection(store, retention)
    if format is Format.json:
        console.print_json(asdict(collection))
        return
    print(collection.line + ("" if delete else "; nothing was deleted: use --delete"))


@app.command()
def doctor(config: Config = DEFAULT_CONFIG, format: As = Format.table) -> None:
    """Check versions, the store (does it support atomic create-if-absent?), disk, memory and the backbone.

    Example: `armorm doctor`
    """
    from armorm.features.upkeep.doctor import examine

    settings = load_settings(config)
    with console.progress("examining"):
        findings = examine(settings.open_store(), settings.open_store, settings.local_backbone())
    if format is Format.json:
        console.print_json([asdict(finding) for finding in findings])
    else:
        console.print_table(["check", "", "found"], [(f.check, f.verdict, f.what) for f in findings])
    if any(finding.verdict == "failed" for finding in findings):
        raise typer.Exit(1)


def _entropy() -> bytes:
    import os

    return os.urandom(8)
