"""Whether ``references`` between entities and ``ref`` between mappings lead somewhere."""

from __future__ import annotations

from collections.abc import Mapping

from cdc_daemon.config.document import Path
from cdc_daemon.config.entities import AttributeConfig
from cdc_daemon.config.findings import Findings
from cdc_daemon.config.mappings import MappingConfig
from cdc_daemon.config.scalars import TableName
from cdc_daemon.config.written import Written, known
from cdc_daemon.model.errors import suggest


def check_reference(
    config: AttributeConfig, parent: str, path: Path, written: Written, findings: Findings
) -> None:
    """An attribute that holds the key of another entity must look like that key."""
    if parent not in written.data["entities"]:
        near = suggest(parent, written.data["entities"])
        findings.problem(f"unknown entity {parent!r}{near}", path, known(written, "entities"))
        return
    found = written.entities.get(parent)
    if found is None:
        return
    if len(found.key) != 1:
        findings.problem(
            f"{parent} cannot be referred to: its key is {len(found.key)} attributes, not one",
            path,
            "take 'references' out, or give that entity a key of one attribute",
        )
        return
    key = written.attribute(parent, found.key[0])
    if key is not None and key.type != config.type:
        findings.problem(
            f"type {config.type} differs from the key of {parent}, which is {key.type}",
            path,
            f"make both the same: {key.type}",
        )


def check_refs(
    mapping: MappingConfig,
    tables: Mapping[TableName, list[MappingConfig]],
    written: Written,
    findings: Findings,
) -> dict[str, str]:
    """The entity that each ``ref`` of a mapping leads to, by attribute."""
    leads: dict[str, str] = {}
    for attribute, origin in mapping.origins.items():
        if origin.ref_from is None:
            continue
        config = written.attribute(mapping.to, attribute)
        path = (*mapping.path_of(attribute), "from")
        declared = config.references if config else None
        crosses = origin.ref_from.source != mapping.source
        if crosses and mapping.source in written.data["sources"] and origin.ref_from in tables:
            findings.problem(
                "a 'ref' through another source is not supported yet",
                path,
                f"name a table of {mapping.source}",
            )
            continue
        found = tables.get(origin.ref_from)
        if not found:
            near = suggest(str(origin.ref_from), [str(table) for table in tables])
            findings.problem(
                f"no mapping reads {origin.ref_from}{near}",
                path,
                "'from' beside 'ref' names the table of a mapping",
            )
            continue
        target = _led_to(found, declared, set(written.data["entities"]), path, findings)
        if target is None:
            continue
        leads[attribute] = target.to
        if target.reference is False:
            findings.problem(
                "a 'ref' is resolved through this mapping, which needs its references",
                (*target.path, "reference"),
                "take 'reference: false' out",
            )
        if config is not None and declared is None:
            check_reference(config, target.to, path, written, findings)
    return leads


def _led_to(
    found: list[MappingConfig],
    declared: str | None,
    known_entities: set[str],
    path: Path,
    findings: Findings,
) -> MappingConfig | None:
    """The one mapping that a ``ref`` means."""
    if declared is None and len(found) == 1:
        return found[0]
    names = ", ".join(other.to for other in found)
    if declared is None:
        findings.problem(
            f"the table is mapped to {names}: which one does the 'ref' mean?",
            path,
            "declare 'references' on the attribute",
        )
        return None
    matching = [other for other in found if other.to == declared]
    if not matching and {declared, *(other.to for other in found)} <= known_entities:
        findings.problem(
            f"the attribute refers to {declared}, but this table is mapped to {names}",
            path,
            f"name the table that is mapped to {declared}",
        )
    return matching[0] if matching else None
