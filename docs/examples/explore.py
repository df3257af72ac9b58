"""A store in a marimo notebook: ratings, vectors, gate and mistakes, through `armorm.connect` and SQL cells.

marimo edit docs/examples/explore.py -- --store demo/store --at head
"""

import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium", app_title="A store, explored")

with app.setup:
    import os
    from html import escape

    # Before marimo's own server asks: nothing leaves the machine.
    os.environ.setdefault("DO_NOT_TRACK", "1")

    import marimo as mo
    import matplotlib.pyplot as plt
    import numpy as np
    import polars as pl

    import armorm
    from armorm.features.catalog.questions import ask
    from armorm.features.store import Store
    from armorm.report.plots import DIVERGING, SERIES

    BLUE, RED, *_ = (colour for colour, _ in SERIES)
    GREY = SERIES[-1][0]
    plt.rcParams.update(
        {
            "text.parse_math": False,  # names come from outside: a dollar is a dollar
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.titlesize": 9,
            "font.size": 8,
            "figure.dpi": 144,
            "legend.frameon": False,
        }
    )


@app.function(hide_code=True)
def quoted(text):
    """A text from outside, as it is, whatever is in it; in marimo's tables a picture that it names would be fetched."""
    return escape(text if len(text) <= 1500 else f"{text[:1500]} [..]")


@app.function(hide_code=True)
def answer(place, at, question):
    """The answer to a question of `sql/questions/`, as a frame."""
    found = ask(Store(place), question, at=str(at))
    return pl.DataFrame(found.rows, schema=found.columns, orient="row", infer_schema_length=None)


@app.cell(hide_code=True)
def _():
    mo.md("""
    # A store, explored

    What a reward model was trained on, what its backbone makes of it, what the gate turns to, and where the model is
    wrong. All of it comes from SQL queries over the views of one snapshot, and from questions of `sql/questions/`
    (docs/queries.md), read-only: change one, and the cells that depend on it run again. Choices are menus.

    On the demo's store the sentences are made up and the backbone's weights are random: the figures show how to look,
    and nothing about real models.
    """)
    return


@app.cell
def _():
    place = mo.cli_args().get("store") or "demo/store"
    at = mo.cli_args().get("at") or "head"
    return at, place


@app.cell
def _(at, place):
    store = armorm.connect(place, at=str(at))
    db = store.duckdb
    mo.md(f"`{place}`, snapshot {store.snapshot.number}, committed {store.snapshot.created_at[:16]} UTC")
    return db, store


@app.cell(hide_code=True)
def _():
    mo.md("""
    ## What is in it

    Rows in = kept + rejected + dropped, for every dataset.
    """)
    return


@app.cell
def _(db):
    _ = mo.sql(
        """
        SELECT dataset, rows, kept, rejected, dropped, conversations, ratings, preferences AS pairs, licence
        FROM datasets ORDER BY rows DESC
        """,
        engine=db,
    )
    return


@app.cell(hide_code=True)
def _():
    mo.md("""
    ## Ratings

    How the ratings of each objective are spread over 0..1, by the dataset that gives them. A scale that is used at one
    end only, or a single bar, teaches a regression little.
    """)
    return


@app.cell
def _(at, place):
    spread = answer(place, at, "rating_histogram")
    return (spread,)


