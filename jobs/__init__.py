"""Commands: one module per job, with presets, configurations and the report."""

import importlib.util
from pathlib import Path

LAYERS = ("cluster", "envs", "learners", "motions", "rewards", "rollouts")


def check_layers() -> None:
    """Checks that each layer is imported from beside this folder, not from another package of the same name.

    A folder called `rewards` or `envs` beside a script would be enough to hide ours. The check is here because the
    configurations import the layers before a command line is read.

    Raises:
        ImportError: a layer would be imported from another place than beside this folder.
    """
    root = Path(__file__).resolve().parent.parent
    for layer in LAYERS:
        # Finds the package without importing it.
        spec = importlib.util.find_spec(layer)
        places = list(spec.submodule_search_locations or ()) if spec is not None else []
        if [Path(place).resolve() for place in places] != [root / layer]:
            raise ImportError(
                f"package {layer} would be imported from {', '.join(places) or 'nowhere'}, not from {root / layer} "
                "beside jobs: start in another folder, or take the other package off PYTHONPATH"
            )


check_layers()
