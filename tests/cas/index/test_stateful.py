"""Any sequence of calls, compared with a model that is a few dictionaries."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from tusd_py_cas.model import ChunksMissing, Codec, Manifest, State

from tests.cas.index.support import (
    Clock,
    Files,
    add_content,
    chunk,
    chunks,
    collect,
    digest,
    numbers_of,
    open_index,
    store,
    version,
)

NUMBERS = st.integers(0, 5)
UPLOADS = st.sampled_from(["u1", "u2", "u3"])
OBJECTS = st.sampled_from(["x", "y"])
OWNERS = st.sampled_from([None, "", "me"])


class IndexMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="tusd-py-index-"))
        self.clock, self.files = Clock(), Files()
        self.index = open_index(self.directory / "index.db", self.clock)
        self.states: dict[int, State] = {}
        self.contents: dict[tuple[int, ...], Manifest] = {}
        self.uploads: dict[str, tuple[str, str | None, int, tuple[int, ...]]] = {}
        self.next: dict[tuple[str, str | None], int] = {}
        self.missing: dict[str, float] = {}

    def teardown(self) -> None:
        self.index.close()
        shutil.rmtree(self.directory)

    @rule(numbers=st.lists(NUMBERS, max_size=4))
    def store(self, numbers: list[int]) -> None:
        self.files.write(chunks(*numbers))
        store(self.index, chunks(*numbers))
        self.states.update(dict.fromkeys(numbers, State.LIVE))

    @rule(number=NUMBERS)
    def damage(self, number: int) -> None:
        self.index.mark_damaged([chunk(number).name])
        if number in self.states:
            self.states[number] = State.DAMAGED

    @rule(numbers=st.lists(NUMBERS, max_size=5), leaf=st.integers(1, 3))
    def add(self, numbers: list[int], leaf: int) -> None:
        missing = {number for number in numbers if self.states.get(number) is not State.LIVE}
        try:
            made = add_content(self.index, numbers, leaf)
        except ChunksMissing as failure:
            assert failure.names
            assert failure.names <= {chunk(number).name for number in missing}
        else:
            assert not missing
            assert self.contents.setdefault(tuple(numbers), made) == made

    @rule(data=st.data())
    def put_together(self, data: st.DataObject) -> None:
        if self.contents:
            parts = data.draw(st.lists(st.sampled_from(sorted(self.contents)), min_size=1, max_size=3))
            made = self.index.compose([self.contents[part] for part in parts])
            whole = tuple(number for part in parts for number in part)
            assert made.size == sum(chunk(number).size for number in whole)
            assert numbers_of(self.index.pieces(made)) == list(whole)

    @rule(data=st.data(), upload=UPLOADS, object=OBJECTS, owner=OWNERS)
    def publish(self, data: st.DataObject, upload: str, object: str, owner: str | None) -> None:
        if not self.contents:
            return
        numbers = data.draw(st.sampled_from(sorted(self.contents)))
        made = version(self.index, upload, self.contents[numbers], object, owner)
        old = self.uploads.get(upload)
        if old is None or old[3] != numbers:
            number = self.next.get((object, owner), 1)
            self.next[object, owner] = number + 1
            self.uploads[upload] = object, owner, number, numbers
            self.forget_empty()
        self.missing.pop(upload, None)
        assert (made.object, made.owner, made.number) == self.uploads[upload][:3]

    @rule(upload=UPLOADS)
    def drop(self, upload: str) -> None:
        assert self.index.drop_version(upload) is (self.uploads.pop(upload, None) is not None)
        self.missing.pop(upload, None)
        self.forget_empty()

    @rule(uploads=st.lists(UPLOADS), at=st.integers(1, 1000))
    def miss(self, uploads: list[str], at: int) -> None:
        known = {upload for upload in uploads if upload in self.uploads}
        self.missing = dict.fromkeys(known, float(at)) | self.missing
        assert self.index.note_vanished(uploads, at) == {upload: self.missing[upload] for upload in known}

    @rule(uploads=st.lists(UPLOADS))
    def find_again(self, uploads: list[str]) -> None:
        self.index.note_present(uploads)
        for upload in uploads:
            self.missing.pop(upload, None)

    @rule()
    def collect(self) -> None:
        self.clock.now += 10
        used = {numbers for *_, numbers in self.uploads.values()}
        collect(self.index, self.files, self.clock.now)
        self.contents = {numbers: made for numbers, made in self.contents.items() if numbers in used}
        kept = {number for numbers in used for number in numbers}
        self.states = {number: state for number, state in self.states.items() if number in kept}

    def forget_empty(self) -> None:
        alive = {(object, owner) for object, owner, *_ in self.uploads.values()}
        self.next = {key: number for key, number in self.next.items() if key in alive}

    @invariant()
    def agrees(self) -> None:
        rows = {each.name: (each, state) for each, state in self.index.all_chunks()}
        assert rows == {chunk(number).name: (chunk(number), state) for number, state in self.states.items()}
        assert all((chunk(number).name, Codec.RAW) in self.files.present for number in self.states)
        for numbers, made in self.contents.items():
            assert self.index.find_manifest(digest(numbers)) == made
            assert numbers_of(self.index.pieces(made)) == list(numbers)
            assert self.index.is_whole(made) == all(self.states[number] is State.LIVE for number in numbers)
        found: list[Any] = [(v.object, v.owner, v.number, v.upload_id, v.manifest) for v in self.index.versions()]
        expected = [(o, w, n, upload, self.contents[c]) for upload, (o, w, n, c) in self.uploads.items()]
        assert found == sorted(expected, key=lambda each: (each[0], each[1] is not None, each[1] or "", each[2]))
        assert list(self.index.uploads()) == sorted(self.uploads)
        assert list(self.index.without_version(["u3", "u1"])) == [
            upload for upload in ("u3", "u1") if upload not in self.uploads
        ]
        assert list(self.index.vanished()) == sorted(self.missing)
        assert self.index.totals().vanished == len(self.missing)
        assert list(self.index.check()) == []


def test_any_sequence_of_calls() -> None:
    run_state_machine_as_test(
        IndexMachine,
        settings=settings(
            max_examples=20, stateful_step_count=20, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
        ),
    )