@app.cell(hide_code=True)
def _(spread):
    def _histograms(spread):
        panels = spread.partition_by("dataset", "objective", as_dict=True)
        n_rows = -(-len(panels) // 3)
        figure, axes = plt.subplots(n_rows, 3, figsize=(7.2, 1.2 * n_rows), sharex=True, squeeze=False, layout="tight")
        for axis, ((dataset, objective), bins) in zip(axes.flat, panels.items(), strict=False):
            axis.bar(bins["tenth"] / 10 + 0.05, bins["share"], width=0.09, color=BLUE)
            axis.set_title(objective, loc="left")
            axis.text(0.5, 0.8, dataset, ha="center", color=GREY, transform=axis.transAxes)
            axis.set_ylim(0, 1)
            axis.set_yticks([0, 1], ["0", "all"])
        for axis in axes.flat[len(panels) :]:
            axis.axis("off")
        return figure

    _histograms(spread)
    return


@app.cell(hide_code=True)
def _():
    mo.md("""
    Does an objective agree with what people prefer? Where a dataset rates both answers of a pair: how often the
    preferred one is rated higher. Left of the line, an objective argues against the preference.
    """)
    return


@app.cell
def _(at, place):
    agreement = answer(place, at, "agreement").filter(pl.col("comparisons") - pl.col("ties") >= 10).reverse()
    return (agreement,)


@app.cell(hide_code=True)
def _(agreement):
    def _bars(found):
        figure, axis = plt.subplots(figsize=(7.2, 0.6 + 0.2 * len(found)), layout="tight")
        labels = [f"{row['objective']}, pairs of {row['dataset']}" for row in found.iter_rows(named=True)]
        axis.barh(
            labels, found["agreement"] - 0.5, left=0.5, color=[BLUE if a > 0.5 else RED for a in found["agreement"]]
        )
        axis.axvline(0.5, color=GREY, linewidth=1)
        axis.set_xlim(0, 1)
        axis.set_xlabel("how often the preferred answer is rated higher")
        axis.margins(y=0.01)
        return figure

    _bars(agreement) if len(agreement) else mo.md("*No dataset rates both answers of enough pairs.*")
    return


@app.cell(hide_code=True)
def _():
    mo.md("""
    ## Vectors

    What the backbone makes of it: one vector for each conversation and each prompt. Where the last layer ends in a norm
    without learned scales, all of them are of one length, and only their directions differ.
    """)
    return


@app.cell
def _(db):
    backbones = mo.sql("SELECT backbone, name, architecture, hidden_size, dtype FROM backbones", engine=db)
    return (backbones,)


@app.cell
def _(backbones):
    backbone = mo.ui.dropdown(backbones["backbone"].to_list(), value=backbones["backbone"][-1], label="Backbone")
    backbone
    return (backbone,)


@app.cell
def _(backbone, db):
    norms = mo.sql(
        f"""
        SELECT kind, norm, n_tokens FROM features WHERE backbone = '{backbone.value}'
        ORDER BY hash(id) LIMIT 20_000
        """,
        engine=db,
        output=False,
    )
    return (norms,)


@app.cell(hide_code=True)
def _(norms):
    def _norms(norms):
        figure, (left, right) = plt.subplots(1, 2, figsize=(7.2, 2.2), layout="tight")
        middle = norms["norm"].median()
        around = min(norms["norm"].min(), 0.9 * middle), max(norms["norm"].max(), 1.1 * middle)
        for ((kind,), of), colour in zip(norms.partition_by("kind", as_dict=True).items(), (BLUE, RED), strict=False):
            left.hist(of["norm"], bins=60, range=around, histtype="step", color=colour, label=kind)
            right.plot(of["n_tokens"], of["norm"], ".", color=colour, markersize=1, alpha=0.5, rasterized=True)
        left.set_xlabel("norm of a vector")
        left.legend()
        right.set_xlabel("tokens")
        right.set_ylabel("norm")
        right.set_ylim(*around)
        right.set_xscale("log")
        right.xaxis.set_major_formatter("{x:g}")
        return figure

    _norms(norms)
    return


@app.cell(hide_code=True)
def _():
    mo.md("""
    The gate sees nothing but prompts. Here they lie as it sees them, on the two directions in which their vectors
    differ most: where datasets overlap, no gate can tell them apart.
    """)
    return


@app.cell
def _(backbone, db):
    prompts = mo.sql(
        f"""
        SELECT prompt_id, min(dataset) AS dataset
        FROM preferences JOIN features AS f ON f.kind = 'prompt' AND f.id = prompt_id
        WHERE f.backbone = '{backbone.value}'
        GROUP BY prompt_id QUALIFY row_number() OVER (PARTITION BY min(dataset) ORDER BY prompt_id) <= 200
        ORDER BY prompt_id
        """,
        engine=db,
        output=False,
    )
    return (prompts,)


@app.cell(hide_code=True)
def _(backbone, prompts, store):
    def _projection(ids, datasets):
        vectors_ND = store.vectors(ids, "prompt", backbone=backbone.value)
        centred_ND = vectors_ND - vectors_ND.mean(axis=0)
        _, singular, axes_DD = np.linalg.svd(centred_ND, full_matrices=False)
        at_N2 = centred_ND @ axes_DD[:2].T
        figure, axis = plt.subplots(figsize=(7.2, 4), layout="tight")
        names, colours = sorted(set(datasets)), plt.get_cmap("tab20").colors
        for number, name in enumerate(names):
            of = np.array([dataset == name for dataset in datasets])
            axis.scatter(*at_N2[of].T, s=9, color=colours[number % len(colours)], label=name, linewidths=0, alpha=0.8)
        first, second = 100 * singular[:2] ** 2 / (singular**2).sum()
        axis.set_xlabel(f"first direction, {first:.0f} % of the variance")
        axis.set_ylabel(f"second, {second:.0f} %")
        axis.legend(loc="center left", bbox_to_anchor=(1, 0.5), markerscale=2)
        return figure

    _projection(prompts["prompt_id"].to_list(), prompts["dataset"].to_list())
    return


@app.cell(hide_code=True)
def _():
    mo.md("""
    Which prompts does the backbone take for alike? Choose one; beside each neighbour stands the cosine of the two.
    """)
    return


@app.cell
def _(db, prompts):
    _ids = ", ".join(f"'{id}'" for id in prompts["prompt_id"].to_list()[:25])
    _starts = mo.sql(
        f"""
        SELECT prompt_id, any_value(messages[-2].content) AS asked
        FROM texts WHERE prompt_id IN ({_ids}) GROUP BY prompt_id ORDER BY prompt_id
        """,
        engine=db,
        output=False,
    )
    _options = {f"{asked[:70]} [{id[:6]}]": id for id, asked in _starts.iter_rows()}
    start = mo.ui.dropdown(_options, value=next(iter(_options)), label="Prompt", full_width=True)
    start
    return (start,)


@app.cell
def _(backbone, db, start):
    nearest = mo.sql(
        f"""
        WITH
            mine AS (
                SELECT vector FROM features
                WHERE backbone = '{backbone.value}' AND kind = 'prompt' AND id = '{start.value}'
            ),
            nearest AS MATERIALIZED (
                SELECT id, list_cosine_similarity(f.vector, mine.vector) AS cosine
                FROM features AS f, mine
                WHERE backbone = '{backbone.value}' AND kind = 'prompt' AND id <> '{start.value}'
                ORDER BY cosine DESC, id LIMIT 8
            )
        SELECT cosine, any_value(messages[-2].content) AS asked
        FROM nearest JOIN texts ON prompt_id = id GROUP BY id, cosine ORDER BY cosine DESC, id
        """,
        engine=db,
        output=False,
    )
    return (nearest,)


@app.cell(hide_code=True)
def _(nearest):
    mo.Html(
        '<table style="overflow-wrap: anywhere">'
        + "".join(
            f'<tr><td style="vertical-align: top; padding-right: 1rem">{cosine:.3f}</td>'
            f'<td style="white-space: pre-wrap; padding-bottom: .5rem">{quoted(asked)}</td></tr>'
            for cosine, asked in nearest.iter_rows()
        )
        + "</table>"
    )
    return


@app.cell(hide_code=True)
def _():
    mo.md("""
    ## The gate

    A score is the sum of rewards, each times a coefficient that the gate chooses by the prompt. Here are the mean
    coefficients on held-out prompts, by dataset: red adds to the score, blue takes from it. What decorrelation has
    taken out of an objective shows as a coefficient of the nuisance.
    """)
    return


@app.cell
def _(db):
    gate = mo.sql(
        """
        WITH kinds AS (
            SELECT DISTINCT dataset, prompt_id FROM preferences WHERE split IN ('test', 'evaluation')
        )
        SELECT dataset, objective, avg(coefficient) AS coefficient, avg(weight) AS weight, stddev_pop(weight) AS spread
        FROM kinds JOIN gate_coefficients USING (prompt_id) LEFT JOIN (
            SELECT objective, min(position) AS position FROM objectives GROUP BY objective
        ) USING (objective)
        GROUP BY dataset, objective, position ORDER BY dataset, position
        """,
        engine=db,
        output=False,
    )
    return (gate,)


@app.cell(hide_code=True)
def _(gate):
    def _heatmap(gate):
        table = gate.pivot("objective", index="dataset", values="coefficient")
        names, objectives = table["dataset"].to_list(), table.columns[1:]
        cells = table.drop("dataset").to_numpy()
        limit = np.abs(cells).max()
        figure, axis = plt.subplots(figsize=(7.2, 1.8 + 0.22 * len(names)), layout="tight")
        shown = axis.imshow(cells, cmap=DIVERGING, vmin=-limit, vmax=limit, aspect="auto")
        axis.set_xticks(range(len(objectives)), objectives, rotation=40, ha="right", rotation_mode="anchor")
        axis.set_yticks(range(len(names)), names)
        figure.colorbar(shown, ax=axis, label="mean coefficient", pad=0.01)
        return figure

    _heatmap(gate)
    return


@app.cell(hide_code=True)
def _():
    mo.md("""
    Does the gate look at the prompt at all? A wide box is an objective whose weight depends on what is asked; a line is
    one that it weighs alike wherever it goes.
    """)
    return


@app.cell
def _(db):
    by_prompt = mo.sql(
        """
        SELECT objective, list(weight ORDER BY prompt_id) AS weights FROM gate_coefficients
        GROUP BY objective ORDER BY avg(weight)
        """,
        engine=db,
        output=False,
    )
    return (by_prompt,)


@app.cell(hide_code=True)
def _(by_prompt):
    def _boxes(found):
        figure, axis = plt.subplots(figsize=(7.2, 0.6 + 0.22 * len(found)), layout="tight")
        axis.boxplot(
            found["weights"].to_list(),
            orientation="horizontal",
            tick_labels=found["objective"].to_list(),
            whis=(5, 95),
            showfliers=False,
            medianprops={"color": RED},
        )
        axis.set_xlabel("weight over held-out prompts: median, quarters, and from the 5th to the 95th percentile")
        return figure

    _boxes(by_prompt)
    return


@app.cell(hide_code=True)
def _():
    mo.md("""
    ## Mistakes

    Where is the model wrong? First how often, on held-out pairs and benchmarks; then the pairs that it gets wrong by
    most. Many a mistake is one of the data.
    """)
    return


@app.cell
def _(at, place):
    answer(place, at, "accuracy").filter(pl.col("split").is_in(["test", "evaluation"])).sort("accuracy", "dataset")
    return


@app.cell
def _(db):
    _found = mo.sql(
        """
        SELECT DISTINCT dataset FROM pair_scores JOIN preferences USING (pair_id)
        WHERE NOT correct AND split IN ('test', 'evaluation') ORDER BY dataset
        """,
        engine=db,
        output=False,
    )
    of = mo.ui.dropdown(["all", *_found["dataset"].to_list()], value="all", label="Mistakes of")
    n_shown = mo.ui.slider(1, 20, value=5, label="how many", show_value=True)
    mo.hstack([of, n_shown], justify="start", wrap=True)
    return n_shown, of


@app.cell
def _(db, n_shown, of):
    worst = mo.sql(
        f"""
        WITH
            hardest AS MATERIALIZED (
                SELECT
                    pair_id, dataset, subset, prompt_id, chosen_id, rejected_id,
                    score_rejected - score_chosen AS wrong_by
                FROM pair_scores JOIN preferences USING (pair_id)
                WHERE NOT correct AND split IN ('test', 'evaluation') AND '{of.value}' IN ('all', dataset)
                ORDER BY wrong_by DESC, pair_id LIMIT {n_shown.value}
            ),
            told AS (
                SELECT
                    conversation_id, any_value(messages[-2].content) AS asked, any_value(messages[-1].content) AS said
                FROM texts WHERE conversation_id IN (SELECT unnest([chosen_id, rejected_id]) FROM hardest)
                GROUP BY conversation_id
            )
        SELECT
            dataset, subset, pair_id, wrong_by, chosen.asked AS asked, chosen.said AS preferred, rejected.said AS other,
            (SELECT arg_max(objective, weight, 3) FROM gate_coefficients AS g WHERE g.prompt_id = hardest.prompt_id)
                AS turned_to
        FROM hardest
        JOIN told AS chosen ON chosen.conversation_id = chosen_id
        JOIN told AS rejected ON rejected.conversation_id = rejected_id
        ORDER BY wrong_by DESC, pair_id
        """,
        engine=db,
        output=False,
    )
    return (worst,)


@app.cell(hide_code=True)
def _(worst):
    def _card(row):
        where = ", ".join(filter(None, (row["dataset"], row["subset"])))
        gate = ", ".join(row["turned_to"] or [])
        answers = "".join(
            f'<div style="flex: 1 1 15rem; min-width: 0; border-left: 3px solid {colour}; padding-left: .6rem">'
            f"<b>{name}</b><br>{quoted(row[key])}</div>"
            for name, key, colour in (("preferred", "preferred", BLUE), ("scored higher", "other", RED))
        )
        return (
            '<div style="margin: 0 0 1.4rem; white-space: pre-wrap; overflow-wrap: anywhere">'
            f"<small>{quoted(where)}; pair {row['pair_id'][:8]}; wrong by {row['wrong_by']:.4f}; "
            f"the gate turned to {quoted(gate)}</small>"
            f'<p style="margin: .3rem 0 .6rem"><i>{quoted(row["asked"])}</i></p>'
            f'<div style="display: flex; flex-wrap: wrap; gap: 1rem">{answers}</div></div>'
        )

    mo.Html("".join(map(_card, worst.iter_rows(named=True))) or "<i>None: every held-out pair is right.</i>")
    return


@app.cell(hide_code=True)
def _():
    mo.md("""
    More questions stand ready in `sql/questions/`, and `armorm ask` answers them; `store.vectors(ids)` gives the
    vectors as an array. `armorm trace` leads from a model to the rows behind it.
    """)
    return


if __name__ == "__main__":
    app.run()
