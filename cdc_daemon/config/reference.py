"""The reference page of the configuration, generated from the models."""

from __future__ import annotations

import json
import types
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from cdc_daemon.config.channels import CHANNEL_KINDS
from cdc_daemon.config.failures import BreakerConfig, RetryConfig
from cdc_daemon.config.notifications import QuietHours, RuleConfig
from cdc_daemon.config.scalars import TYPE_SHAPES, TableName
from cdc_daemon.config.schema import (
    AttributeConfig,
    ConfigurationFile,
    EntityConfig,
    FailuresConfig,
    FieldConfig,
    MappingConfig,
    MysqlSourceConfig,
    NotificationsConfig,
    NullRules,
    PostgresSourceConfig,
    SettingsConfig,
    TargetConfig,
    TlsConfig,
    VerificationConfig,
)
from cdc_daemon.model.entities import EntityType

_CHANNELS = (
    'ops: {kind: dingtalk, token: "${cred:ding_token}", secret: "${cred:ding_secret}"}',
    'ops: {kind: wecom, token: "${cred:wecom_key}"}',
    'ops: {kind: feishu, token: "${cred:feishu_token}", secret: "${cred:feishu_secret}"}',
    'ops: {kind: slack, url: "https://hooks.slack.com/services/${cred:slack}"}',
    'hook: {kind: webhook, url: "https://hooks.corp/cdc", secret: "${cred:hook_secret}"}',
    """mail:
  kind: email
  host: smtp.corp
  from: cdc@corp
  to: [ops@corp]
  user: cdc
  password: ${cred:smtp}""",
)
_SECTIONS: tuple[tuple[str, type[BaseModel], str], ...] = (
    ("file", ConfigurationFile, "include: [entities/*.yaml, mappings/*.yaml]"),
    (
        "sources.<name>, kind postgres",
        PostgresSourceConfig,
        """sources:
  erp:
    kind: postgres
    dsn: postgresql://cdc@erp-db/erp
    password: ${cred:erp}
    nulls: {text: [" "], integer: ["0"]}""",
    ),
    (
        "sources.<name>, kind mysql or mariadb",
        MysqlSourceConfig,
        """sources:
  erp: {kind: mysql, host: erp-db, user: cdc, password: "${cred:erp}"}""",
    ),
    ("sources.<name>.nulls", NullRules, 'nulls: {text: [" ", ""], integer: ["0"]}'),
    ("tls", TlsConfig, "tls: {ca: /etc/ssl/erp-ca.pem}"),
    (
        "target",
        TargetConfig,
        """target:
  url: postgresql://cdc@control-db/group_control
  password: ${file:/run/secrets/control}
  schema: public""",
    ),
    (
        "entities.<name>",
        EntityConfig,
        """entities:
  sales_order:
    key: [order_no]
    attributes:
      order_no: string(30)
      customer_code: {type: string(40), required: true, references: customer}
      amount: decimal(18,2)""",
    ),
    ("entities.<name>.attributes.<name>", AttributeConfig, "code: string(40)"),
    (
        "mappings[]",
        MappingConfig,
        """mappings:
  - from: erp.public.t_sm_salorder
    to: sales_order
    where: "fbillstatus <> 'A'"
    key: {order_no: fbillno}
    fields:
      customer_code: {ref: fcustomerid, from: erp.public.t_bd_customer}
      amount: ftotalamount
    on_delete: soft""",
    ),
    (
        "mappings[].key.<attribute>, mappings[].fields.<attribute>",
        FieldConfig,
        """name: fname
unit: {from: funit, map: {PCS: EA, KGM: KG}, default: EA}
source: {const: erp}
price: {expr: "ROUND(fprice * 1.13, 4)"}
customer_code: {ref: fcustomerid, from: erp.public.t_bd_customer}""",
    ),
    ("daemon", SettingsConfig, "daemon: {log_format: json, drain_seconds: 5}"),
    (
        "verification",
        VerificationConfig,
        'verification: {schedule: "0 3 * * *", timezone: Europe/Berlin}',
    ),
    (
        "notifications",
        NotificationsConfig,
        """notifications:
  language: zh
  zone: Asia/Shanghai
  channels:
    ops: {kind: dingtalk, token: "${cred:ding_token}", secret: "${cred:ding_secret}"}
    mail: {kind: email, host: smtp.corp, from: cdc@corp, to: [ops@corp]}
  rules:
    - {to: [ops, mail]}
  quiet_hours: {from: "22:00", to: "07:00"}""",
    ),
    *(
        (f"notifications.channels.<name>, kind {kind}", model, example)
        for (kind, model), example in zip(CHANNEL_KINDS.items(), _CHANNELS, strict=True)
    ),
    (
        "notifications.rules[]",
        RuleConfig,
        """notifications:
  channels:
    ops: {kind: wecom, token: "${cred:wecom_key}"}
    hr: {kind: email, host: smtp.corp, from: cdc@corp, to: [hr@corp]}
  rules:
    - {to: [ops]}
    - {to: [hr], severity: critical, entity: "o*"}""",
    ),
    (
        "notifications.quiet_hours",
        QuietHours,
        'quiet_hours: {from: "22:00", to: "07:00", zone: Asia/Shanghai}',
    ),
    (
        "failures",
        FailuresConfig,
        """failures:
  keep_settled: 90d
  breaker: {parked: 5000}
  keys: {current: k2, k1: "${file:/etc/cdc-daemon/keys/k1}", k2: "${cred:failures_k2}"}""",
    ),
    ("failures.breaker", BreakerConfig, "breaker: {window_seconds: 600, share: 0.1}"),
    (
        "failures.retry.<error>",
        RetryConfig,
        "sqlstate_23514: {first_seconds: 600, tries: 5}",
    ),
)

