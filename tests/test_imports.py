"""What may import what, and what the first query loads."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import crossroute

ROOT = Path(__file__).resolve().parent.parent
CORE = ROOT / "shared" / "crossroute"
HEAVY = ("torch", "sentence_transformers", "transformers", "sklearn", "matplotlib", "model2vec")


@cache
def imports(path: Path) -> set[str]:
    """Top-level packages that a file imports anywhere."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found


def importers(folder: Path, *packages: str) -> set[str]:
    return {
        str(path.relative_to(folder))
        for path in folder.rglob("*.py")
        if any(name.startswith(package) for name in imports(path) for package in packages)
    }


def test_the_core_knows_no_framework() -> None:
    # The demo is a LangChain chain, `onboard --run` and `collect` ask chat models, and `models new`
    # reads a profile: these commands open the door to it, nothing else does.
    commands = {"cli/collect.py", "cli/demo.py", "cli/new.py", "cli/onboarding.py"}
    assert importers(CORE, "langchain", "llama", "langgraph") == commands


def test_no_modules_import_each_other_in_a_circle() -> None:
    """At the top of a module or only for types: both make a reader go round."""
    modules = {
        ".".join(path.relative_to(CORE.parent).with_suffix("").parts): path
        for path in CORE.rglob("*.py")
        if path.name != "__init__.py"
    }
    graph = {
        name: {
            node.module
            for node in ast.walk(ast.parse(path.read_text("utf-8")))
            if isinstance(node, ast.ImportFrom) and node.module in modules
        }
        for name, path in modules.items()
    }
    assert "crossroute.models.pool" in graph["crossroute.router"]
    # Which raises a CycleError that names the modules.
    assert len([*TopologicalSorter(graph).static_order()]) == len(modules)


def test_the_integrations_do_not_know_each_other() -> None:
    assert not importers(ROOT / "langchain_crossroute", "llama")
    assert not importers(ROOT / "llamaindex_crossroute", "langchain")


def test_torch_lives_in_training_only() -> None:
    found = importers(CORE, "torch")
    assert found
    assert all(name.startswith("training/") for name in found)


def test_nothing_can_be_unpickled_or_evaluated() -> None:
    for package in (CORE, ROOT / "langchain_crossroute", ROOT / "llamaindex_crossroute"):
        unpicklers = ("pickle", "cloudpickle", "joblib", "dill", "marshal", "shelve", "pandas")
        assert not importers(package, *unpicklers)
        for path in package.rglob("*.py"):
            calls = {
                node.func.id
                for node in ast.walk(ast.parse(path.read_text("utf-8")))
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
            }
            assert not calls & {"eval", "exec", "compile"}, path
            assert "allow_pickle" not in path.read_text("utf-8"), path


def test_the_first_query_loads_nothing_heavy_and_asks_nobody() -> None:
    code = f"""
import socket, sys
def refuse(*arguments, **named):
    raise AssertionError("the network was asked")
socket.socket.connect = refuse
loaded = {{}}
for package in ("crossroute", "langchain_crossroute", "llamaindex_crossroute"):
    __import__(package)
    from crossroute import CrossRouter
    CrossRouter.default().route("Why is the sky blue?", willingness_to_pay=0.01)
    loaded[package] = [name for name in {HEAVY!r} if name in sys.modules]
print([one for one in loaded.items() if one[1]])
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": "", "HOME": "/nonexistent"},
    )
    assert done.stdout.strip() == "[]"


def test_to_use_a_policy_loads_nothing_that_plans(tmp_path: Path) -> None:
    """It is read whenever an application starts."""
    router = crossroute.CrossRouter.default()
    models = [*router.pool][:2]
    router.subset(models).save(tmp_path / "policy.router")
    promised = {
        **dict.fromkeys(("saving", "saving_low", "saving_high", "loss", "loss_high"), 0.0),
        "baseline": models[0],
        "shares": {models[0]: 0.5, models[1]: 0.5},
        "max_loss": 0.01,
        "confidence": 0.95,
        "quality": 0.9,
        "cost_usd": 0.01,
    }
    policy = {
        "models": models,
        "router": "policy.router",
        "willingness_to_pay": 0.01,
        "promised": promised,
        "data": {"prompts": 9, "calibration": 9, "planned": "2026-11-29"},
    }
    # JSON is YAML.
    (tmp_path / "policy.yaml").write_text(json.dumps(policy), "utf-8")
    code = f"""
import sys
sys.path[:0] = {[str(CORE.parent), str(ROOT)]!r}
from langchain_crossroute import ChatCrossRoute
assert ChatCrossRoute(policy={str(tmp_path / "policy.yaml")!r}).policy.models
planning = ("crossroute.traffic", "crossroute.evaluation", "scipy")
print([name for name in sys.modules if name.startswith({HEAVY!r} + planning)])
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": "", "HOME": "/nonexistent"},
    )
    assert done.stdout.strip() == "[]"


def test_the_public_names_are_held() -> None:
    public = {
        name
        for name, value in vars(crossroute).items()
        if not name.startswith("_") and getattr(value, "__module__", "").startswith("crossroute")
    }
    assert set(crossroute.__all__) == public | {"DEFAULT_WILLINGNESS_TO_PAY"}


def test_no_warehouse_of_prompts_ships() -> None:
    """The wheel holds weights and facts, no routing data."""
    assets = [path for path in (CORE / "assets").rglob("*") if path.is_file()]
    page = {"report.html", "report_figures.html", "report.css", "report.js"}
    others = {path.suffix for path in assets if path.name not in page}
    assert others <= {".json", ".safetensors", ".yaml"}
