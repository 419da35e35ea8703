"""Every word of the pages in English and Chinese, and how each of the two writes money and times.

What the core says (a reason, a summary of a plan) stays as it is: commands and pages then say the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from reconciler.money import a_month
from reconciler.render.plan import Heading
from reconciler.render.words import duration, money

EN: Mapping[str, str] = {
    "action.adopt": "adopt",
    "action.blocked": "blocked",
    "action.create": "create",
    "action.delete": "delete",
    "action.forget": "forget",
    "action.run": "paid run",
    "action.swap": "swap",
    "action.update": "update",
    "action.wait": "wait",
    "and_more": "and {count} more",
    "approve": "Approve",
    "approve.ask": "Approve exactly these operations, at no higher a price, once?",
    "approve.cancel": "Cancel",
    "approve.done": "Approved. The controller does it at its next look.",
    "approve.failed": "Not approved: {why}",
    "approve.read_only": "This page only reads. On the command line:",
    "as_declared": "Everything is as declared.",
    "at_least": "unknown (at least {amount})",
    "bought": "Bought so far",
    "budget": "Budget",
    "budget.none": "none",
    "busy": "This stack is being looked at, and that takes long. Try again.",
    "changes": "What an apply would do",
    "cny": "{amount} CNY",
    "conditions": "Conditions",
    "cost": "Cost",
    "curve": "Loss",
    "curve.of": "Loss of {name}",
    "declared": "Declared",
    "declared_at": "declared at",
    "difference": "Difference",
    "differs": "differs",
    "error": "Error",
    "error.looking": "The last look failed; what is shown is of the look before.",
    "event": "What",
    "events": "Events",
    "field": "Field",
    "find": "Find",
    "find.what": "Objects whose name contains",
    "gone": "not found",
    "gone.what": "There is no such page, stack or object.",
    "health": "Health",
    "heading.emulator": "emulator (nothing is bought)",
    "heading.environment": "environment {name}",
    "heading.prices": "prices of {date}",
    "heading.profile": "profile {name}",
    "heading.workspace": "workspace {name}",
    "id": "Id",
    "internal": "Internal error; the controller's log names it.",
    "journal": "Journal",
    "language": "Language",
    "lineage": "Lineage",
    "lineage.after": "led to",
    "lineage.before": "made from",
    "live": "Updates by itself",
    "live.lost": "Not connected; trying again",
    "live.now": "Updated",
    "log": "Log, the newest lines",
    "login": "Sign in",
    "login.bad": "This token is not valid.",
    "login.how": "The token is in the file .reconciler/page-tokens of the controller's folder.",
    "login.script": "This page needs JavaScript to sign in, to approve and to update itself.",
    "login.token": "Token",
    "looked": "Last look",
    "made_from": "made from",
    "message": "Message",
    "month": "{amount} CNY a month",
    "month.short": "A month",
    "never": "never",
    "next_look": "Next look",
    "next_look.in": "in {time}",
    "next_look.now": "now",
    "no_stack": "There is no stack yet.",
    "none": "none",
    "not_set": "not set",
    "notes": "Notes",
    "nothing_waits": "Nothing waits for approval.",
    "now": "now",
    "object": "Object",
    "observed": "Observed",
    "once": "Once",
    "outputs": "Told by the service",
    "over_limit": "Over the limit",
    "overview": "Overview",
    "plan": "Plan",
    "plan.of": "Plan of {name}",
    "proposed": "proposed",
    "rate": "{amount} CNY/h",
    "rate.after": "Run rate after",
    "rate.before": "Run rate before",
    "rate.more": "{sign}{amount} CNY/h",
    "rate.now": "Run rate",
    "read_only": "read only",
    "reason": "Reason",
    "revision": "revision",
    "root": "root folder",
    "runs": "Paid runs",
    "since": "Since",
    "skip": "Skip to the content",
    "spec": "Declared and observed",
    "stack": "Stack",
    "stacks": "Stacks",
    "status": "Status",
    "sync": "Sync",
    "title": "reconciler",
    "tokens": "Tokens",
    "together": "Together",
    "too_many": "Too many requests. Wait a moment.",
    "unknown": "unknown",
    "used_by": "used by",
    "waits": "Waits for approval",
    "when": "When",
    "whole_stack": "the stack",
    "who": "signed in as",
}

ZH: Mapping[str, str] = {
    "action.adopt": "接管",
    "action.blocked": "受阻",
    "action.create": "创建",
    "action.delete": "删除",
    "action.forget": "不再管理",
    "action.run": "付费训练",
    "action.swap": "替换",
    "action.update": "更新",
    "action.wait": "等待",
    "and_more": "另有 {count} 个",
    "approve": "批准",
    "approve.ask": "仅批准以上操作一次，且价格不得更高。确定批准？",
    "approve.cancel": "取消",
    "approve.done": "已批准。控制器将在下次检查时执行。",
    "approve.failed": "未批准：{why}",
    "approve.read_only": "本页面只读。请在命令行执行：",
    "as_declared": "一切与声明一致。",
    "at_least": "未知（至少 {amount}）",
    "bought": "累计已购",
    "budget": "预算",
    "budget.none": "未设置",
    "busy": "正在检查此栈，耗时较长。请稍后再试。",
    "changes": "执行后会发生什么",
    "cny": "{amount} 元",
    "conditions": "状况",
    "cost": "费用",
    "curve": "损失",
    "curve.of": "{name} 的损失曲线",
    "declared": "声明值",
    "declared_at": "声明于",
    "difference": "差异",
    "differs": "不一致",
    "error": "错误",
    "error.looking": "最近一次检查失败；以下为之前的结果。",
    "event": "内容",
    "events": "事件",
    "field": "字段",
    "find": "查找",
    "find.what": "名称包含以下内容的对象",
    "gone": "未找到",
    "gone.what": "没有这个页面、栈或对象。",
    "health": "健康",
    "heading.emulator": "模拟器（不产生费用）",
    "heading.environment": "环境 {name}",
    "heading.prices": "价格日期 {date}",
    "heading.profile": "接口版本 {name}",
    "heading.workspace": "业务空间 {name}",
    "id": "编号",
    "internal": "内部错误；详见控制器日志。",
    "journal": "日志账",
    "language": "语言",
    "lineage": "谱系",
    "lineage.after": "产出",
    "lineage.before": "来源",
    "live": "自动更新",
    "live.lost": "连接已断开，正在重试",
    "live.now": "已更新",
    "log": "日志（最新部分）",
    "login": "登录",
    "login.bad": "令牌无效。",
    "login.how": "令牌在控制器目录的 .reconciler/page-tokens 文件中。",
    "login.script": "登录、批准和自动更新需要启用 JavaScript。",
    "login.token": "令牌",
    "looked": "最近检查",
    "made_from": "来自",
    "message": "说明",
    "month": "每月 {amount} 元",
    "month.short": "每月",
    "never": "从未",
    "next_look": "下次检查",
    "next_look.in": "{time}后",
    "next_look.now": "即将开始",
    "no_stack": "还没有栈。",
    "none": "无",
    "not_set": "未设置",
    "notes": "提示",
    "nothing_waits": "没有待批准的操作。",
    "now": "立即",
    "object": "对象",
    "observed": "实际值",
    "once": "一次性",
    "outputs": "服务返回",
    "over_limit": "超出限额",
    "overview": "总览",
    "plan": "计划",
    "plan.of": "{name} 的计划",
    "proposed": "提出于",
    "rate": "{amount} 元/小时",
    "rate.after": "之后",
    "rate.before": "当前运行费率",
    "rate.more": "{sign}{amount} 元/小时",
    "rate.now": "运行费率",
    "read_only": "只读",
    "reason": "原因",
    "revision": "版本",
    "root": "根目录",
    "runs": "付费训练",
    "since": "起始",
    "skip": "跳到正文",
    "spec": "声明与实际",
    "stack": "栈",
    "stacks": "全部栈",
    "status": "状态",
    "sync": "同步",
    "title": "reconciler",
    "tokens": "token 数",
    "together": "合计",
    "too_many": "请求过多，请稍候。",
    "unknown": "未知",
    "used_by": "用于",
    "waits": "等待批准",
    "when": "时间",
    "whole_stack": "整个栈",
    "who": "当前身份",
}

LANGUAGES: Mapping[str, Mapping[str, str]] = {"en": EN, "zh": ZH}

STATES = {  # every word of Sync and Health: a sign, for whoever does not see its color, and the Chinese for it
    "Synced": ("=", "已同步"),
    "OutOfSync": ("≠", "未同步"),
    "Unknown": ("?", "未知"),
    "Ready": ("✓", "就绪"),
    "Paused": ("‖", "已暂停"),
    "Progressing": ("…", "进行中"),
    "Degraded": ("!", "降级"),
    "Failed": ("✗", "失败"),
}
_UNITS = {"h": "小时", "min": "分", "s": "秒"}


@dataclass(frozen=True)
class Words:
    """The words of one language. `language` is one of `LANGUAGES`."""

    language: str = "en"

    def __call__(self, key: str, **values: object) -> str:
        text = LANGUAGES[self.language][key]
        return text.format(**values) if values else text

    @property
    def tag(self) -> str:
        """The language as HTML names it."""
        return "zh-CN" if self.language == "zh" else "en"

    def stack(self, name: str) -> str:
        """The name of a stack; a controller calls the folder it was given itself by a mere dot."""
        return self("root") if name == "." else name

    def state(self, word: str) -> str:
        """A word of Sync or Health; in Chinese beside the English one, which manifests and metrics use."""
        sign, chinese = STATES.get(word, ("", ""))
        return f"{sign} {word} {chinese}".strip() if self.language == "zh" else f"{sign} {word}".strip()

    def cny(self, amount: Decimal | str | None) -> str:
        return self._money("cny", amount)

    def rate(self, amount: Decimal | str | None) -> str:
        return self._money("rate", amount)

    def more(self, amount: Decimal | str | None) -> str:
        """By how much a run rate moves."""
        if amount is None:
            return self("unknown")
        moved = Decimal(amount)
        return self("rate.more", sign="+" if moved >= 0 else "−", amount=money(abs(moved)))

    def heading(self, heading: Heading) -> str:
        """Where it all happens, in one line."""
        found = [heading.stack]
        found += [self("heading.environment", name=heading.environment)] if heading.environment else []
        found.append(self("heading.emulator") if heading.emulated else heading.endpoint)
        found += [self("heading.workspace", name=heading.workspace)] if heading.workspace else []
        found += [self("heading.profile", name=heading.profile), self("heading.prices", date=heading.prices_of)]
        return " · ".join(found)

    def month(self, hour: Decimal | str | None) -> str:
        return self._money("month", None if hour is None else a_month(Decimal(hour)))

    def _money(self, key: str, amount: Decimal | str | None) -> str:
        return self("unknown") if amount is None else self(key, amount=money(Decimal(amount)))

    def when(self, at: str) -> str:
        """A time of the record, `2026-11-26 16:00:49`, in UTC."""
        day, _, rest = at.partition(" ")
        if not at:
            return self("never")
        if self.language == "en" or day.count("-") != 2:
            return f"{at} UTC"
        year, month, number = day.split("-")
        return f"{year}年{month}月{number}日 {rest} UTC"

    def soon(self, seconds: float | None) -> str:
        """When something comes that is so far away."""
        if seconds is None:
            return ""
        if seconds < 1:
            return self("next_look.now")
        told = duration(seconds)
        if self.language == "zh":
            told = " ".join(_UNITS.get(word, word) for word in told.split())
        return self("next_look.in", time=told)


def chosen(asked: str, accepted: str) -> str:
    """The language that is `asked` for; else of an Accept-Language header the first that there is, else English."""
    if asked in LANGUAGES:
        return asked
    wanted: list[tuple[float, str]] = []
    for one in accepted[:500].split(","):
        name, _, quality = one.strip().partition(";q=")
        try:
            wanted.append((-float(quality or 1), name.strip().lower().partition("-")[0]))
        except ValueError:
            continue
    known = (name for weight, name in sorted(wanted, key=lambda pair: pair[0]) if weight and name in LANGUAGES)
    return next(known, "en")
