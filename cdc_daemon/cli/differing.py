"""``failures diff``: a parked change beside its edits, the source's row now, and the target's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from cdc_daemon.cli.given import Given, output_option, pass_given, shared_options
from cdc_daemon.cli.output import print_json, print_table, row_value, words
from cdc_daemon.cli.parked import all_there, control_of
from cdc_daemon.cli.revealing import View, clear_option
from cdc_daemon.model.errors import CdcError, DataError
from cdc_daemon.model.selection import Selection
from cdc_daemon.sealing import MASK, is_sealed

if TYPE_CHECKING:
    from cdc_daemon.config.configuration import Configuration
    from cdc_daemon.engine.privacy import Privacy
    from cdc_daemon.mapping.compile import CompiledMapping
    from cdc_daemon.model.changes import Relation, Row, Run
    from cdc_daemon.model.ports import Source
    from cdc_daemon.model.queue import Edit, Failure
    from cdc_daemon.verify.preview import Preview

_ABSENT = object()  # a value that an image does not hold

Image = Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One parked change by column and by attribute.

    ``images``: by heading, oldest first, the payload's and the source's; None: no row there.
    ``result``: what the mapping makes of the parked row now, ``error`` why it does not.
    ``hidden``: sensitive columns and attributes, whose values are not to be shown.
    """

    images: Mapping[str, Image | None]
    result: Image | None
    target: Image | None
    error: str
    hidden: tuple[frozenset[str], frozenset[str]] = (frozenset(), frozenset())

    def as_dict(self) -> dict[str, object]:
        """JSON-ready, without what is not to be shown."""
        columns, attributes = self.hidden
        return {
            "images": {name: _masked(image, columns) for name, image in self.images.items()},
            "result": _masked(self.result, attributes),
            "target": _masked(self.target, attributes),
            "error": self.error,
        }

    def columns(self) -> list[str]:
        """Every column that some image holds."""
        return list(dict.fromkeys(name for image in self.images.values() for name in image or ()))


@click.command()
@shared_options
@output_option
@click.argument("number", metavar="ID", type=click.IntRange(min=1))
@clear_option
@pass_given
def diff(given: Given, number: int, clear: bool) -> None:
    """Show a change beside its edits, the row in the source now, and the target's.

    A star marks columns and attributes that differ. Sensitive values are masked.
    """
    configuration = given.load_without_keys()
    view = View(configuration, clear=clear)
    with control_of(configuration) as control:
        found = control.failures(Selection(ids=(number,), state=None))
        all_there([number], found)
        edits = control.edits(number)
        view.note(control, found, "diff")
    difference = _difference(configuration, view, found[0], edits)
    if given.output == "json":
        print_json({"id": number, **difference.as_dict()})
    else:
        _show(difference)


def _show(difference: Difference) -> None:
    columns, attributes = difference.hidden
    rows = [
        _line(name, [_of(image, name) for image in difference.images.values()], columns)
        for name in difference.columns()
    ]
    print_table(("COLUMN", *difference.images, ""), rows)
    if difference.images["SOURCE NOW"] is None:
        words("the source has no such row now")
    click.echo()
    result, target = difference.result, difference.target
    names = [name for name in (result or target or {}) if name not in _OURS]
    if names:
        pairs = [_line(name, [_of(result, name), _of(target, name)], attributes) for name in names]
        print_table(("ATTRIBUTE", "WOULD BE", "TARGET NOW", ""), pairs)
    if difference.error:
        words(f"the mapping does not take it: {difference.error}")
    if target is None:
        words("the target has no such row now")


_OURS = frozenset({"last_sync_time", "deleted_at"})


def _of(image: Image | None, name: str) -> object:
    return _ABSENT if image is None or name not in image else image[name]


def _line(name: str, values: Sequence[object], hidden: frozenset[str]) -> tuple[str, ...]:
    texts = ["-" if value is _ABSENT else row_value(value) for value in values]
    unlike = {
        text
        for text, value in zip(texts, values, strict=True)
        if value is not _ABSENT and not is_sealed(value)
    }
    if name in hidden:
        texts = ["-" if value is _ABSENT else MASK for value in values]
    return (name, *texts, "*" if len(unlike) > 1 else " ")


