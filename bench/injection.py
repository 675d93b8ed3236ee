"""How often the detection of hidden instructions rings on public text that hides none.

    python -m bench.injection --data ../shared/data

A minute on two cores. Prints the table of docs/guardrails.md and every finding, so that a person can judge them.
"""

from __future__ import annotations

import argparse
import gzip
import json
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from include.guardrails.injection import find_instructions

if TYPE_CHECKING:
    from collections.abc import Iterator

CORPORA = ("medquad", "scifact", "so-airflow", "squad-a", "zenml-docs-qa")
LENGTH = 1000  # characters of a passage, about 200 tokens


def passages(path: Path) -> Iterator[str]:
    """The texts of a corpus in passages."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        for line in file:
            text = json.loads(line)["text"]
            yield from (text[start : start + LENGTH] for start in range(0, max(len(text), 1), LENGTH))


def main() -> None:
    """Count and show."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    data = parser.parse_args().data
    print("| collection | passages | flagged | a million | microseconds a passage |\n|---|---|---|---|---|")
    shown = []
    for name in CORPORA:
        texts = list(passages(data / name / "corpus.jsonl.gz"))
        started = time.monotonic()
        found = [(name, finding) for text in texts for finding in find_instructions(text)[:1]]
        each = (time.monotonic() - started) / len(texts) * 1e6
        print(f"| {name} | {len(texts):,} | {len(found)} | {len(found) / len(texts) * 1e6:.0f} | {each:.0f} |")
        shown += found
    print(Counter(finding.kind for _, finding in shown))
    for name, finding in shown:
        print(f"  {name}: {finding.kind}: {finding.excerpt!r}")


if __name__ == "__main__":
    main()
