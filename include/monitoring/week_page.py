"""Makes the HTML of a week: one page that needs no network and no script."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from include.evaluation.page import STYLE
from include.monitoring.catalogue import SIGNALS
from include.monitoring.week_plots import signal_plot

if TYPE_CHECKING:
    from include.monitoring.breach import Breach, Signal
    from include.monitoring.weekly import Weekly
    from include.store.decisions import StoredDecision

_GROUPS = {
    "drift": "What is asked, and what is there", "coverage": "Whether it is covered", "retrieval": "How well it is found",
    "answers": "How well it is answered", "feedback": "What people say", "operation": "How it runs",
    "information": "For information",
}  # fmt: skip
_ACTIONS = {
    "nothing": "nothing", "notify": "tell people", "add_documents": "add documents", "reindex": "index again",
    "refresh_golden": "refresh the golden queries", "train": "train the {family}", "rollback": "roll back the {family}",
    "ask": "ask a person",
}  # fmt: skip


def render(weekly: Weekly) -> str:
    """The page."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    from include.monitoring.weekly import TEMPLATE

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"value": _value, "day": lambda at: f"{at:%a %d %b, %H:%M}"}
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        style=Markup(STYLE.read_text(encoding="utf-8")),
        week=weekly,
        headline=_headline(weekly),
        verdict=_verdict(weekly),
        groups=_groups(weekly, Markup),
        says={name: kind.says for name, kind in SIGNALS.items()},
        breaches=[_breach(one) for one in weekly.in_breach],
        decisions=[_decision(one) for one in weekly.decisions if one.at >= weekly.start],
        effects=weekly.effects,
    )


def _headline(weekly: Weekly) -> list[tuple[str, str]]:
    log = weekly.log
    figures = [("questions", f"{log.questions:,}"), ("breaches open", str(sum(b.ended_at is None for b in weekly.breaches)))]
    if log.thumbs:
        figures.append((f"of {log.thumbs:,} thumbs are up", f"{1 - log.thumbs_down / log.thumbs:.0%}"))
    golden = [one for one in weekly.history.get("golden_ndcg", ()) if one.value is not None]
    if golden:
        figures.append(("golden nDCG@10, newest", f"{golden[-1].value:.3f}"))
    if log.questions:
        figures.append(("found nothing", f"{log.empty / log.questions:.1%}"))
    if log.p95 is not None:
        figures.append(("p95 of a search", f"{1000 * log.p95:,.0f} ms"))
    return figures


def _verdict(weekly: Weekly) -> tuple[str, str]:
    """(class, sentence): what the week comes to."""
    measured = any(one.window_end > weekly.start for rows in weekly.history.values() for one in rows)
    still = [b for b in weekly.in_breach if b.ended_at is None]
    ended = len(weekly.in_breach) - len(still)
    if not measured:
        return "", "Nothing was measured in this week"
    if still:
        names = ", ".join(sorted(b.signal for b in still))
        return "worse", f"{len(still)} {'signal is' if len(still) == 1 else 'signals are'} beyond what is usual: {names}"
    if ended:
        return "better", f"All signals are back to what is usual; {ended} {'breach' if ended == 1 else 'breaches'} ended"
    return "better", "All signals stayed within what is usual"


def _groups(weekly: Weekly, mark: Any) -> list[tuple[str, list[dict[str, Any]]]]:
    changed = [one.created_at for one in weekly.deployments]
    shown = (weekly.first, weekly.start, weekly.end)
    found: dict[str, list[dict[str, Any]]] = {}
    for name, rows in weekly.history.items():
        plot = signal_plot(name, rows, [b for b in weekly.breaches if b.signal == name], changed, shown)
        latest = [one for one in rows if one.value is not None][-1]
        entry = {"name": name, "plot": mark(plot), "latest": latest, "of_week": latest.window_end > weekly.start}
        found.setdefault(SIGNALS[name].group, []).append(entry)
    return [(title, found[group]) for group, title in _GROUPS.items() if group in found]


def _breach(one: Breach) -> dict[str, Any]:
    return {"id": one.id, "signal": one.signal, "opened": one.opened_at, "ended": one.ended_at, "reason": one.reason}


def _decision(one: StoredDecision) -> dict[str, Any]:
    """Without words from elsewhere: what another system reports may say anything."""
    alert = one.evidence.get("alert")
    outcome = one.outcome or {}
    became = [one.state]
    if outcome.get("version"):
        became.append(f"version {outcome['version']}")
    if "promoted" in outcome:
        became.append("promoted" if outcome["promoted"] else "not promoted")
    became += [f"{signal} is back" for signal in outcome.get("effect", {})]
    return {
        "id": one.id, "at": one.at, "mode": one.mode, "breaches": one.breaches, "run": one.run_key,
        "action": _ACTIONS[one.action].format(family=one.family),
        "reason": f"report {alert.get('id')} from {alert.get('source')} asks for it" if alert else one.reason,
        "refused": [(r["action"], r["why"]) for r in one.evidence.get("refused", ())],
        "became": ", ".join(became),
    }  # fmt: skip


def _value(signal: Signal | float | None) -> str:
    """A number as people read it."""
    if signal is None:
        return "–"
    number = signal if isinstance(signal, int | float) else signal.value
    return "–" if number is None else f"{number:.4g}"
