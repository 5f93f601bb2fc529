"""Checks between sections, and the entities that follow from all of them.

A mapping is held against its source and its entity, an entity against those it refers to, a ``ref``
against the mapping that it is resolved through. Names count as known when they are written, even
where something else about them is wrong: one mistake gives one message.
"""

from __future__ import annotations

from cdc_daemon.config.connections import Connection
from cdc_daemon.config.document import Path
from cdc_daemon.config.entities import EntityConfig
from cdc_daemon.config.findings import Findings
from cdc_daemon.config.mappings import LOSSES, MappingConfig
from cdc_daemon.config.referring import check_reference, check_refs
from cdc_daemon.config.sensitive import with_inherited
from cdc_daemon.config.written import Written, known
from cdc_daemon.model.entities import Attribute, Entity, Kind
from cdc_daemon.model.errors import suggest

RESERVED = ("last_sync_time", "deleted_at")
"""Columns that the daemon adds to every entity table, or may add."""


def check_and_build(written: Written, findings: Findings) -> dict[str, Entity]:
    """Note every inconsistency, and build the entities (to be used only if there is none)."""
    for name, entity in written.entities.items():
        _check_entity(name, entity, written, findings)
    for mapping in written.mappings:
        _check_mapping(mapping, written, findings)
    _check_writers(written, findings)
    if written.target is not None and written.target.kind == "sqlite":
        _check_embedded(written, findings)
    _warn(written, findings)
    tables = written.by_table()
    references = {
        (mapping.to, attribute): entity
        for mapping in written.mappings
        for attribute, entity in check_refs(mapping, tables, written, findings).items()
    }
    soft = {
        mapping.to
        for mapping in written.mappings
        if "soft" in {mapping.on_delete, mapping.on_leave}
    }
    return with_inherited(
        {
            name: _build(name, entity, references, soft=name in soft)
            for name, entity in written.entities.items()
        }
    )


# --- entities ---------------------------------------------------------------------------------


def _check_entity(name: str, entity: EntityConfig, written: Written, findings: Findings) -> None:
    path: Path = ("entities", name)
    declared = written.attributes_of(name)
    for index, attribute in enumerate(entity.key):
        if attribute not in declared:
            findings.problem(
                f"the key names {attribute!r}, which is no attribute of {name}"
                f"{suggest(attribute, declared)}",
                (*path, "key", index),
                "declare it under 'attributes'",
            )
        elif attribute in entity.key[:index]:
            findings.problem(f"the key names {attribute!r} twice", (*path, "key", index))
    reserved = (*RESERVED, "id") if entity.surrogate_id else RESERVED
    for attribute, config in entity.attributes.items():
        inside = (*path, "attributes", attribute)
        if attribute in reserved:
            findings.problem(
                f"{attribute!r} is a column that the daemon adds itself",
                inside,
                "choose another name",
                at_key=True,
            )
        if attribute in entity.key and config.type.kind is Kind.JSON:
            findings.problem("json cannot be part of a key", (*inside, "type"))
        if config.references is not None:
            at = (*inside, "references")
            check_reference(config, config.references, at, written, findings)


# --- mappings ---------------------------------------------------------------------------------


def _check_mapping(mapping: MappingConfig, written: Written, findings: Findings) -> None:
    if mapping.source not in written.data["sources"]:
        near = suggest(mapping.source, written.data["sources"])
        findings.problem(
            f"unknown source {mapping.source!r}{near}",
            (*mapping.path, "from"),
            known(written, "sources"),
        )
    if mapping.to not in written.data["entities"]:
        near = suggest(mapping.to, written.data["entities"])
        findings.problem(
            f"unknown entity {mapping.to!r}{near}",
            (*mapping.path, "to"),
            known(written, "entities"),
        )
        return
    entity = written.entities.get(mapping.to)
    if entity is not None:
        _check_key(mapping, entity, written, findings)
        _check_fields(mapping, entity, written, findings)
        _check_losses(mapping, entity, findings)


def _check_key(
    mapping: MappingConfig, entity: EntityConfig, written: Written, findings: Findings
) -> None:
    path = (*mapping.path, "key")
    given = written.filled_by(mapping, "key")
    for attribute in entity.key:
        if attribute not in given:
            findings.problem(
                f"the key of {mapping.to} needs {attribute!r}", path, f"add {attribute}: <column>"
            )
    for attribute in given:
        if attribute not in written.attributes_of(mapping.to):
            _unknown_attribute(mapping, attribute, entity.key, path, findings)
        elif attribute not in entity.key:
            findings.problem(
                f"{attribute!r} is not part of the key of {mapping.to}",
                (*path, attribute),
                "move it to 'fields'",
                at_key=True,
            )


