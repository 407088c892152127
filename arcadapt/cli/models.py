"""Commands about models: `models list`, `register`, `trim` and `convert`, `merge`, `finetune-base`, `pretrain`."""

# ruff: noqa: PLC0415 - commands load what they need when they run: torch takes seconds, --help must not

from pathlib import Path
from typing import Annotated

import typer

from arcadapt.cli.options import ApiKey, Json, Url

Base = Annotated[
    str,
    typer.Argument(metavar="BASE", help="A local folder, a hub id OWNER/NAME, bundled:NAME or local:NAME."),
]
Revision = Annotated[str | None, typer.Option("--revision", help="Of a hub model.")]

app = typer.Typer()
registry = typer.Typer(help="The base models that jobs may name.", no_args_is_help=True)


@registry.command("list")
def list_models(*, as_json: Json = False, url: Url = None, api_key: ApiKey = None) -> None:
    """List the registered base models."""
    from arcadapt.cli import connecting, output

    with connecting.connect(url, api_key) as client:
        models = client.base_models()
        output.print_json(models) if as_json else output.results().print(output.models_table(models))


@registry.command()
def register(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What jobs call it, in settings.base_model.")],
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="A local folder, a hub id OWNER/NAME, or bundled:NAME.")
    ],
    *,
    revision: Revision = None,
    adapter: Annotated[
        str | None,
        typer.Option(
            "--adapter",
            help="The base model's own LoRA adapter: a folder, a downloaded zip, a hub id or bundled:NAME. "
            "Merged into the base for new adapters, and what `start: continue` goes on with.",
        ),
    ] = None,
    adapter_revision: Annotated[str | None, typer.Option("--adapter-revision", help="Of a hub adapter.")] = None,
    database_url: Annotated[
        str | None,
        typer.Option("--database-url", envvar="ARCADAPT_DATABASE_URL", help="Else the stack's in this folder."),
    ] = None,
) -> None:
    """Make a base model known to the service, or say anew where it comes from. Workers must be able to read it."""
    from arcadapt.cli import registering
    from jobs.claims import BaseModelSource

    base = BaseModelSource(source, revision, adapter, adapter_revision)
    registering.register(name, base, database_url=database_url)


@registry.command()
def trim(
    base: Base,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The folder to write; must not exist.")],
    *,
    revision: Revision = None,
    keep: Annotated[Path | None, typer.Option("--keep", help="A text whose tokens are kept as well.")] = None,
    grid_encoder: Annotated[
        list[str] | None, typer.Option("--grid-encoder", help="One more encoder to keep tokens for; can be repeated.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Cut a base model's vocabulary down to the tokens that ARC prompts are written with."""
    from arcadapt.cli import trimming

    trimming.trim_model(base, out, revision=revision, keep=keep, grid_encoders=grid_encoder or [], as_json=as_json)


@registry.command()
def convert(
    gguf_file: Annotated[Path, typer.Argument(metavar="FILE.gguf")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The folder to write; must not exist.")],
    *,
    float32: Annotated[bool, typer.Option("--float32", help="Store float32; else bfloat16.")] = False,
    as_json: Json = False,
) -> None:
    """Make a base model's folder of a GGUF file; quantised weights become plain ones."""
    from arcadapt.cli import trimming

    trimming.convert_model(gguf_file, out, precision="float32" if float32 else "bfloat16", as_json=as_json)


@app.command()
def merge(
    base: Base,
    adapter: Annotated[Path, typer.Argument(metavar="ADAPTER", help="A PEFT adapter's folder, or a downloaded zip.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The folder to write; must not exist.")],
    *,
    revision: Revision = None,
    as_json: Json = False,
) -> None:
    """Fold an adapter into its base model, checked, with a manifest of hashes."""
    from arcadapt.cli import merging

    merging.merge_adapter(base, adapter, out, revision=revision, as_json=as_json)


@app.command()
def pretrain(
    *,
    config: Annotated[Path, typer.Option("--config", help="The recipe, as YAML.")],
    out: Annotated[
        Path, typer.Option("--out", help="Checkpoints, log and, at the end, model/; a run that is there goes on.")
    ],
    hours: Annotated[float | None, typer.Option("--hours", min=0.001, help="Budget; else the recipe's.")] = None,
    max_steps: Annotated[int | None, typer.Option("--max-steps", min=1, help="Budget in steps instead.")] = None,
    as_json: Json = False,
) -> None:
    """Train a small base model from nothing, on synthetic tasks and ARC's training split.

    Ends with the model in OUT/model, ready for `arcadapt models register NAME OUT/model`.
    """
    from arcadapt.cli import pretraining

    pretraining.run(config, out, hours=hours, max_steps=max_steps, as_json=as_json)


@app.command("finetune-base")
def finetune_base(
    *,
    config: Annotated[Path, typer.Option("--config", help="The recipe, as YAML.")],
    out: Annotated[
        Path, typer.Option("--out", help="Checkpoints, log and, at the end, adapter/ or model/; a run there goes on.")
    ],
    hours: Annotated[float | None, typer.Option("--hours", min=0.001, help="Budget; else the recipe's.")] = None,
    max_steps: Annotated[int | None, typer.Option("--max-steps", min=1, help="Budget in steps instead.")] = None,
    allow_evaluation_tasks: Annotated[
        bool, typer.Option("--allow-evaluation-tasks", help="Train on evaluation tasks of ARC-AGI-1 and -2 as well.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Teach a base model ARC tasks: a LoRA adapter, or all its weights. Several GPUs: `accelerate launch -m arcadapt`.

    Ends with OUT/adapter, ready for `arcadapt merge BASE OUT/adapter MERGED`, or with OUT/model.
    """
    from arcadapt.cli import finetuning

    options = finetuning.Options(hours, max_steps, allow_evaluation_tasks)
    finetuning.run(config, out, options, as_json=as_json)
