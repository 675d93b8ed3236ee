"""A collection with real text, and models that stand for trained ones: the packaged encoder, saved as a training saves."""

from __future__ import annotations

import hashlib
import itertools
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from include.config import PROJECT_ROOT, Settings
from include.registry.artifacts import model_path, save_folder
from include.registry.versions import register
from include.store import collections, model_runs
from include.store.pool import open_pool
from tests.evaluation.trial_models import cross_encoder, perturbed
from tests.support import HashEmbedder, index

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from include.store.pool import Pool

TEMPLATE = "registry_template"
_numbers = itertools.count()

TOPICS = (
    ("otters", "Where otters sleep", "Otters sleep afloat, wrapped in kelp, or in holts by the river bank."),
    ("bread", "How bread is baked", "Dough is kneaded, rests until it has doubled, and is baked in a hot oven."),
    ("tides", "Why the tides turn", "The moon pulls the sea; twice a day the water rises and falls."),
    ("glass", "What glass is made of", "Sand, soda and lime are melted together at fifteen hundred degrees."),
    ("bees", "How bees find flowers", "A bee that found nectar dances, and the angle of her dance points the way."),
    ("steam", "When steam drives an engine", "Boiling water expands in the cylinder and pushes the piston."),
    ("paper", "Who invented paper", "Cai Lun pressed bark and rags into sheets at the court of the Han."),
    ("owls", "How owls hunt at night", "Owls hear a mouse under the snow; their feathers make no sound."),
    ("wine", "Why wine is kept in oak", "Oak lets a little air in, and gives tannin and vanilla to the wine."),
    ("clocks", "What keeps a clock on time", "A pendulum swings with one period whatever its arc, if the arc is small."),
    ("salt", "How salt is won from the sea", "Sea water dries in shallow ponds until the crystals can be raked."),
    ("maps", "Why maps distort the world", "A sphere cannot be laid flat; either angles or areas have to give."),
    ("ice", "When ice floats on water", "Ice is lighter than water, since its crystals leave more room."),
    ("silk", "Where silk comes from", "The caterpillar of a moth spins a thread of a thousand metres."),
    ("rust", "What makes iron rust", "Water and oxygen turn iron into a brown powder that flakes off."),
    ("yeast", "How yeast lifts the dough", "Yeast eats sugar and breathes out gas, which the dough holds."),
)


# What words alone do not find.
PARAPHRASES = {
    "otters": "aquatic mammal napping in seaweed",
    "bread": "making loaves",
    "tides": "lunar gravity and ocean levels",
    "glass": "raw materials for window panes",
    "bees": "insect communication about nectar sources",
    "steam": "locomotive power",
    "paper": "inventor of writing sheets in ancient China",
    "owls": "silent nocturnal bird of prey",
    "wine": "barrel ageing of alcoholic drinks",
    "clocks": "accurate timekeeping mechanism",
    "salt": "obtaining sodium chloride by evaporation",
    "maps": "cartographic projection errors",
    "ice": "frozen liquid density",
    "silk": "cocoon fibre textile origin",
    "rust": "metal corrosion",
    "yeast": "fermentation microbes producing carbon dioxide",
}


