"""The one gate for statements that users give: a single SELECT passes, which holds nothing but queries."""

import re
from typing import TYPE_CHECKING, Final

from armorm.features.errors import QueryError

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

READ_ONLY: Final = frozenset({"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"})
"""What a query may be made of, as DuckDB names it: a SELECT may hold a COPY or an INSERT in its WITH."""

RUN_TEXT: Final = re.compile("query|json_execute_serialized_sql|.*_external_resource.*")
"""Functions that run a text as a query, or a function by its name; the text may be put together when it is run."""

NESTED: Final = 500
"""How deep a user's statement may nest brackets: DuckDB's parser takes minutes for some ten thousand open ones."""

MESSAGE: Final = 10_000
"""The most characters of a message of DuckDB's: it may quote a value, of whatever size."""


def require_query(connection: "DuckDBPyConnection", sql: str) -> None:
    """Let nothing through but a single SELECT, which holds nothing but queries.

    Raises:
        QueryError: it is something else, or DuckDB cannot read it.
    """
    import duckdb

    try:
        if _nesting(sql) > NESTED:
            raise QueryError(f"got brackets that nest more than {NESTED} deep; expected fewer; simplify the query")
        kinds = [statement.type.name for statement in connection.extract_statements(sql)]
    except (duckdb.Error, TypeError, ValueError) as error:  # the latter of a type that Python has no name for
        raise QueryError(one_line(error)) from error
    if "MULTI" in kinds:
        raise QueryError("got a PIVOT whose columns depend on the rows; expected their values; write ON x IN (..)")
    if kinds != ["SELECT"]:
        listed = ", ".join(kinds) or "nothing"
        raise QueryError(f"got {listed}; expected one SELECT: the store is read-only")
    # Texts of the query's own stand there with their quotes escaped.
    ((tree,),) = connection.execute("SELECT json_serialize_sql(?)", [sql]).fetchall()
    if not tree.startswith('{"error":false'):
        raise QueryError("got a query that DuckDB cannot take apart; expected one SELECT; simplify it")
    if others := set(re.findall(r'"type":\s*"(\w+_NODE)"', tree)) - READ_ONLY:
        listed = ", ".join(sorted(name.removesuffix("_NODE").removesuffix("_QUERY") for name in others))
        raise QueryError(f"got {listed} within a SELECT; expected queries alone: the store is read-only")
    for name in re.findall(r'"function_name":\s*"(\w+)"', tree):
        if RUN_TEXT.fullmatch(name.lower()):
            raise QueryError(f"got {name}(), which runs a text; expected the query itself; write it out")


def one_line(error: Exception) -> str:
    """Return DuckDB's message; of a refusal by Python code that it calls, the last line of its traceback."""
    text = str(error)
    if "Traceback (most recent call last)" in text:
        text = text.strip().splitlines()[-1]
    line = " ".join(text.split())
    return line if len(line) <= MESSAGE else f"{line[:MESSAGE]} .. ({len(line):,} characters)"


def _nesting(sql: str) -> int:
    """Return how deep brackets are open at most; DuckDB's own tokens tell them from those in texts and comments."""
    import duckdb

    depth = deepest = 0
    content = sql.encode()
    for start, _ in duckdb.tokenize(sql):
        character = content[start : start + 1]
        if character in {b"(", b"[", b"{"}:
            depth += 1
        elif character in {b")", b"]", b"}"}:
            depth = max(0, depth - 1)
        deepest = max(deepest, depth)
    return deepest
