"""Every mistake in a file gives one message, with the place where it stands and a cure."""

from pathlib import Path

import pytest

from cdc_daemon.config.load import load
from cdc_daemon.model.errors import ConfigurationError

GOOD = """\
sources:
  erp:
    kind: postgres
    dsn: postgresql://cdc@127.0.0.1/erp
target:
  url: postgresql://cdc@127.0.0.1/control
entities:
  customer:
    key: [code]
    attributes:
      code: string(40)
      name: {type: string(200), required: true}
  order:
    key: [order_no]
    attributes:
      order_no: string(30)
      customer_code: {type: string(40), references: customer}
      amount: decimal(18,2)
mappings:
  - from: erp.public.t_customer
    to: customer
    key: {code: fnumber}
    fields:
      name: fname
  - from: erp.public.t_order
    to: order
    where: "fstatus = 'C'"
    key: {order_no: fbillno}
    fields:
      customer_code: {ref: fcustid, from: erp.public.t_customer}
      amount: famount
    on_delete: soft
"""

TYPES = (
    "types are string(n), text, integer, bigint, decimal(p,s), numeric, double, boolean, date, "
    "time, timestamp, timestamptz, interval, uuid, json, bytes"
)
SECTIONS = (
    "sections are include, sources, target, entities, mappings, daemon, verification,"
    " notifications, failures"
)
SOURCE_KEYS = (
    "known keys: password, sslmode, tls, nulls, on_error, max_value_bytes, kind, dsn, slot, "
    "publication"
)
MAPPING_KEYS = (
    "known keys: name, from, to, where, key, fields, on_delete, on_leave, reference, identity"
)
FIELD_KEYS = "known keys: from, const, expr, ref, map, default, trim, round, truncate, invalid"
NAME_CURE = "a name is a-z, 0-9 and _, at most {} characters, not beginning with a digit"
QUOTE = "expected text, found a number, true, false or nothing (put the text in quotes)"
ONE_ORIGIN = "name a column alone, or give one origin"


def problems(text: str, folder: Path, environ: dict[str, str] | None = None) -> list[str]:
    """What is wrong with a file of that text, as it is printed, with a short file name."""
    path = folder / "c.yaml"
    path.write_text(text)
    with pytest.raises(ConfigurationError) as raised:
        load([path], environ=environ or {})
    return [str(problem).replace(str(path), "c.yaml") for problem in raised.value.problems]


def changed(old: str, new: str) -> str:
    assert GOOD.count(old) == 1, old
    return GOOD.replace(old, new)