@pytest.fixture(scope="session")
def template(postgres: str) -> str:
    """Name of a database with the tables of ours and of MLflow, which take seconds to make."""
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(sql.SQL("create database {}").format(sql.Identifier(TEMPLATE)))
    code = (
        "from include.config import Settings; from include.store.pool import open_pool\n"
        "from include.registry.mlflow_client import mlflow_client\n"
        f"settings = Settings(database_url={_url(postgres, TEMPLATE)!r})\n"
        "with open_pool(settings): pass\n"
        "mlflow_client(settings)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=PROJECT_ROOT, timeout=300)
    return TEMPLATE


@pytest.fixture
def database_url(postgres: str, template: str) -> Iterator[str]:
    """URL of a copy of it."""
    name = f"registry_{next(_numbers)}"
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(
            sql.SQL("create database {} template {} strategy file_copy").format(sql.Identifier(name), sql.Identifier(template))
        )
    yield _url(postgres, name)
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


def _url(postgres: str, name: str) -> str:
    parts = conninfo_to_dict(postgres)
    return f"postgresql://{parts['user']}:{parts['password']}@{parts['host']}:{parts['port']}/{name}"


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    """Settings with a store of artifacts."""
    (tmp_path / "collections").mkdir()
    home = tmp_path / "home"
    return Settings(
        database_url=database_url, home=home, collections_dir=tmp_path / "collections",
        artifacts=(home / "artifacts").as_uri(),
    )  # fmt: skip


@pytest.fixture
def pages(documents: Path) -> Path:
    """Pages of several chunks, each about one thing."""
    for name, heading, text in TOPICS:
        more = "\n\n".join(
            f"## More on {name}, part {n}\n\n{text} This is part {n} of what is said of {name}." for n in range(2)
        )
        (documents / f"{name}.md").write_text(f"# {heading}\n\n{text}\n\n{more}\n")
    return documents


@pytest.fixture
def handbook(settings: Settings, pages: Path, collection: Callable[..., str]) -> str:
    """An indexed collection whose vectors say nothing: for rerankers, which read its words."""
    collection(retrieval={"mode": "lexical", "latency_budget_ms": 20_000, "rerank_candidates": 5})
    index(settings, "handbook", embedder=HashEmbedder())
    return "handbook"


@pytest.fixture
def pool(settings: Settings) -> Iterator[Pool]:
    with open_pool(settings) as opened:
        yield opened


@pytest.fixture(scope="session")
def rerankers(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two cross-encoders that read, and know nothing."""
    folder = tmp_path_factory.mktemp("rerankers")
    return [cross_encoder(folder / str(seed), seed=seed) for seed in (1, 2)]


@pytest.fixture(scope="session")
def embedders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Embedders as good as the packaged one, and one whose training went wrong."""
    folder = tmp_path_factory.mktemp("embedders")
    return {
        "first": perturbed(folder / "first", 0.05, seed=1),
        "second": perturbed(folder / "second", 0.05, seed=2),
        "broken": perturbed(folder / "broken", 3.0, seed=3),
    }


def trained(
    settings: Settings,
    pool: Pool,
    family: str,
    folder: Path,
    *,
    key: str,
    name: str = "handbook",
    state: str = "accepted",
    weight: float | None = None,
    **columns: Any,
) -> str:
    """The row and the artifact that a training leaves; returns its key."""
    with pool.connection() as connection:
        collection = collections.collection_id(connection, name)
        run = model_runs.plan(
            connection, key, family=family, collection=collection, dataset=None,  # type: ignore[arg-type]
            arguments={"epochs": 3}, work_hash=key, base="all-MiniLM-L6-v2", base_fingerprint="b", code_version="c",
        )  # fmt: skip
        facts: dict[str, Any] = {"family": family, "kind": "cross-encoder" if family == "reranker" else "embedder"}
        if weight is not None:
            facts["settings"] = {"rerank_weight": weight}
        digest = hashlib.sha256(key.encode()).hexdigest()
        artifact = save_folder(settings, folder, model_path(family, name, digest), facts)
        gate = {"reasons": ["it is better"] if state == "accepted" else ["nDCG@10 is lower by 0.1"]}
        columns = {"gate": gate, "evaluation": {"challenger": {"measures": {"ndcg@10": {"value": 0.4}}}}} | columns
        model_runs.change(connection, run.id, state=state, artifact=artifact, fingerprint="f", finished_at="now", **columns)
    return key


def version(settings: Settings, pool: Pool, family: str, folder: Path, *, key: str, **options: Any) -> int:
    """The same, registered."""
    return register(settings, pool, trained(settings, pool, family, folder, key=key, **options))
