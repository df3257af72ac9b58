"""Lineage: from an artifact to the rows that made it, and from a row to every artifact that was made with it.

Nothing of it is stored. `graph` reads the manifests, `relations` puts the tables of exactly the artifacts in question
under the views of `sql/lineage/`, and `trace` and `impact` ask the same view, `seen`, from both ends.
"""