CASES: list[tuple[str, str, str, list[str]]] = [
    (
        "rounding a text",
        "      name: fname",
        "      name: {from: fname, round: true}",
        [
            "c.yaml:24:27: 'round' does nothing to 'name', which is string(200) (take it out; it"
            " goes with integer, bigint, decimal, double)"
        ],
    ),
    (
        "syntax",
        "key: [code]",
        "key: [code",
        ["c.yaml:10:15: not valid YAML: expected ',' or ']', but got ':'"],
    ),
    (
        "tab",
        "    kind: postgres",
        "\tkind: postgres",
        ["c.yaml:3:1: not valid YAML: found character '\\t' that cannot start any token"],
    ),
    (
        "undefined alias",
        "key: [code]",
        "key: *keys",
        ["c.yaml:9:10: not valid YAML: found undefined alias 'keys'"],
    ),
    (
        "control character",
        "famount",
        "fam\x01ount",
        ["c.yaml:31:18: not valid YAML: a character that YAML does not allow"],
    ),
    (
        "duplicate key",
        "    to: order\n",
        "    to: order\n    to: customer\n",
        ["c.yaml:27:5: duplicate key 'to', first given at c.yaml:26:5 (leave one)"],
    ),
    (
        "merge key",
        "  order:\n",
        "  order:\n    <<: {}\n",
        ["c.yaml:14:5: merge keys (<<) are not supported (write the keys out)"],
    ),
    (
        "tag",
        "    to: order\n",
        "    to: !order order\n",
        [
            "c.yaml:26:9: tags are not supported (take the tag out)",
            "c.yaml:26:9: expected text, found a number, true, false or nothing "
            "(put the text in quotes)",
        ],
    ),
    (
        "unknown section",
        "mappings:",
        "mapings: []\nmappings:",
        [f"c.yaml:19:1: unknown section 'mapings'; did you mean 'mappings'? ({SECTIONS})"],
    ),
    (
        "section of a later version",
        "mappings:",
        "authority: {}\nmappings:",
        ["c.yaml:19:1: 'authority' is not supported yet (take it out)"],
    ),
    (
        "section of the wrong form",
        GOOD[GOOD.index("mappings:") :],
        "mappings: {}\n",
        [
            "c.yaml:1:1: nothing is configured under 'mappings' (add 'mappings:')",
            "c.yaml:19:1: expected a list: a line '- from: …' for each mapping",
        ],
    ),
    (
        "unknown key of a source",
        "    kind: postgres\n",
        "    kind: postgres\n    slott: x\n",
        [f"c.yaml:4:5: unknown key 'slott'; did you mean 'slot'? ({SOURCE_KEYS})"],
    ),
    (
        "unknown key of a mapping",
        "where:",
        "whree:",
        [f"c.yaml:27:5: unknown key 'whree'; did you mean 'where'? ({MAPPING_KEYS})"],
    ),
    (
        "unknown key of a field",
        "amount: famount",
        "amount: {from: famount, rond: true}",
        [f"c.yaml:31:31: unknown key 'rond'; did you mean 'round'? ({FIELD_KEYS})"],
    ),
    (
        "unknown key of an attribute",
        "required: true",
        "requird: true",
        [
            "c.yaml:12:33: unknown key 'requird'; did you mean 'required'? "
            "(known keys: type, required, references, sensitivity)"
        ],
    ),
    (
        "attribute key of a later version",
        "required: true",
        "protect: hash",
        ["c.yaml:12:33: 'protect' is not supported yet (take it out)"],
    ),
    (
        "missing key of a mapping",
        "  - from: erp.public.t_order\n    to: order\n",
        "  - from: erp.public.t_order\n",
        ["c.yaml:25:5: missing key 'to'"],
    ),
    (
        "missing dsn",
        "    dsn: postgresql://cdc@127.0.0.1/erp\n",
        "",
        ["c.yaml:2:3: missing key 'dsn'"],
    ),
    (
        "missing kind",
        "    kind: postgres\n",
        "",
        ["c.yaml:2:3: missing key 'kind'"],
    ),
    (
        "missing section",
        "target:\n  url: postgresql://cdc@127.0.0.1/control\n",
        "",
        ["c.yaml:1:1: nothing is configured under 'target' (add 'target:')"],
    ),
    (
        "unknown kind of source",
        "kind: postgres",
        "kind: oracle",
        ["c.yaml:3:11: unknown kind of source 'oracle' (kinds are postgres, mysql, mariadb)"],
    ),
    (
        "misspelt kind of source",
        "kind: postgres",
        "kind: postgre",
        [
            "c.yaml:3:11: unknown kind of source 'postgre'; did you mean 'postgres'? "
            "(kinds are postgres, mysql, mariadb)"
        ],
    ),
    (
        "name of a source",
        "  erp:\n",
        "  Erp: {kind: postgres, dsn: host=h dbname=d}\n  erp:\n",
        [f"c.yaml:2:3: 'Erp' cannot be a name ({NAME_CURE.format(40)})"],
    ),
    (
        "name of an attribute",
        "      amount: decimal",
        "      Total: integer\n      amount: decimal",
        [f"c.yaml:18:7: 'Total' cannot be a name ({NAME_CURE.format(63)})"],
    ),
    (
        "name of a slot",
        "    kind: postgres\n",
        "    kind: postgres\n    slot: Cdc-Erp\n",
        ["c.yaml:4:11: this cannot be a name of a slot or publication (use a-z, 0-9 and _ only)"],
    ),
    (
        "address that is none",
        "postgresql://cdc@127.0.0.1/erp",
        "postgresql://cdc@[::1/erp",
        [
            "c.yaml:4:10: the connection is not a valid URI "
            "(write postgresql://user@host:port/database; percent-encode special characters)"
        ],
    ),
    (
        "address without a database",
        "postgresql://cdc@127.0.0.1/erp",
        "host=127.0.0.1 user=cdc",
        ["c.yaml:4:10: the connection names no database (write postgresql://user@host/database)"],
    ),
    (
        "misspelt keyword of an address",
        "postgresql://cdc@127.0.0.1/erp",
        "host=127.0.0.1 dbname=erp sslmod=require",
        ["c.yaml:4:10: unknown connection keyword 'sslmod'; did you mean 'sslmode'?"],
    ),
    (
        "keyword that the daemon sets",
        "postgresql://cdc@127.0.0.1/erp",
        "postgresql://cdc@127.0.0.1/erp?replication=database",
        [
            "c.yaml:4:10: 'replication' is set by the daemon (take it out of the connection)",
        ],
    ),
    (
        "target of another kind",
        "url: postgresql://cdc@127.0.0.1/control",
        "url: oracle://cdc@127.0.0.1/control",
        ["c.yaml:6:8: a connection of scheme 'oracle' is not supported (write postgresql://…)"],
    ),
    (
        "password as a number",
        "    kind: postgres\n",
        "    kind: postgres\n    password: 123456\n",
        [f"c.yaml:4:15: {QUOTE}"],
    ),
    (
        "policy that there is none",
        "on_delete: soft",
        "on_delete: softly",
        ["c.yaml:32:16: 'softly' is not one of soft, hard, ignore; did you mean 'soft'?"],
    ),
    (
        "number out of its bounds",
        "mappings:",
        "daemon: {batch_rows: 0}\nmappings:",
        ["c.yaml:19:22: must be at least 1"],
    ),
    (
        "text for a number",
        "mappings:",
        "daemon: {batch_rows: many}\nmappings:",
        ["c.yaml:19:22: expected a whole number, found a single value"],
    ),
    (
        "metrics for everybody",
        "mappings:",
        "daemon: {metrics_listen: '0.0.0.0:9464'}\nmappings:",
        [
            "c.yaml:19:26: the address is reachable from other machines, and nothing guards it yet "
            "(use 127.0.0.1:port, and a reverse proxy for access from elsewhere)"
        ],
    ),
    (
        "metrics nowhere",
        "mappings:",
        "daemon: {metrics_listen: '127.0.0.1'}\nmappings:",
        ["c.yaml:19:26: this is no address (write host:port, as in 127.0.0.1:9464)"],
    ),
    (
        "yes for true",
        "required: true",
        "required: yes",
        [
            "c.yaml:12:43: expected true or false (write true or false without quotes; "
            "yes, no, on and off are plain texts)"
        ],
    ),
    (
        "text for a list",
        "key: [order_no]",
        "key: order_no",
        [
            "c.yaml:14:10: expected a list, found a single value "
            "(write [a, b], or a line '- a' for each)"
        ],
    ),
    (
        "text for a mapping",
        "key: {order_no: fbillno}",
        "key: fbillno",
        [
            "c.yaml:28:10: expected a mapping of names, found a single value "
            "(write key: value lines below it)"
        ],
    ),
    (
        "misspelt type",
        "order_no: string(30)",
        "order_no: strin(30)",
        [f"c.yaml:16:17: unknown type 'strin(30)'; did you mean 'string'? ({TYPES})"],
    ),
    (
        "string without length",
        "order_no: string(30)",
        "order_no: string",
        [
            "c.yaml:16:17: type 'string' needs a length "
            "(write string(n) with n from 1 to 10485760, or text for any length)"
        ],
    ),
    (
        "scale above precision",
        "decimal(18,2)",
        "decimal(2,18)",
        [
            "c.yaml:18:15: type 'decimal(2,18)' needs precision and scale (write decimal(p,s) "
            "with p from 1 to 1000 and s at most p, or numeric for any)"
        ],
    ),
    (
        "length of a type without",
        "decimal(18,2)",
        "integer(18)",
        ["c.yaml:18:15: type integer takes no length (write integer)"],
    ),
    (
        "comma inside braces",
        "amount: decimal(18,2)",
        "amount: {type: decimal(18,2)}",
        [
            "c.yaml:18:22: 'decimal(18' is not a type "
            '(inside {…} a comma ends the value: write "decimal(18,4)" in quotes)',
            "c.yaml:18:33: unknown key '2)' (known keys: type, required, references, sensitivity)",
        ],
    ),
    (
        "unknown source",
        "from: erp.public.t_order",
        "from: erpp.public.t_order",
        ["c.yaml:25:11: unknown source 'erpp'; did you mean 'erp'? (sources are erp)"],
    ),
    (
        "table without schema",
        "from: erp.public.t_order",
        "from: erp.t_order",
        [
            "c.yaml:25:11: 'erp.t_order' does not name a table (expected source.schema.table; "
            'put a part that holds a dot in double quotes: "a.b")'
        ],
    ),
    (
        "unknown entity",
        "to: customer",
        "to: custmer",
        [
            "c.yaml:21:9: unknown entity 'custmer'; did you mean 'customer'? "
            "(entities are customer, order)",
        ],
    ),
    (
        "unknown attribute",
        "amount: famount",
        "amont: famount",
        [
            "c.yaml:31:7: unknown attribute 'amont' of order; did you mean 'amount'? "
            "(attributes are order_no, customer_code, amount)"
        ],
    ),
    (
        "required attribute that nothing fills",
        "    fields:\n      name: fname\n",
        "",
        [
            "c.yaml:20:5: nothing fills 'name', which customer requires "
            "(add name: <column> under 'fields', or make it optional)"
        ],
    ),
    (
        "required attribute that is always NULL",
        "name: fname",
        "name: {const: null}",
        ["c.yaml:24:7: 'name' is required and cannot always be NULL"],
    ),
    (
        "key attribute that nothing fills",
        "key: {code: fnumber}",
        "key: {name: fnumber}",
        [
            "c.yaml:22:5: the key of customer needs 'code' (add code: <column>)",
            "c.yaml:22:11: 'name' is not part of the key of customer (move it to 'fields')",
        ],
    ),
    (
        "key attribute among the fields",
        "      amount: famount",
        "      order_no: famount",
        ["c.yaml:31:7: 'order_no' is part of the key of order (move it to 'key')"],
    ),
    (
        "key attribute that is not declared",
        "key: [order_no]",
        "key: [order_nr]",
        [
            "c.yaml:14:11: the key names 'order_nr', which is no attribute of order; "
            "did you mean 'order_no'? (declare it under 'attributes')",
            "c.yaml:28:5: the key of order needs 'order_nr' (add order_nr: <column>)",
            "c.yaml:28:11: 'order_no' is not part of the key of order (move it to 'fields')",
        ],
    ),
    (
        "reserved attribute",
        "      amount: decimal",
        "      deleted_at: timestamp\n      amount: decimal",
        ["c.yaml:18:7: 'deleted_at' is a column that the daemon adds itself (choose another name)"],
    ),
    (
        "json in a key",
        "order_no: string(30)",
        "order_no: json",
        ["c.yaml:16:17: json cannot be part of a key"],
    ),
    (
        "reference to an unknown entity",
        "references: customer",
        "references: custommer",
        [
            "c.yaml:17:53: unknown entity 'custommer'; did you mean 'customer'? "
            "(entities are customer, order)",
        ],
    ),
    (
        "reference to a key of two attributes",
        "key: [code]",
        "key: [code, name]",
        [
            "c.yaml:17:53: customer cannot be referred to: its key is 2 attributes, not one "
            "(take 'references' out, or give that entity a key of one attribute)",
            "c.yaml:22:5: the key of customer needs 'name' (add name: <column>)",
            "c.yaml:24:7: 'name' is part of the key of customer (move it to 'key')",
        ],
    ),
    (
        "reference of another type",
        "customer_code: {type: string(40)",
        "customer_code: {type: string(20)",
        [
            "c.yaml:17:53: type string(20) differs from the key of customer, which is string(40) "
            "(make both the same: string(40))"
        ],
    ),
    (
        "ref whose type differs from the key it leads to",
        "customer_code: {type: string(40), references: customer}",
        "customer_code: bigint",
        [
            "c.yaml:30:43: type bigint differs from the key of customer, which is string(40) "
            "(make both the same: string(40))"
        ],
    ),
    (
        "ref to a table that nobody maps",
        "from: erp.public.t_customer}",
        "from: erp.public.t_custmer}",
        [
            "c.yaml:30:43: no mapping reads erp.public.t_custmer; did you mean "
            "'erp.public.t_customer'? ('from' beside 'ref' names the table of a mapping)"
        ],
    ),
    (
        "ref without a table",
        "{ref: fcustid, from: erp.public.t_customer}",
        "{ref: fcustid}",
        [
            "c.yaml:30:7: 'ref' needs 'from' "
            "(name the table that the id points to: source.schema.table)"
        ],
    ),
    (
        "ref through a mapping that keeps no references",
        "key: {code: fnumber}",
        "key: {code: fnumber}\n    reference: false",
        [
            "c.yaml:23:16: a 'ref' is resolved through this mapping, which needs its references "
            "(take 'reference: false' out)"
        ],
    ),
    (
        "ref to a table of another entity",
        "references: customer",
        "references: order",
        [
            "c.yaml:17:53: type string(40) differs from the key of order, which is string(30) "
            "(make both the same: string(30))",
            "c.yaml:30:43: the attribute refers to order, but this table is mapped to customer "
            "(name the table that is mapped to order)",
        ],
    ),
    (
        "ref through another source that is unknown",
        "  - from: erp.public.t_order",
        "  - from: hr.public.t_order",
        ["c.yaml:25:11: unknown source 'hr' (sources are erp)"],
    ),
    (
        "two mappings for one entity",
        "  - from: erp.public.t_order",
        "  - {from: erp.public.t_c2, to: customer, key: {code: a}, fields: {name: b}}\n"
        "  - from: erp.public.t_order",
        [
            "c.yaml:25:33: customer is already written by the mapping at c.yaml:21:9 "
            "(an entity has one mapping until rules of authority exist)"
        ],
    ),
    (
        "one name for two mappings",
        "    where: \"fstatus = 'C'\"\n",
        "    name: erp.t_customer.customer\n",
        [
            "c.yaml:27:11: the mapping at c.yaml:20:5 is called 'erp.t_customer.customer' too "
            "(give one of them another name)"
        ],
    ),
    (
        "two origins",
        "amount: famount",
        "amount: {from: famount, expr: famount * 2}",
        [
            "c.yaml:31:7: expected exactly one of from, const, expr and ref; found from and expr "
            f"({ONE_ORIGIN})"
        ],
    ),
    (
        "no origin",
        "amount: famount",
        "amount: {round: true}",
        [
            "c.yaml:31:7: expected exactly one of from, const, expr and ref; found none "
            f"({ONE_ORIGIN})"
        ],
    ),
    (
        "step that does not go with its origin",
        "amount: famount",
        "amount: {const: 1, map: {a: b}}",
        ["c.yaml:31:7: 'map' does not go with 'const' (take it out)"],
    ),
    (
        "two allowed losses",
        "amount: famount",
        "amount: {from: famount, round: true, truncate: true}",
        ["c.yaml:31:7: 'round' and 'truncate' exclude each other (leave one of them)"],
    ),
    (
        "code without quotes",
        "amount: famount",
        "amount: {const: 0012}",
        [
            "c.yaml:31:23: 0012 without quotes is a number, and its spelling would be lost "
            "(write '0012' in quotes if it is a code)"
        ],
    ),
    (
        "hexadecimal code without quotes",
        "amount: famount",
        "amount: {from: famount, default: 0x1F}",
        [
            "c.yaml:31:40: 0x1F without quotes is a number, and its spelling would be lost "
            "(write '0x1F' in quotes if it is a code)"
        ],
    ),
    (
        "code without quotes as a key of a map",
        "amount: famount",
        "amount: {from: famount, map: {0012: a}}",
        [
            "c.yaml:31:37: 0012 without quotes is a number, and its spelling would be lost "
            "(write '0012' in quotes if it is a code)",
            "c.yaml:31:31: must not be empty",
        ],
    ),
    (
        "true as a key of a map",
        "amount: famount",
        "amount: {from: famount, map: {a: b, true: c}}",
        ["c.yaml:31:43: a key without quotes is read as true or false (write 'true' in quotes)"],
    ),
    (
        "column that is a number",
        "amount: famount",
        "amount: 12",
        [
            "c.yaml:31:15: expected a column, found a number, true, false or nothing "
            "(put a name in quotes)"
        ],
    ),
    (
        "reference to the environment in SQL",
        "where: \"fstatus = 'C'\"",
        'where: "fstatus = ${STATUS}"',
        [
            "c.yaml:27:12: references are read under sources, target, daemon, notifications "
            "and failures only (write the value itself; $${ for the text ${)"
        ],
    ),
]