def _masked(image: Image | None, hidden: frozenset[str]) -> Image | None:
    if image is None:
        return None
    masks = {name for name, value in image.items() if name in hidden or is_sealed(value)}
    return {name: MASK if name in masks else value for name, value in image.items()}


def _difference(
    configuration: Configuration, view: View, failure: Failure, edits: Sequence[Edit]
) -> Difference:
    from cdc_daemon import build
    from cdc_daemon.engine.payload import run_of

    if failure.pipeline not in configuration.sources:
        raise CdcError(f"pipeline {failure.pipeline} is not configured any longer")
    privacy = view.privacy(failure.pipeline)
    payload, lacking = _opened(privacy, failure.table, failure.payload)
    images: dict[str, Image | None] = {
        f"BEFORE EDIT {n}": _image(_opened(privacy, failure.table, one.payload)[0])
        for n, one in enumerate(edits, 1)
    }
    images["PARKED"] = _image(payload)
    with closing(build.make_source(configuration, failure.pipeline)) as source:
        relations = {one.name: one for one in source.relations()}
        relation = relations.get(failure.table)
        if relation is None:
            raise CdcError(f"no mapping reads table {failure.table} any longer")
        run = run_of(privacy.without_sealed(payload), relation, sequence=0)
        row = _now(source, relation, run)
    images["SOURCE NOW"] = None if row is None else _texts(relation, row)
    mappings = _compiled(configuration, failure.pipeline, list(relations.values()))
    compiled = mappings.get(failure.mapping)
    if compiled is None:
        raise CdcError(f"mapping {failure.mapping} is configured no longer")
    result, target, error = _previewed(configuration, mappings, compiled, run)
    return Difference(
        images=images,
        result=result,
        target=target,
        error=lacking or error,
        hidden=(frozenset(), frozenset())
        if view.clear
        else (compiled.sensitive, compiled.layout.entity.sensitive),
    )


def _opened(privacy: Privacy, table: str, payload: Image) -> tuple[dict[str, Any], str]:
    """The payload in clear, or as it is kept and why."""
    try:
        return privacy.opened(table, payload), ""
    except DataError as error:
        return dict(payload), error.message


def _image(payload: Mapping[str, object]) -> Image:
    image = payload.get("new", payload.get("old"))
    return image if isinstance(image, dict) else {}


def _now(source: Source, relation: Relation, run: Run) -> Row | None:
    """The row as the source has it, by the newest identity that the change tells."""
    from cdc_daemon.engine.lanes import identities_of

    identities = identities_of(run, run.sequence)[:1]
    return source.reread(relation, identities).get(identities[0]) if identities else None


def _texts(relation: Relation, row: Row) -> Image:
    from cdc_daemon.engine.payload import image_of

    return image_of([column.name for column in relation.columns], row)


def _compiled(
    configuration: Configuration, pipeline: str, relations: list[Relation]
) -> dict[str, CompiledMapping]:
    from cdc_daemon import build

    compiler = build.compiler(configuration, pipeline)
    found = build.compile_all(configuration, relations, compiler)
    return {one.layout.mapping: one for one in found}


def _previewed(
    configuration: Configuration,
    mappings: Mapping[str, CompiledMapping],
    compiled: CompiledMapping,
    run: Run,
) -> tuple[dict[str, str | None] | None, dict[str, str | None] | None, str]:
    """What the mapping makes of the parked row, the target's row, and why it does not."""
    from cdc_daemon.mapping.fields import NeedsSource
    from cdc_daemon.mapping.mapper import touched
    from cdc_daemon.verify.preview import TargetRows, previewed
    from cdc_daemon.verify.target import open_target

    with closing(open_target(configuration.target)) as reader:
        target = TargetRows(reader, mappings)
        shown: Preview | None = None
        error = ""
        if run.new_rows:
            try:
                shown = previewed(compiled, run.new_rows[0], target)
            except NeedsSource:
                error = "the log left out what it needs; it is read again at the source"
        if shown is not None and shown.target is not None:
            return shown.result, shown.target, shown.error
        keys = touched(compiled, run, 0) if run.new_rows else ()
        held = next(filter(None, (target.row(compiled, key) for key in keys)), None)
        return (shown.result if shown else None), held, (shown.error if shown else error)
