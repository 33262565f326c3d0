"""`keras-srt serve`: serve models by TF Serving's REST protocol."""

from __future__ import annotations

import argparse
import logging
import tempfile
from pathlib import Path

from keras_srt.cli.options import add_foreign, add_labels, check_undeclared, model_options
from keras_srt.cli.output import lossy_output
from keras_srt.core.errors import UserError
from keras_srt.core.scratch_folders import scratch_folder

HELP = "Serve models by TF Serving's REST and gRPC protocols."


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    _add_models(parser.add_argument_group("models"))
    add_foreign(parser)
    add_labels(parser)
    _add_addresses(parser.add_argument_group("addresses"))
    _add_limits(parser.add_argument_group("limits"))
    _add_logs(parser.add_argument_group("logs"))


def _add_models(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--model",
        nargs="+",
        action="extend",
        default=[],
        metavar="PATH",
        help="folders saved_models/NAME (default: all in --models-dir), or .keras files and "
        "third-party SavedModel folders; with --backend, names",
    )
    group.add_argument(
        "--models-dir",
        type=Path,
        default=Path("saved_models"),
        metavar="DIR",
        help="serve its models, also those that are added later; default: saved_models",
    )
    group.add_argument(
        "--version-policy",
        default="latest",
        metavar="POLICY",
        help="latest (default), latest:2, all, or specific:3,4",
    )
    group.add_argument(
        "--version-labels",
        nargs="+",
        default=[],
        metavar="LABEL=VERSION",
        help="such as stable=3, or digits:canary=4 for one model; these versions are served, too",
    )


def _add_addresses(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--host", default="127.0.0.1", help="default: only this machine")
    group.add_argument("--port", type=int, default=8501, help="default: 8501; 0: any free one")
    group.add_argument(
        "--grpc-port", type=int, help="serve gRPC, too; usual: 8500; 0: any free one"
    )
    group.add_argument(
        "--backend", metavar="URL", help="be a gateway for a TF Serving, as http://host:8501"
    )
    group.add_argument(
        "--cors-origin",
        nargs="+",
        default=[],
        metavar="URL",
        help="sites whose pages may send requests, as https://example.org; * for all",
    )


def _add_limits(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--max-body-mb", type=float, default=32, help="of a request; default: 32")
    group.add_argument(
        "--max-connections",
        type=int,
        help="default: 4096, or what fits the limit on open files (ulimit -n)",
    )
    group.add_argument(
        "--max-queue", type=int, default=256, help="requests at a time; default: 256"
    )
    group.add_argument(
        "--attack-queries",
        type=int,
        default=500,
        help="images that an attack of the web page tries; 0: no attacks; default: 500",
    )
    group.add_argument(
        "--timeout", type=float, default=30, help="seconds for a request; default: 30"
    )
    group.add_argument(
        "--drain",
        type=float,
        default=1,
        help="seconds at the end in which clients may close their connections; default: 1",
    )


def _add_logs(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--access-log", action="store_true", help="print each request as a line of JSON"
    )
    group.add_argument("--log-level", choices=["debug", "info", "warning", "error"], default="info")


def run(options: argparse.Namespace) -> None:
    """Run the command, until a signal stops it."""
    _check_options(options)
    from keras_srt.serving.engine.local_models import find_models
    from keras_srt.serving.engine.version_policy import parse_policy
    from keras_srt.serving.http.connections import connection_limit
    from keras_srt.serving.http.limits import MEGABYTE, Limits
    from keras_srt.serving.http.server import Settings, serve

    models, root = options.model, None
    if not models and options.backend is None:
        root = options.models_dir
        models = [str(folder) for folder in find_models(root)]
    limits = Limits(
        max_connections=connection_limit(options.max_connections),
        max_body=int(options.max_body_mb * MEGABYTE),
        max_queue=options.max_queue,
        attack_queries=options.attack_queries,
        timeout=options.timeout,
        drain=options.drain,
    )
    settings = Settings(
        host=options.host,
        port=options.port,
        grpc_port=options.grpc_port,
        backend=options.backend,
        foreign=options.foreign,
        policy=parse_policy(options.version_policy, options.version_labels),
        root=root,
        origins=tuple(options.cors_origin),
        access_log=options.access_log,
    )
    logging.getLogger("keras_srt").setLevel(options.log_level.upper())
    # A closed output pipe must not stop the server.
    with lossy_output(), scratch_folder(Path(tempfile.gettempdir()), "keras-srt-serve-") as copies:
        if options.backend is None:
            models = [str(served_folder(Path(model), options, copies)) for model in models]
        serve(models, settings, limits)


def served_folder(path: Path, options: argparse.Namespace, copies: Path) -> Path:
    """Return a folder with versions to serve.

    Args:
        path: A folder with versions, or a third-party model.
        options: The options of the command.
        copies: A folder for a copy of a third-party model.

    Returns:
        The path itself, or the copy.

    Raises:
        UserError: The model can't be used, or options would be ignored.
    """
    from keras_srt.exporters.served_copy import check_folder, needs_copy, write_served_copy

    declared = model_options(options)
    if needs_copy(path):
        return write_served_copy(path, declared, options.labels, copies)
    check_folder(path, declared, options.labels)
    return path


def _check_options(options: argparse.Namespace) -> None:
    connections = 1 if options.max_connections is None else options.max_connections
    for name, value, low, high in (
        ("--port", options.port, 0, 65535),
        ("--grpc-port", options.grpc_port or 0, 0, 65535),
        ("--max-body-mb", options.max_body_mb, 0.001, 1024),
        ("--max-connections", connections, 1, 1_000_000),
        ("--max-queue", options.max_queue, 1, 10_000),
        ("--attack-queries", options.attack_queries, 0, 100_000),
        ("--timeout", options.timeout, 0.1, 3600),
        ("--drain", options.drain, 0, 3600),
    ):
        if not low <= value <= high:
            raise UserError(f"{name}: got {value:g}; allowed: a number from {low:g} to {high:g}")
    if options.backend is not None:
        check_undeclared(options, "a model of this machine, not with --backend")
        for name, value in (
            ("--grpc-port", options.grpc_port),
            ("--version-policy", None if options.version_policy == "latest" else "given"),
            ("--version-labels", options.version_labels or None),
        ):
            if value is not None:
                raise UserError(f"{name}: not with --backend; set it for the backend itself")
