"""One base in memory with the adapters that are served on it; answers are written in batches, one batch at a time.

Whoever waits when a batch ends is in the next one, together with all who want the same adapter. An adapter comes and goes
between two batches, so that no answer is written by two.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict, deque
from typing import TYPE_CHECKING, Any

from include.errors import Transient
from include.serving.failures import Refusal
from include.serving.llm.writing import Ask, Following, Writing
from include.training.llm.bases import load_base, load_tokenizer, plain_generation
from include.training.llm.merging import attach

if TYPE_CHECKING:
    from collections.abc import Sequence

    from include.training.llm.adapters import Adapter
    from include.training.llm.bases import Base

logger = logging.getLogger(__name__)

STOP_SECONDS = 10.0  # for the batch that is being written when the server ends


class Engine:
    """A base and its adapters; every method may be called from any thread.

    :param base: in the precision in which it is to run.
    :param most: answers in a batch; ``adapters`` that are kept, ``waiting`` asks beyond which more are refused.
    """

    def __init__(
        self, base: Base, *, device: str = "cpu", pack: str = "", most: int = 8, adapters: int = 8, waiting: int = 64
    ) -> None:
        started = time.monotonic()
        self.base, self.pack = base, pack
        self._tokenizer = load_tokenizer(base)
        self._model: Any = load_base(base, device=device)
        if pack:
            from include.serving.llm.packed import pack_in_place

            pack_in_place(self._model, pack)
        self._ends = plain_generation(self._model, self._tokenizer)
        self._pad = int(self._model.generation_config.pad_token_id)
        self._most, self._room, self._keep = most, waiting, adapters
        self._adapters: OrderedDict[str, None] = OrderedDict()  # least lately asked first
        self._working = threading.Lock()  # the model: of a batch, or of an adapter that comes or goes
        self._tokenizing = threading.Lock()  # fast tokenizers fail with "Already borrowed" otherwise
        self._changed = threading.Condition()
        self._waiting: deque[Ask] = deque()
        self._writing: list[Ask] = []
        self._closed = False
        self._thread = threading.Thread(target=self._work, name=f"engine {base.digest[:8]}", daemon=True)
        self._thread.start()
        logger.info("base %s (%s) is loaded, %.1f s", base.name, self.fingerprint, time.monotonic() - started)

    @property
    def fingerprint(self) -> str:
        """Of the base as it runs here."""
        return f"{self.base.fingerprint.rpartition(':')[0]}:{self.pack}" if self.pack else self.base.fingerprint

    @property
    def context(self) -> int:
        """Most tokens of a conversation with its answer."""
        return int(getattr(self._model.config, "max_position_embeddings", None) or 1 << 30)

    def load(self, adapter: Adapter) -> str:
        """Have an adapter ready; the same one again changes nothing. Waits for the batch that is being written.

        :return: its name here.
        :raises BadConfiguration: it does not fit the base.
        """
        name = f"adapter_{adapter.fingerprint[:32]}"
        with self._working:
            if name not in self._adapters:
                self._model = attach(self._model, adapter, name).eval()
                with self._changed:
                    self._adapters[name] = None
                    idle = [one for one in self._adapters if one != name and not self._wanted(one)]
                    gone = idle[: max(len(self._adapters) - self._keep, 0)]
                    for one in gone:
                        del self._adapters[one]
                for one in gone:
                    self._model.delete_adapter(one)
        return name

    def tokens(self, messages: Sequence[dict[str, str]]) -> list[int]:
        """A conversation as the base's template writes it, up to where the answer begins.

        :raises jinja2.TemplateError: the template refuses it.
        """
        with self._tokenizing:
            text = self._tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True)
            return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def submit(self, ask: Ask) -> bool:
        """Have an ask answered; False: its adapter was put away meanwhile, or the base: open it again.

        :raises Refusal: 429 too many wait.
        """
        with self._changed:
            if self._closed or ask.adapter not in self._adapters:
                return False
            if len(self._waiting) >= self._room:
                raise Refusal(429, "busy", f"{len(self._waiting)} requests wait for this model. Try again", retry_after=1)
            self._adapters.move_to_end(ask.adapter)
            self._waiting.append(ask)
            self._changed.notify()
        return True

    def retire(self) -> None:
        """Take nothing new; what waits is still answered."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def close(self) -> None:
        """Write no more; who waits is told."""
        with self._changed:
            self._closed = True
            left = [*self._waiting, *self._writing]
            self._waiting.clear()
            self._changed.notify()
        for ask in left:
            ask.left.set()
            ask.put(Transient("the server of language models is stopping", "", "Try again"))
        self._thread.join(STOP_SECONDS)

    def _wanted(self, name: str) -> bool:
        return any(ask.adapter == name for ask in (*self._waiting, *self._writing))

    def _work(self) -> None:
        while batch := self._next():
            try:
                with self._working:
                    self._write(batch)
            except Exception as error:  # whatever a library or a device raises; the next batch may go well
                logger.exception("a batch of %d answers failed", len(batch))
                for ask in batch:
                    ask.put(error)

    def _next(self) -> list[Ask]:
        """The first that waits and all who may go with it; nothing when the engine is closed."""
        with self._changed:
            self._writing = []
            while True:
                there = [ask for ask in self._waiting if not ask.left.is_set()]
                if there:
                    first = there[0]
                    batch = [first, *(ask for ask in there[1:] if ask.goes_with(first))][: self._most]
                    chosen = {id(ask) for ask in batch}
                    self._waiting = deque(ask for ask in there if id(ask) not in chosen)
                    self._writing = batch
                    return batch
                self._waiting.clear()
                if self._closed:
                    return []
                self._changed.wait()

    def _write(self, batch: Sequence[Ask]) -> None:
        import torch
        from transformers import GenerationConfig

        first, device = batch[0], self._model.device
        longest = max(len(ask.ids) for ask in batch)
        ids = torch.tensor([[self._pad] * (longest - len(ask.ids)) + ask.ids for ask in batch], device=device)
        mask = torch.tensor([[0] * (longest - len(ask.ids)) + [1] * len(ask.ids) for ask in batch], device=device)
        drawn = {"do_sample": True, "temperature": first.temperature, "top_p": first.top_p, "top_k": 0}
        config = GenerationConfig(
            max_new_tokens=max(ask.limit for ask in batch), eos_token_id=sorted(self._ends) or None, pad_token_id=self._pad,
            **(drawn if first.temperature > 0 else {"do_sample": False}),
        )  # fmt: skip
        following = Following([Writing(ask, self._tokenizer, self._ends) for ask in batch])
        self._model.set_adapter(first.adapter)
        with torch.inference_mode(), torch.random.fork_rng(enabled=first.seed is not None):
            if first.seed is not None:
                torch.manual_seed(first.seed)
            self._model.generate(
                input_ids=ids, attention_mask=mask, generation_config=config, streamer=following, stopping_criteria=[following]
            )
