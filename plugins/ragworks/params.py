"""The forms that the UI shows before a run; REST calls are checked against the same schema."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk import Param

if TYPE_CHECKING:
    from collections.abc import Sequence

MODES = {
    "incremental": "incremental: bring the index in step with the source; only what changed is read and embedded",
    "plan": "plan: only say what a run would do and why; nothing is written",
    "plan_rebuild": "plan_rebuild: only say what a rebuild would do and cost; everything is read, nothing is written",
    "rebuild": "rebuild: read and embed everything again into a new generation, then swap",
    "rollback": "rollback: have the generation that served last answer queries again, at once; nothing is read or embedded",
}
MAX_WORKERS = 32


def index_params() -> dict[str, Param]:
    """The form of an index DAG."""
    return {
        "mode": Param(
            "incremental",
            type="string",
            enum=list(MODES),
            values_display=MODES,
            title="What to do",
            description_md="\n".join(f"- {text}" for text in MODES.values()),
        ),
        "allow_deletes": Param(
            False,
            type="boolean",
            title="Allow many deletions",
            description_md=(
                "A run stops when it would remove more of the live documents than `validation.max_deleted`. "
                "Switch this on for one run when the documents are really gone: `plan` lists them."
            ),
        ),
        "acknowledge": Param(
            False,
            type="boolean",
            title="Go on without refused documents",
            description_md=(
                "A run stops when more than `validation.max_rejected` of it is refused. Switch this on for one run when you "
                "looked at those in quarantine and the others shall go live without them; what is refused from then on counts."
            ),
        ),
        "workers": Param(
            1,
            type="integer",
            minimum=1,
            maximum=MAX_WORKERS,
            title="Workers",
            description_md=(
                f"How many tasks share the embedding at most, 1 to {MAX_WORKERS}. They take documents from one queue. "
                "1 is right where all tasks run on one machine, because the model uses all its cores; "
                "more helps when tasks run on several machines, or when the embedder is an endpoint."
            ),
        ),
    }


def monitor_params() -> dict[str, Param]:
    """The form of a monitor DAG."""
    return {
        "at": Param(
            None,
            type=["null", "string"],
            format="date-time",
            title="As if it were then",
            description_md="Only windows that had ended by then are measured and decided on: for what was missed. Empty: now.",
        ),
    }


def review_params(collections: Sequence[str]) -> dict[str, Param]:
    """The form before a review of feedback."""
    return {
        "collection": Param(
            collections[0] if collections else "",
            type="string",
            enum=list(collections) or [""],
            title="Collection",
            description_md="Whose feedback is reviewed.",
        ),
        "batch": Param(
            20,
            type="integer",
            minimum=1,
            maximum=100,
            title="Judgements",
            description_md="How many the form has at most, the oldest first.",
        ),
        "texts": Param(
            True,
            type="boolean",
            title="Show texts",
            description_md=(
                "Questions, answers and comments stand in the form, and stay in Airflow's database until `airflow db clean`: "
                "`ragworks forget` does not reach them. Switched off, the form has ids and documents alone."
            ),
        ),
    }
