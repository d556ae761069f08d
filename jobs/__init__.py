"""What a person runs: one module per job, presets, the demo, the report."""

import importlib.util
from pathlib import Path

LAYERS = ("cluster", "envs", "learners", "motions", "rewards", "rollouts")


def check_layers() -> None:
    """Refuses to go on with somebody else's `rewards` or `envs`, of which a folder beside a script is enough.

    Here and not in `cli.py`, for the configurations import the layers before a command line is read.

    Raises:
        ImportError: a layer would be imported from another place than beside this folder.
    """
    root = Path(__file__).resolve().parent.parent
    for layer in LAYERS:
        # Looks for the package without importing it.
        spec = importlib.util.find_spec(layer)
        places = list(spec.submodule_search_locations or ()) if spec is not None else []
        if [Path(place).resolve() for place in places] != [root / layer]:
            raise ImportError(
                f"package {layer} would be imported from {', '.join(places) or 'nowhere'}, not from {root / layer} "
                "beside jobs: start in another folder, or take the other package off PYTHONPATH"
            )


check_layers()
