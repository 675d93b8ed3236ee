"""`serve-llm`: promoted language models over HTTP; `export-llm`: a version for another server, or in fewer bits."""

from __future__ import annotations

import argparse
import logging
from typing import TYPE_CHECKING, Any

from include.cli.serving import count, port
from include.errors import BadConfiguration

if TYPE_CHECKING:
    from include.config import Settings
    from include.output import Output
    from include.registry.llm_models import TrainedLlm

VLLM_IMAGE = "vllm/vllm-openai:v0.11.0"
DEFAULT_PORT = 8010  # of config.LLM_SERVER


def register(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the commands."""
    from include.serving.llm.options import PRECISIONS

    parser = commands.add_parser("serve-llm", parents=[common], help="answer with promoted language models, as OpenAI does")
    parser.add_argument("collections", nargs="*", metavar="COLLECTION", help="whose champions (default: all that have one)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default 127.0.0.1: this machine alone)")
    parser.add_argument("--port", type=port, default=DEFAULT_PORT, help=f"default {DEFAULT_PORT}")
    parser.add_argument(
        "--precision", choices=PRECISIONS, default="full", help="of the base's weights (default: as in its files)"
    )
    parser.add_argument("--device", default="auto", help="auto (default): a GPU where there is one; or cpu, cuda, cuda:1")
    parser.add_argument("--batch", type=count, default=8, metavar="N", help="answers written together (default 8)")
    parser.add_argument("--adapters", type=count, default=8, metavar="N", help="versions kept ready on a base (default 8)")
    parser.add_argument("--waiting", type=count, default=64, metavar="N", help="requests that may wait; beyond it 429")
    parser.add_argument("--max-body", type=count, default=2_000_000, metavar="BYTES", help="largest request (default 2 MB)")
    parser.set_defaults(run=serve_llm)
    _register_export(commands, common)


def _register_export(commands: Any, common: argparse.ArgumentParser) -> None:
    from include.serving.llm.options import TARGETS

    parser = commands.add_parser("export-llm", parents=[common], help="trained language models for another server")
    parser.add_argument("versions", nargs="+", type=int, metavar="VERSION", help="numbers, as `models llm` shows them")
    parser.add_argument("--collection", metavar="NAME", help="needed when several collections have language models")
    parser.add_argument(
        "--target", choices=TARGETS, default="vllm",
        help="manifests for vLLM (default), files of base and adapters, merged weights, or these in 8 or 4 bits",
    )  # fmt: skip
    parser.add_argument("--to", metavar="PATH", help="file of the manifests (default: stdout), or the folder to write")
    parser.add_argument(
        "--again", action="store_true", help="leave a folder of merged weights of this version as it is; of another: refuse"
    )
    parser.add_argument(
        "--expect", action="append", default=[], type=_expected, metavar="VERSION=FINGERPRINT",
        help="of the adapter; refuse where the registry has another one under this number",
    )  # fmt: skip
    parser.add_argument("--merged", action="store_true", help="manifests that serve merged weights instead of LoRA modules")
    parser.add_argument("--profile", metavar="NAME", help="of include/k8s/profiles.yaml: which nodes")
    parser.add_argument("--gpus", type=count, default=1, metavar="N", help="of each pod (default 1)")
    parser.add_argument("--replicas", type=count, default=1, metavar="N", help="pods (default 1)")
    parser.add_argument("--image", default=VLLM_IMAGE, help="of vLLM")
    parser.add_argument("--exporter-image", default="ragworks:0.1.0", metavar="IMAGE", help="the project's own image")
    parser.set_defaults(run=export_llm)


def serve_llm(args: argparse.Namespace, settings: Settings, output: Output) -> None:
    """Serve until SIGTERM or Ctrl-C."""
    from include.collection_file import load_collection
    from include.serving.llm.app import create_llm_app
    from include.serving.llm.options import LlmOptions
    from include.serving.llm.roster import Roster
    from include.serving.server import Server
    from include.store.pool import open_pool

    given = {name: value for name, value in vars(args).items() if name in LlmOptions.__dataclass_fields__}
    options = LlmOptions(**(given | {"collections": tuple(args.collections)}))
    options.check(settings.llm_server_key)
    for name in options.collections:
        load_collection(settings, name)  # one that does not exist is said now
    logging.getLogger("include.serving").setLevel(logging.INFO)  # the access log, also without --verbose

    def started(url: str) -> None:
        output.result({"url": f"{url}/v1", "models": f"{url}/v1/models"})
        output.line(f"Serving language models at {url}/v1  champions are loaded now and whenever they change  stop: Ctrl-C")

    with open_pool(settings, max_size=4) as pool:
        app = create_llm_app(Roster(settings, pool, options), options, settings.llm_server_key)
        Server(app, options, started).serve_until_stopped()


def export_llm(args: argparse.Namespace, settings: Settings, output: Output) -> None:
    """Bring versions to where another server finds them, or write the manifests that do."""
    from pathlib import Path

    from include.cli.models import chosen
    from include.serving.llm import export
    from include.store.pool import open_pool

    with open_pool(settings) as pool:
        name = chosen(settings, pool, "llm", args.collection, settings.environment)
        versions = (
            args.versions if args.merged or args.target != "vllm" else export.with_live(settings, pool, name, args.versions)
        )
        models = export.open_versions(settings, pool, name, versions, dict(args.expect))
    result: dict[str, Any] = {"collection": name, "versions": sorted(models), "target": args.target}
    if args.target == "vllm":
        _write_manifests(args, settings, output, result, name, models)
        return
    if args.to is None:
        raise BadConfiguration("--to is missing", f"{args.target} writes a folder", "Name one")
    target = Path(args.to).expanduser().absolute()
    if args.target == "files":
        result |= {"files": export.export_files(name, models, target)}
    elif len(models) > 1:
        raise BadConfiguration(f"{len(models)} versions", f"{args.target} writes the weights of one", "Name one")
    elif not (args.again and export.already_merged(next(iter(models.values())), target)):
        (model,) = models.values()
        packing = "" if args.target == "merged" else args.target
        result |= {"proof": export.export_merged(model, target, packing=packing)}
    output.result(result | {"to": str(target)})
    output.line(f"llm {', '.join(map(str, models))} of {name} as {args.target}: {target}")


def _expected(text: str) -> tuple[int, str]:
    version, _, fingerprint = text.partition("=")
    if not version.isdecimal() or not fingerprint:
        raise argparse.ArgumentTypeError(f"{text!r} is not VERSION=FINGERPRINT")
    return int(version), fingerprint


def _write_manifests(
    args: argparse.Namespace,
    settings: Settings,
    output: Output,
    result: dict[str, Any],
    name: str,
    models: dict[int, TrainedLlm],
) -> None:
    from pathlib import Path

    import yaml

    from include.serving.llm import export
    from include.serving.llm.manifests import Placing

    placing = Placing(
        name, args.image, args.exporter_image, 0, settings.environment, args.gpus, args.replicas, args.merged,
        export.profile(args.profile) if args.profile else None,
    )  # fmt: skip
    made = export.manifests(name, models, placing)
    text = yaml.safe_dump_all(made, sort_keys=False, width=120)
    output.result(result | {"to": args.to, "manifests": made})
    if args.to is None:
        output.line(text.rstrip())
        return
    Path(args.to).expanduser().write_text(text, encoding="utf-8")
    output.line(f"{args.to}: vLLM with llm {', '.join(map(str, sorted(models)))} of {name}")
    output.line(f"Then: kubectl apply -f {args.to}; RAGWORKS_LLM_SERVER=http://{placing.name}/v1")
