"""A small collection with golden queries, and trainings that are over: what a comparison of models needs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from include.evaluation.asking import Side
from include.evaluation.configuration import FixedSearcher
from include.store import collections, generations, golden, model_runs
from include.store.golden import GoldenQuery, GoldenSpan

if TYPE_CHECKING:
    from pathlib import Path

    from include.collection_file import Collection
    from include.config import Settings
    from include.retrieval.rerank import Reranker
    from include.store.pool import Pool

# Subject, what it is asked by, what it is told by: questions share few words with the page that answers them.
PAGES = [
    ("otters", "Where do otters spend the night?", "They sleep afloat on their backs, wrapped in kelp."),
    ("volcanoes", "What makes a mountain spit fire?", "Molten rock rises until pressure breaks the crust."),
    ("bread", "How does dough get its bubbles?", "Yeast eats sugar and gives off gas that is trapped by gluten."),
    ("bees", "How do insects tell each other about flowers?", "A returning forager dances in figures of eight on the comb."),
    ("glass", "What are windows made from?", "Sand is melted with soda and lime, then floated on tin."),
    ("tides", "Why does the sea go away twice a day?", "The pull of the moon heaps water up on both sides."),
    ("violins", "Which wood sings under a bow?", "Spruce for the top, maple for the back, ebony for the fingerboard."),
    ("camels", "How can an animal go without drinking for weeks?", "Fat in the hump and oval blood cells keep it going."),
    ("paper", "Who first wrote on pressed pulp?", "Cai Lun in China pressed mulberry bark and rags into sheets."),
    ("rainbows", "Why do colours stand in the sky after a shower?", "Droplets bend sunlight, each wavelength by its angle."),
    ("cheese", "How does milk become solid?", "Rennet curdles it, whey drains away, and moulds ripen it."),
    ("owls", "Which bird hunts without a sound?", "Fringed feathers break up the air around its wings."),
    ("magnets", "Why does a needle point north?", "Iron domains align with the field of the molten core."),
    ("tea", "Why are leaves rolled before drying?", "Bruising lets enzymes darken them, which makes them black."),
    ("spiders", "How is a web spun?", "Glands make silk, combs on the legs draw it into a spiral."),
    ("clocks", "What kept time before quartz?", "A pendulum swings evenly and lets a wheel go tooth by tooth."),
    ("salt", "How is seasoning won from the shore?", "Brine dries in shallow pans under the sun, crystals are raked."),
    ("whales", "How do giants talk over an ocean?", "Low songs travel in a layer where sound is slowest."),
    ("bridges", "What carries a road over a gorge?", "Cables hang from towers and are anchored in the rock."),
    ("ink", "What did monks write with?", "Oak galls boiled with iron salts gave a lasting black."),
    ("deserts", "Why are there dunes?", "Wind carries grains up the gentle side and drops them down the steep."),
    ("pearls", "How does a shellfish make a jewel?", "An irritant is coated with layers of nacre."),
    ("kites", "What keeps a sail on a string aloft?", "Air pushed down by the tilted surface lifts it."),
    ("fireflies", "Which beetle glows in summer?", "Luciferin meets oxygen in its abdomen and gives cold light."),
    ("rust", "Why does a nail turn red?", "Moist air takes electrons from iron, leaving an oxide."),
    ("chess", "Which board game came from India?", "Chaturanga had elephants, chariots, horse and foot."),
    ("coffee", "Why are beans heated until they crack?", "Roasting browns the sugars and frees the aroma."),
    ("snow", "Why has every flake six arms?", "Water molecules freeze into a hexagonal lattice."),
    ("bats", "How do flying mammals see at night?", "They shout above our hearing and listen to the echo."),
    ("rubber", "What drips from a cut tree and bounces?", "Latex is heated with sulphur so that chains cross-link."),
]  # fmt: skip
SECTIONS = ("nature", "craft")


def write_pages(documents: Path) -> None:
    """Two pages a subject, the second about nothing that is asked."""
    for subject, _, told in PAGES:
        (documents / f"{subject}.md").write_text(f"# {subject.title()}\n\n{told}\n")
        (documents / f"{subject}-trade.md").write_text(f"# Trade\n\nPrices of {subject} rose last year in the harbour towns.\n")


def golden_queries() -> list[GoldenQuery]:
    """Two a subject: the question, and the same asked by a person in a hurry."""
    queries = []
    for number, (subject, question, _) in enumerate(PAGES):
        metadata = {"section": SECTIONS[number % 2]}
        hurried = f"please explain briefly: {question.lower().rstrip('?')}"
        queries += [GoldenQuery(text, (GoldenSpan(f"{subject}.md"),), metadata) for text in (question, hurried)]
    return queries


def save_golden(pool: Pool, name: str, queries: list[GoldenQuery]) -> None:
    """Keep golden queries of a collection."""
    with pool.connection() as connection:
        golden.save(connection, collections.collection_id(connection, name), queries)


def trained(pool: Pool, name: str, run_key: str, family: str, artifact: Path | str, **columns: Any) -> None:
    """The row of a training that is over, with a model that lies somewhere."""
    with pool.connection() as connection:
        connection.execute(
            "insert into ragworks.model_run (run_key, family, collection_id, arguments, work_hash, state, base,"
            " base_fingerprint, code_version) select %s, %s, id, '{}', %s, 'trained', 'all-MiniLM-L6-v2', 'x', 'y'"
            " from ragworks.collection where name = %s",
            (run_key, family, run_key, name),
        )
        model_runs.change(connection, model_runs.by_key(connection, run_key).id, artifact=str(artifact), **columns)


def first_found(settings: Settings, pool: Pool, collection: Collection, query: str, reranker: Reranker | None) -> str:
    """The document that stands first for a question."""
    with pool.connection() as connection:
        live = generations.live_of(connection, collection.name)
    finder = FixedSearcher(settings, pool, collection.name, collection, live, None, reranker=reranker)
    return Side(finder, rerank=reranker is not None).find(query, 10).hits[0].document
