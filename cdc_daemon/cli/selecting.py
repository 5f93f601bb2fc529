"""Which changes of the failure queue a command means: the same options on every one of them."""

from __future__ import annotations

import datetime as dt
import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, TypeVar

import click

from cdc_daemon.cli.given import known_name
from cdc_daemon.model.duration import EXAMPLES, duration_of
from cdc_daemon.model.selection import Selection

if TYPE_CHECKING:
    from cdc_daemon.config.configuration import Configuration
    from cdc_daemon.model.entities import Entity

F = TypeVar("F", bound=Callable[..., Any])


class Moment(click.ParamType[dt.datetime]):
    """A moment: in ISO form (UTC where no zone is said), or how long ago (90s 30min 2h 7d 4w)."""

    name = "moment"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> dt.datetime:
        """The moment. Fails for a text that is none."""
        if isinstance(value, dt.datetime):
            return value
        if (found := duration_of(value)) is not None:
            return dt.datetime.now(dt.UTC) - found
        try:
            moment = dt.datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is no moment: write 2026-07-28T09:30:00Z, or 2h", param, ctx)
        return moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)


class Duration(click.ParamType[dt.timedelta]):
    """How long: 90s, 30min, 2h, 7d, 4w."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> dt.timedelta:
        """The duration. Fails for a text that is none."""
        found = value if isinstance(value, dt.timedelta) else duration_of(value)
        if found is None:
            self.fail(f"{value!r} is no duration: write {EXAMPLES}", param, ctx)
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """What was said on the command line, before names are looked up."""

    ids: tuple[int, ...]
    everything: bool
    keys: tuple[str, ...]
    error: str | None
    table: str | None
    entity: str | None
    pipeline: str | None
    since: dt.datetime | None
    until: dt.datetime | None

    @property
    def by_condition(self) -> bool:
        """Whether anything but ids says which changes are meant."""
        names = (self.error, self.table, self.entity, self.pipeline, self.since, self.until)
        return self.everything or bool(self.keys) or any(one is not None for one in names)

    def require(self) -> None:
        """UsageError where nothing says which changes are meant, or two things do."""
        if not self.ids and not self.by_condition:
            raise click.UsageError(
                "say which changes: by ID, by --key, --error, --table, --entity, --pipeline,"
                " --since or --until, or --all"
            )
        if self.ids and self.everything:
            raise click.UsageError("name the changes by ID, or say --all")

    def selection(self, configuration: Configuration, state: str | None = "parked") -> Selection:
        """The selection. UsageError for a key that no entity has."""
        return Selection(
            ids=self.ids or None,
            pipeline=self.pipeline,
            entity=self.entity,
            error=self.error,
            table=None if self.table is None else _table(self.table, configuration),
            lanes=tuple(self._lanes(configuration)) if self.keys else None,
            since=self.since,
            until=self.until,
            state=state,
        )

    def check_names(self, configuration: Configuration) -> None:
        """UsageError for names that are not configured. To be asked where nothing was found: what
        is configured no longer may still have parked changes."""
        known_name("pipeline", self.pipeline, configuration.sources)
        known_name("entity", self.entity, configuration.entities)
        if self.table is not None:
            tables = _tables(configuration)
            ends = [full.rpartition(".")[2] for full in tables]
            known_name("table", _table(self.table, configuration), [*tables, *ends])

    def _lanes(self, configuration: Configuration) -> Iterator[bytes]:
        found = [
            lane
            for entity in self._entities(configuration)
            for lane in _lanes_of(entity, self.keys)
        ]
        if not found:
            raise click.UsageError(
                f"no entity has a key of {', '.join(map(_name_of, self.keys))}: see its key in the"
                " configuration, and name it with --entity"
            )
        return iter(found)

    def _entities(self, configuration: Configuration) -> Sequence[Entity]:
        if self.entity is not None:
            known_name("entity", self.entity, configuration.entities)
            return [configuration.entities[self.entity]]
        return list(configuration.entities.values())


def _lanes_of(entity: Entity, keys: Sequence[str]) -> Iterator[bytes]:
    """The lanes of an entity key, as it is written and as the target spells it; none where the
    entity has no such key."""
    from cdc_daemon.engine.lanes import entity_lane
    from cdc_daemon.mapping.canonical import canonical
    from cdc_daemon.model.errors import DataError

    values = _values_of(entity, keys)
    if values is None:
        return
    written = tuple(value.encode() for value in values)
    yield entity_lane(entity.name, written)
    types = [entity.attribute(name).type for name in entity.key]
    try:
        spelled = tuple(canonical(one, v) for one, v in zip(types, written, strict=True))
    except (DataError, ValueError):
        return
    if spelled != written:
        yield entity_lane(entity.name, spelled)


def _values_of(entity: Entity, keys: Sequence[str]) -> list[str] | None:
    """The values in the order of the entity's key; None where they are of another key."""
    if len(keys) != len(entity.key):
        return None
    named = dict(text.split("=", 1) for text in keys if "=" in text)
    if set(named) == set(entity.key):
        return [named[name] for name in entity.key]
    return None if set(named) & set(entity.key) else list(keys)


def _name_of(key: str) -> str:
    """What of a key may be told: never its value."""
    return key.split("=", 1)[0] if "=" in key else "one value"


def _tables(configuration: Configuration) -> list[str]:
    return sorted({f"{m.source}.{m.schema_}.{m.table}" for m in configuration.mappings})


def _table(name: str, configuration: Configuration) -> str:
    """``source.schema.table`` for the end of such a name, where only one ends so."""
    meant = [full for full in _tables(configuration) if f".{full}".endswith(f".{name}")]
    if len(meant) > 1:
        raise click.UsageError(f"--table {name} may be {' or '.join(meant)}")
    return meant[0] if meant else name


_OPTIONS = (
    click.argument("ids", metavar="[ID]...", nargs=-1, type=click.IntRange(min=1)),
    click.option("--all", "everything", is_flag=True, help="All of them."),
    click.option(
        "--key",
        "keys",
        metavar="NAME=VALUE",
        multiple=True,
        help="Of this entity key: each attribute, or the values in the key's order.",
    ),
    click.option("--error", metavar="CODE", help="With this error."),
    click.option("--table", metavar="NAME", help="Of this source table."),
    click.option("--entity", metavar="NAME", help="Of this entity."),
    click.option("--pipeline", metavar="NAME", help="Of this pipeline."),
    click.option(
        "--since", metavar="TIME", type=Moment(), help="Parked since: ISO form, or 2h for ago."
    ),
    click.option("--until", metavar="TIME", type=Moment(), help="Parked before."),
)


def selection_options(command: F) -> F:
    """Decorator: IDs and conditions, handed on as ``chosen``."""

    @functools.wraps(command)
    def wrapped(*arguments: Any, **given: Any) -> Any:
        chosen = Chosen(**{field.name: given.pop(field.name) for field in fields(Chosen)})
        return command(*arguments, chosen=chosen, **given)

    for option in reversed(_OPTIONS):
        wrapped = option(wrapped)
    return wrapped  # type: ignore[return-value]