@pytest.mark.parametrize(
    "old,new,expected", [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_a_mistake_is_named_with_its_place_and_cure(
    old: str, new: str, expected: list[str], tmp_path: Path
) -> None:
    assert sorted(problems(changed(old, new), tmp_path)) == sorted(expected)


def test_a_loss_that_cannot_happen_is_refused(tmp_path: Path) -> None:
    """A text has no scale, a numeric no length: the words would be promises without effect."""
    text = changed("amount: decimal(18,2)", "amount: numeric").replace(
        "amount: famount", "amount: {from: famount, truncate: true}"
    )
    assert problems(text, tmp_path) == [
        "c.yaml:31:31: 'truncate' does nothing to 'amount', which is numeric (take it out; it goes "
        "with string, date, integer, bigint, decimal, double)"
    ]


def test_a_ref_does_not_cross_sources_yet(tmp_path: Path) -> None:
    text = changed("from: erp.public.t_order", "from: hr.public.t_order").replace(
        "target:\n", "  hr: {kind: postgres, dsn: 'postgresql://127.0.0.1/hr'}\ntarget:\n"
    )
    assert problems(text, tmp_path) == [
        "c.yaml:31:43: a 'ref' through another source is not supported yet (name a table of hr)"
    ]


def test_the_configuration_that_the_cases_change_is_good(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(GOOD)
    assert load([path], environ={}).warnings == ()


def test_all_mistakes_are_named_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = GOOD
    for old, new in [
        ("kind: postgres", "kind: oracle"),
        ("decimal(18,2)", "decimel(18,2)"),
        ("where:", "whree:"),
        ("amount: famount", "amont: famount"),
        ("on_delete: soft", "on_delete: softly"),
        ("url: postgresql://cdc@127.0.0.1/control", "url: ${NOWHERE}"),
    ]:
        assert text.count(old) == 1
        text = text.replace(old, new)
    found = problems(text, tmp_path)
    assert [problem.split(" ")[0] for problem in found] == [
        "c.yaml:3:11:",
        "c.yaml:6:8:",
        "c.yaml:18:15:",
        "c.yaml:27:5:",
        "c.yaml:31:7:",
        "c.yaml:32:16:",
    ]


@pytest.mark.parametrize(
    "text,expected",
    [
        pytest.param(
            "a: " + "[" * 60 + "]" * 60, "c.yaml:1:52: nested deeper than 50 levels", id="depth"
        ),
        pytest.param(
            "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
            + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 10)),
            "c.yaml:1:34: too much is nested through aliases",
            id="alias bomb",
        ),
        pytest.param(
            "a: &x [*x]", "c.yaml:1:4: too much is nested through aliases", id="alias to itself"
        ),
        pytest.param(
            "# " + "x" * (5 * 1024 * 1024), "c.yaml:1:1: the file is larger than 5 MiB", id="size"
        ),
    ],
)
def test_files_made_to_exhaust_the_reader_are_refused(
    text: str, expected: str, tmp_path: Path
) -> None:
    found = problems(text, tmp_path)
    assert expected in found


def test_a_file_that_is_not_utf8_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_bytes(b"sources:\n  # \xb2\xc4\xc1\xcf\n")
    with pytest.raises(ConfigurationError, match=r"c\.yaml:2:1: the file is not UTF-8 text"):
        load([path], environ={})


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as raised:
        load([tmp_path / "none.yaml"], environ={})
    assert [str(problem) for problem in raised.value.problems] == [
        f"{tmp_path}/none.yaml: cannot be read: No such file or directory"
    ]


@pytest.mark.parametrize("pattern", ["a**b", "/", "x" * 300 + ".yaml", "a\\0b", ""])
def test_an_include_that_is_no_pattern_is_placed(pattern: str, tmp_path: Path) -> None:
    (found,) = problems(f'include: ["{pattern}"]\n' + GOOD, tmp_path)
    assert found.startswith("c.yaml:1:11: ")


def test_a_loop_of_links_is_a_problem(tmp_path: Path) -> None:
    loop = tmp_path / "loop.yaml"
    loop.symlink_to(loop)
    with pytest.raises(ConfigurationError, match=r"loop\.yaml: cannot be read"):
        load([loop], environ={})


def test_a_path_that_is_too_long_is_a_problem(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read: File name too long"):
        load([tmp_path / ("x" * 300)], environ={})


def test_a_folder_that_may_not_be_read_is_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_path: Path) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "is_file", refuse)
    with pytest.raises(ConfigurationError, match="cannot be read: Permission denied"):
        load([tmp_path], environ={})


def test_two_mistakes_at_one_place_hide_no_others(tmp_path: Path) -> None:
    """A comma inside a type in flow style makes them; what comes after is checked all the same."""
    attributes = """\
    attributes:
      code: string(40)
      name: {type: string(200), required: true}
"""
    flow = "    attributes: {code: string(40), name: string(9), v: decimal(4,9)}\n"
    text = changed(attributes, flow).replace("name: fname", "nam: fname")
    found = problems(text, tmp_path)
    assert [line.split(": ", 1)[0] for line in found] == [
        "c.yaml:10:56",
        "c.yaml:10:66",
        "c.yaml:10:68",
        "c.yaml:22:7",
    ]
    assert "unknown attribute 'nam' of customer; did you mean 'name'?" in found[-1]
