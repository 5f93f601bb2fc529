"""What alerts are called in Chinese and English, and which command tells more.

In titles ``{pipeline}``, ``{entity}`` and ``{subject}`` stand for the alert's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from cdc_daemon.notify.alert import Kind, Phase, Severity


class Both(NamedTuple):
    """A text in both languages."""

    zh: str
    en: str


TITLES: Final[Mapping[Kind, Both]] = {
    Kind.STOPPED: Both(
        "管道 {pipeline} 已停止，不会自行恢复", "Pipeline {pipeline} has stopped for good"
    ),
    Kind.BLOCKED: Both(
        "管道 {pipeline} 受阻：每次尝试都失败，正在重试",
        "Pipeline {pipeline} is blocked: every attempt fails and is repeated",
    ),
    Kind.STALLED: Both(
        "管道 {pipeline} 停滞：没有进展，也没有报错",
        "Pipeline {pipeline} is stalled: no progress, and no error says why",
    ),
    Kind.LOG_AT_RISK: Both(
        "源 {pipeline} 的未读日志即将或已被删除",
        "Source {pipeline} is about to remove log that was not read yet, or has",
    ),
    Kind.PARKED: Both(
        "实体 {entity}（管道 {pipeline}）有变更进入失败队列",
        "Changes of {entity} (pipeline {pipeline}) wait in the failure queue",
    ),
    Kind.BREAKER: Both(
        "管道 {pipeline} 失败过多，已暂停", "Pipeline {pipeline} pauses: too many changes fail"
    ),
    Kind.CHECK: Both(
        "管道 {pipeline} 的检查 {subject} 发现异常",
        "Pipeline {pipeline}: the check {subject} finds something amiss",
    ),
    Kind.UNREACHABLE: Both(
        "管道 {pipeline} 的服务器无应答：{subject}",
        "Pipeline {pipeline}: a server does not answer: {subject}",
    ),
    Kind.DIFFERENT: Both(
        "实体 {entity}（管道 {pipeline}）校验不一致",
        "Verification found {entity} (pipeline {pipeline}) different from its source",
    ),
    Kind.UNVERIFIED: Both(
        "管道 {pipeline} 的校验无法完成", "Pipeline {pipeline} could not be verified"
    ),
    Kind.RELOAD: Both(
        "新配置有误，未生效，旧配置继续运行",
        "The changed configuration was refused; the old one stays",
    ),
    Kind.TEST: Both("这是一条测试通知", "This is a test message"),
}

FACTS: Final[Mapping[str, Both]] = {
    "error": Both("错误", "Error"),
    "changes": Both("变更数", "Changes"),
    "keys": Both("键数", "Keys"),
    "classes": Both("错误类型", "Error classes"),
    "oldest": Both("最早入队", "Oldest parked"),
    "mapping": Both("映射", "Mapping"),
    "missing": Both("缺失行", "Rows missing"),
    "extra": Both("多余行", "Rows surplus"),
    "different": Both("不同行", "Rows different"),
    "verified": Both("校验时间", "Verified at"),
    "where": Both("位置", "Where"),
    "what": Both("现象", "Found"),
    "cure": Both("处置", "Do"),
    "slot": Both("槽状态", "Slot"),
}
MOMENTS: Final = frozenset({"oldest", "verified"})
"""Facts that are seconds since 1970."""

SEVERITIES: Final[Mapping[Severity, Both]] = {
    Severity.CRITICAL: Both("严重", "critical"),
    Severity.WARNING: Both("警告", "warning"),
    Severity.INFO: Both("提示", "info"),
}
PHASES: Final[Mapping[Phase, Both]] = {
    Phase.BEGAN: Both("", ""),
    Phase.WORSE: Both("加剧", "much worse"),
    Phase.GOES_ON: Both("仍在持续", "goes on"),
    Phase.ENDED: Both("已恢复", "over"),
}
SINCE: Final = Both("开始时间", "Since")
UNTIL: Final = Both("结束时间", "Until")
LOOK: Final = Both("查看", "Look")
MORE: Final = Both("……另有 {count} 条未列出", "… and {count} more that are not shown")
SUBJECT: Final = Both("{first}，另有 {count} 条", "{first}, and {count} more")

COMMANDS: Final[Mapping[Kind, str]] = {
    Kind.STOPPED: "cdc-daemon doctor",
    Kind.BLOCKED: "cdc-daemon doctor",
    Kind.STALLED: "cdc-daemon status",
    Kind.LOG_AT_RISK: "cdc-daemon status",
    Kind.PARKED: "cdc-daemon failures list --pipeline {pipeline}",
    Kind.BREAKER: "cdc-daemon failures resume {pipeline}",
    Kind.CHECK: "cdc-daemon doctor",
    Kind.UNREACHABLE: "cdc-daemon doctor",
    Kind.DIFFERENT: "cdc-daemon verify --mapping {subject}",
    Kind.UNVERIFIED: "cdc-daemon verify",
    Kind.RELOAD: "cdc-daemon check-config",
}