def _check_fields(
    mapping: MappingConfig, entity: EntityConfig, written: Written, findings: Findings
) -> None:
    path = (*mapping.path, "fields")
    attributes = written.attributes_of(mapping.to)
    given = written.filled_by(mapping, "fields")
    for attribute in given:
        if attribute not in attributes:
            _unknown_attribute(mapping, attribute, attributes, path, findings)
        elif attribute in entity.key:
            findings.problem(
                f"{attribute!r} is part of the key of {mapping.to}",
                (*path, attribute),
                "move it to 'key'",
                at_key=True,
            )
    for attribute, config in entity.attributes.items():
        if attribute in entity.key or not config.required:
            continue
        if attribute not in given:
            findings.problem(
                f"nothing fills {attribute!r}, which {mapping.to} requires",
                mapping.path,
                f"add {attribute}: <column> under 'fields', or make it optional",
            )
    for attribute, origin in mapping.origins.items():
        required = attribute in entity.key or (
            attribute in entity.attributes and entity.attributes[attribute].required
        )
        if required and origin.is_const and origin.const is None:
            findings.problem(
                f"{attribute!r} is required and cannot always be NULL", mapping.path_of(attribute)
            )


def _check_losses(mapping: MappingConfig, entity: EntityConfig, findings: Findings) -> None:
    """What ``round`` and ``truncate`` allow must be something that can happen."""
    for attribute, origin in mapping.origins.items():
        config = entity.attributes.get(attribute)
        lossy = origin.lossy
        if config is None or lossy is None or lossy in LOSSES.get(config.type.kind, ()):
            continue
        able = [kind.value for kind, losses in LOSSES.items() if lossy in losses]
        findings.problem(
            f"{lossy!r} does nothing to {attribute!r}, which is {config.type}",
            (*mapping.path_of(attribute), lossy),
            f"take it out; it goes with {', '.join(able)}",
            at_key=True,
        )


def _unknown_attribute(
    mapping: MappingConfig,
    attribute: str,
    known: list[str] | tuple[str, ...],
    path: Path,
    findings: Findings,
) -> None:
    findings.problem(
        f"unknown attribute {attribute!r} of {mapping.to}{suggest(attribute, known)}",
        (*path, attribute),
        f"attributes are {', '.join(known)}",
        at_key=True,
    )


def _check_writers(written: Written, findings: Findings) -> None:
    """One name for one mapping, and one mapping for one entity."""
    names: dict[str, MappingConfig] = {}
    writers: dict[str, MappingConfig] = {}
    for mapping in written.mappings:
        writer = writers.setdefault(mapping.to, mapping)
        if writer is not mapping:
            first = findings.place((*writer.path, "to"))
            findings.problem(
                f"{mapping.to} is already written by the mapping at {first}",
                (*mapping.path, "to"),
                "an entity has one mapping until rules of authority exist",
            )
        elif names.setdefault(mapping.name, mapping) is not mapping:
            first = findings.place(names[mapping.name].path)
            findings.problem(
                f"the mapping at {first} is called {mapping.name!r} too",
                (*mapping.path, "name"),
                "give one of them another name",
            )


def _check_embedded(written: Written, findings: Findings) -> None:
    """An SQLite database takes one source, and has no schemas, passwords or encryption."""
    first, *others = written.data["sources"] or [""]
    for name in others:
        findings.problem(
            f"an SQLite control database takes one source, and has {first!r} already",
            ("sources", name),
            "give each source a configuration and a database of its own, or use PostgreSQL",
            at_key=True,
        )
    for key in ("schema", "password", "sslmode", "tls"):
        if key in written.data["target"]:
            findings.problem(
                f"{key!r} means nothing to an SQLite database",
                ("target", key),
                "take it out",
                at_key=True,
            )


# --- results ----------------------------------------------------------------------------------


def _build(
    name: str, entity: EntityConfig, references: dict[tuple[str, str], str], *, soft: bool
) -> Entity:
    others = [attribute for attribute in entity.attributes if attribute not in entity.key]
    order = [*dict.fromkeys(key for key in entity.key if key in entity.attributes), *others]
    return Entity(
        name=name,
        key=entity.key,
        attributes=tuple(
            Attribute(
                name=attribute,
                type=entity.attributes[attribute].type,
                required=attribute in entity.key or entity.attributes[attribute].required,
                references=entity.attributes[attribute].references
                or references.get((name, attribute)),
                sensitivity=entity.attributes[attribute].sensitivity,
            )
            for attribute in order
        ),
        surrogate_id=entity.surrogate_id,
        soft_delete=soft,
    )


def _warn(written: Written, findings: Findings) -> None:
    """What is allowed and probably not meant."""
    targets = {mapping.to for mapping in written.mappings}
    for name in written.entities:
        if name not in targets:
            findings.warning(f"no mapping writes {name}", ("entities", name))
    sources = {mapping.source for mapping in written.mappings}
    for name in written.sources:
        if name not in sources:
            findings.warning(f"no mapping reads from {name}", ("sources", name))
    for mapping in written.mappings:
        if mapping.on_leave is not None and mapping.where is None:
            findings.warning(
                "'on_leave' does nothing without 'where'",
                (*mapping.path, "on_leave"),
                "take it out",
            )
    connections = [(("sources", name), source) for name, source in written.sources.items()]
    for path, connection in connections:
        _warn_of_plaintext(path, connection, findings)
    if written.target is not None:
        _warn_of_plaintext(("target",), written.target, findings)


def _warn_of_plaintext(path: Path, connection: Connection, findings: Findings) -> None:
    mode = connection.conninfo.get("sslmode")
    if not connection.loopback and mode not in {"verify-full", "verify-ca"}:
        findings.warning(
            f"the connection leaves this machine with sslmode {mode}: "
            "nobody checks whom it reaches",
            path,
            "use verify-full",
        )
