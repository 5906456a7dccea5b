"""Import rules: which package may import which, without cycles, and how many files a folder may have."""

import ast
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1]

MAY_IMPORT = {
    "common": set(),
    "modules": {"common"},
    "datamodules": {"common"},
    "callbacks": {"modules", "common"},
    "pipelines": {"callbacks", "modules", "datamodules", "common"},
}
SHARED = {"base", "interpretation", "caption_metrics"}  # rooms of modules that import no other room of modules
PARTS = {"networks", "neighbors", "optimizers"}  # rooms of modules that import the shared ones
TOPICS = {"linear", "fast_convnet", "captioning", "gan", "contrastive"}  # import both kinds, never one another


def imports(file: Path) -> Iterator[str]:
    """The dotted names that a file imports, those inside functions included."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file} has a relative import"
            for alias in node.names:
                module = f"{node.module}.{alias.name}"
                yield module if (PROJECT / f"{module.replace('.', '/')}.py").exists() else str(node.module)


def files(room: str) -> list[Path]:
    return sorted((PROJECT / room).rglob("*.py"))


def test_imports_run_one_way_between_the_rooms() -> None:
    wrong = [
        f"{file.relative_to(PROJECT)} imports {name}"
        for room, allowed in MAY_IMPORT.items()
        for file in files(room)
        for name in imports(file)
        if name.split(".")[0] in MAY_IMPORT.keys() - allowed - {room}
    ]
    assert not wrong


def test_only_one_file_below_the_pipelines_knows_a_tracker() -> None:
    knowing = {
        str(file.relative_to(PROJECT))
        for room in ("common", "modules", "datamodules", "callbacks")
        for file in files(room)
        for name in imports(file)
        if name.split(".")[0] == "wandb"
    }
    assert knowing == {"callbacks/media.py"}


def test_no_topic_imports_another_topic() -> None:
    rooms = {folder.name for folder in (PROJECT / "modules").iterdir() if (folder / "__init__.py").exists()}
    assert rooms == SHARED | PARTS | TOPICS
    allowed = {room: set[str]() for room in SHARED}
    allowed |= dict.fromkeys(PARTS, SHARED) | dict.fromkeys(TOPICS, SHARED | PARTS)
    wrong = [
        f"{file.relative_to(PROJECT)} imports {name}"
        for room in rooms
        for file in files(f"modules/{room}")
        for name in imports(file)
        if name.startswith("modules.") and name.split(".")[1] not in allowed[room] | {room}
    ]
    assert not wrong


def test_there_is_no_circle_of_imports() -> None:
    graph: dict[str, set[str]] = defaultdict(set)
    for room in MAY_IMPORT:
        for file in files(room):
            module = ".".join(file.relative_to(PROJECT).with_suffix("").parts).removesuffix(".__init__")
            graph[module] |= {name for name in imports(file) if name.split(".")[0] in MAY_IMPORT} - {module}
    done: set[str] = set()
    path: list[str] = []

    def visit(module: str) -> None:
        assert module not in path, " → ".join([*path[path.index(module) :], module])
        if module in done:
            return
        path.append(module)
        for name in sorted(graph[module]):
            visit(name)
        done.add(path.pop())

    for module in sorted(graph):
        visit(module)


@pytest.mark.parametrize("room", ["common", "modules", "datamodules", "pipelines"])
def test_no_folder_is_too_long_to_overlook(room: str) -> None:
    folders = {file.parent for file in files(room)}
    assert {
        str(folder.relative_to(PROJECT)): count
        for folder in folders
        if (count := sum(file.name != "__init__.py" for file in folder.glob("*.py"))) > 16
    } == {}


def test_classes_of_a_notebook_are_found_from_any_folder(tmp_path: Path) -> None:
    code = "import common, pipelines; from modules import LinearSVM; from datamodules import CIFAR10; print(CIFAR10)"
    finished = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert finished.stdout == "<class 'datamodules.images.cifar10.CIFAR10'>\n", finished.stderr
