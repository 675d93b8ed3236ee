"""The pages that the UI shows with our DAGs: index, training, monitoring, review of feedback, and broken collection files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from include.collection_file import CHAMPION
from ragworks.schedules import describe_schedule

if TYPE_CHECKING:
    from include.collection_file import Collection
    from ragworks.catalogue import BrokenFile

SHOWN = 200  # characters of a query


def describe_collection(collection: Collection) -> str:
    """Markdown: what is indexed, how, when, within which limits, and what to type."""
    name, source, limits = collection.name, collection.source, collection.validation
    connection = f", connection `{source.conn_id}`" if source.conn_id else ""
    required = ", ".join(f"`{key}`" for key in limits.required_metadata) or "none"
    embedding = collection.embedding
    until = f", `{embedding.base}` until one is promoted" if embedding.model == CHAMPION else ""
    model = f"`{embedding.model}`{until} ({embedding.backend}, stored as {embedding.storage})"
    return f"""# Collection {name}

{collection.description or f"Keeps the index of `{name}` in step with its source."}

| | |
|---|---|
| source | {source.type}: {", ".join(_code(part) for part in source.shown)}{connection} |
| model | {model} |
| chunks | at most {collection.chunking.max_tokens} tokens, {collection.chunking.overlap} shared with the one before |
| runs | {describe_schedule(collection)} |
| stops when | over {limits.max_rejected:.0%} of its documents are refused, or over {limits.max_deleted:.0%} would vanish |
| refuses | {"rows" if source.type == "sql" else "files"} over {limits.max_bytes:,} bytes; required metadata: {required} |
| announces | asset `ragworks.{name}.index`, when something changed |

**plan** lists the source and says what changed · **index** embeds only that, one task a worker · **validate** judges the
whole run · **publish** makes it live in one transaction; it is skipped when nothing changed. Until then queries are
answered from the index before. A failed run can be cleared or triggered again: finished work is kept.

```
ragworks index {name} --plan     # what a run would do, and why
ragworks status {name}           # what is live
ragworks runs {name}             # what each run did
ragworks quarantine {name}       # what was refused, and why
ragworks generations {name}      # what was built, and how good it is
ragworks rollback {name}         # have the generation before answer again; the form's mode `rollback` does the same
ragworks search {name} "…"
```
"""


def describe_training(family: str, description: str) -> str:
    """Markdown: what the steps do, who decides, and what to type."""
    llm = family == "llm"
    estimate = " **estimate** tells memory and time, and refuses what does not fit ·" if llm else ""
    merge = " **merge** merges adapters where the form asks for it ·" if llm else ""
    asked = "conversations and golden queries" if llm else "golden queries"
    return f"""# Train the {family}

{description}.

**data** makes or takes a dataset · **check** judges it before a GPU is asked for ·{estimate} **baseline** scores what serves
now · **train** on a GPU pod, or on this machine (`RAGWORKS_COMPUTE`); a retry goes on from the last checkpoint ·{merge}
**evaluate** asks champion and challenger the same {asked} · **gate** accepts the challenger only when it is surely better,
quick enough and worse on no slice · **approve** asks a person (`training.promotion`) · **promote** puts it to work ·
**verify** asks a few questions, and takes it back if they are not answered.

A refused model is a result, not a failure: the steps after **gate** are skipped, and its log says why. The same data,
arguments and base are trained once, however often the run is asked for; *Train again* in the form does it all the same.

| | |
|---|---|
| runs | from this form; when the asset `ragworks.{family}.retrain` is updated; by `RAGWORKS_TRAIN_{family.upper()}_CRON` |
| announces | asset `ragworks.{family}.champion`, when another model was promoted |

```
ragworks models {family}                 # trainings, versions, verdicts, what serves
ragworks promote {family} VERSION        # by hand
ragworks rollback-model {family}         # back to the one before, at once
ragworks dataset NAME                    # what models are trained on
```
"""


def describe_monitor(collection: Collection) -> str:
    """Markdown: what is watched, when, what may be done about it, and what to type."""
    name, watched = collection.name, collection.monitoring
    policy = ", ".join(f"{action}: `{mode}`" for action, mode in watched.policy.model_dump().items())
    cron = f"`{watched.schedule}` (cron, UTC); " if watched.schedule else ""
    return f"""# Watch {name}

**measure** measures the signals of every window that is over, opens and ends breaches, and decides · **tell** says what is new
through the connections `ragworks_slack` and `ragworks_smtp` · **approve** asks a person about a decision that waits · **act**
rolls back, or has the collection indexed · **report** writes the page of the week. A training is begun by the asset
`ragworks.<family>.retrain`, which the triggerer updates within seconds of a decision.

| | |
|---|---|
| runs | {cron}after {watched.minimum_sample} judged answers, once a window is over; when another system reports something |
| window | {watched.window_hours:g} hours, at least {watched.minimum_sample} questions |
| may do | {policy} |
| asks | for {collection.training.approval_hours:g} hours; then it is a no |

```
ragworks monitor {name}              # signals, breaches, decision
ragworks monitor {name} --calibrate  # thresholds from its own history
```
"""


def describe_review(description: str) -> str:
    """Markdown: what is asked, what an answer does, and what to type instead."""
    return f"""# Review feedback

{description}.

**review** shows the oldest open judgements of a collection in a form under *Required actions*: accept, reject, or leave open.
Accepted ones become golden queries, or training pairs and hard negatives. It waits seven days, holds no worker meanwhile, and
is skipped when nothing is open. To correct a judgement, use the files of the command line.

```
ragworks feedback NAME                 # what waits
ragworks feedback NAME --review        # the same in a terminal
ragworks feedback NAME --export FILE   # to correct, then --import FILE
```
"""


def describe_broken(broken: BrokenFile) -> str:
    """Markdown: what is wrong with a collection file."""
    return f"""# {broken.path.name} cannot be used

```
{broken.error}
```

No index is touched while this lasts. Correct `{broken.path.name}`: this DAG then gives way to the collection's own.
"""


def _code(text: str) -> str:
    """A code span for a cell of a table, whatever the text holds."""
    shown = text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"
    return "`" + shown.replace("`", "'").replace("|", "\\|") + "`"
