"""The standard corpus (tests/support/corpus.py), of real files: it comes back as it was, and shares what it should."""

from __future__ import annotations

from pathlib import Path

from tests.cas.commands.conftest import Store
from tests.cas.commands.test_export import tree
from tests.support.corpus import SMALL, make_corpus

LEAST_KNOWN = {"library-2": 0.9, "library-added.tar": 0.4}
"""The share of a part's bytes that the parts before it have, with chunks of 64 KiB on average: 0.96, and 0.62 to 0.87 in six
repositories, each of which cuts elsewhere."""


def test_the_corpus(store: Store, tmp_path: Path) -> None:
    corpus = make_corpus(tmp_path / "corpus", SMALL, second=tmp_path)  # where there is no library: so the first is edited
    store.open().close()
    for part in corpus.parts:
        prefix = (f"--prefix={part.name}/",) if part.is_dir() else ()
        told = store.run("import", str(part), "--json", *prefix).document
        assert told["failed"] == told["unchanged"] == 0
        assert told["known_bytes"] >= LEAST_KNOWN.get(part.name, 0) * told["read_bytes"], part.name
    assert store.run("verify", "--json").document["sound"]
    assert store.run("export", "--all", str(tmp_path / "out")).status == 0
    assert tree(tmp_path / "out") == tree(tmp_path / "corpus")