_INTRODUCTION = """# Configuration

<!-- Generated from the models in cdc_daemon/config. Do not edit. -->

`cdc-daemon check-config` checks everything on this page and names every mistake at once, each with
file, line and column. `cdc-daemon config schema` prints a JSON Schema for editors.

## Files

`--config` names a file or a folder and may be repeated; without it `CDC_DAEMON_CONFIG` counts, then
`/etc/cdc-daemon`. A folder means its `cdc-daemon.yaml` or `config.yaml`, or, if it has neither, all
its `*.yaml`. A file brings along `conf.d/*.yaml` beside it and what its `include` names. Sections
of all files are merged; the same entry in two files is an error.

Files are YAML 1.2 in UTF-8: `yes`, `no`, `on` and `off` are texts. A number in `const`, `map`,
`default` or `nulls` keeps its spelling (`1.10` stays `1.10`); a code such as `0012` must stand in
quotes, and is refused without them. Unknown and duplicate keys, tags and merge keys are errors.
A file has at most 5 MiB, 50 levels and 100 aliases.

## Secrets

Under `sources`, `target`, `daemon`, `notifications` and `failures`, a text may hold references:

| written | becomes |
|---|---|
| `${VAR}` | the environment variable; an error if it is not set |
| `${VAR:-default}` | the same, or the default if it is not set or empty |
| `${file:/path}` | the file's content without one newline at its end |
| `${cred:name}` | the credential that systemd put into `$CREDENTIALS_DIRECTORY` |
| `$${` | the two characters `${` |

What they stand for is a text, number, `true` or `false`, as its key wants it; it never appears in a
message, a log or a dump. Commands that only look into the control database (`status`, `failures
list`, `checkpoint show`) need no secret of a source. Elsewhere references are refused,
so that no SQL text is ever made from the environment. A password written into a file that everybody
may read is a warning.

## Entity types

"""


def markdown() -> str:
    """The whole page."""
    kinds = ", ".join(f"`{shape}`" for shape in TYPE_SHAPES)
    parts = [
        _INTRODUCTION + f'{kinds}. Inside `{{…}}`, write `"decimal(18,4)"` in quotes: a comma\n'
        "ends a value there.\n"
    ]
    parts += [_section(title, model, example) for title, model, example in _SECTIONS]
    return "\n".join(parts)


def _section(title: str, model: type[BaseModel], example: str) -> str:
    fields = sorted(model.model_fields.items(), key=lambda item: not item[1].is_required())
    rows = [_row(field.alias or name, field) for name, field in fields]
    meaning = (model.__doc__ or "").strip().replace("\n    ", "\n")
    table = "\n".join(["| key | type | default | meaning |", "|---|---|---|---|", *rows])
    heading = "A file" if model is ConfigurationFile else f"`{title}`"
    return f"## {heading}\n\n{meaning}\n\n```yaml\n{example}\n```\n\n{table}\n"


def _row(key: str, field: FieldInfo) -> str:
    cells = [f"`{key}`", _type(field.annotation), _default(field), _meaning(field)]
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _meaning(field: FieldInfo) -> str:
    shown = [
        value if isinstance(value, str) else json.dumps(value) for value in field.examples or ()
    ]
    examples = f" Example: {', '.join(f'`{value}`' for value in shown)}." if shown else ""
    return f"{field.description}{examples}{_bounds(field)}"


def _bounds(field: FieldInfo) -> str:
    found = {
        name: getattr(bound, name)
        for bound in field.metadata
        for name in ("ge", "gt", "le", "lt")
        if hasattr(bound, name)
    }
    words = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}
    if not found:
        return ""
    limits = ", ".join(f"{words[name]} {value:,}" for name, value in found.items())
    return f" {limits[0].upper()}{limits[1:]}."


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True, validated_data={})
    if value is None or value in ("", (), {}) or isinstance(value, BaseModel):
        return ""
    return f"`{json.dumps(value) if not isinstance(value, str) else value}`"


_PLAIN: dict[Any, str] = {
    str: "text",
    int: "whole number",
    float: "number",
    bool: "`true` or `false`",
    SecretStr: "text (secret)",
    TableName: "`source.schema.table`",
    EntityType: "type",
}


def _type(kind: Any) -> str:
    """An annotation in an admin's words."""
    if hasattr(kind, "__metadata__"):
        kind = get_args(kind)[0]
    if kind in _PLAIN:
        return _PLAIN[kind]
    arguments = get_args(kind)
    origin = get_origin(kind)
    if origin in {Union, types.UnionType}:
        nullable = type(None) in arguments
        inner = " or ".join(_type(part) for part in arguments if part is not type(None))
        return f"{inner} or null" if nullable and inner == "business value" else inner
    if origin is Literal:
        return ", ".join(f"`{word}`" for word in arguments)
    if origin is tuple:
        return f"list of {_type(arguments[0])}"
    if origin is dict:
        return f"name: {_type(arguments[1])}"
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return _LINKS[kind]
    raise TypeError(f"no words for {kind}")


def _anchor(title: str) -> str:
    kept = [c for c in title.lower() if c.isalnum() or c in " -_"]
    return "".join(kept).replace(" ", "-")


_LINKS = {model: f"[{title.split(',')[0]}](#{_anchor(title)})" for title, model, _ in _SECTIONS}


if __name__ == "__main__":
    import sys

    sys.stdout.write(markdown())
