"""The site of the notes: its parts are found by name, and mistakes in a page end in a sentence each."""

from pathlib import Path

import pytest

from common.errors import UserError
from docs.site.build import build, main
from docs.site.python_source import NotFound, find_docstring, find_excerpt
from docs.site.tables import find_rows, find_table

PROJECT = Path(__file__).resolve().parents[2]


def test_code_is_found_by_its_name() -> None:
    excerpt = find_excerpt("modules.linear.linear_svm.LinearSVM.data_loss")
    assert excerpt.file == "modules/linear/linear_svm.py"
    assert excerpt.text.startswith("def data_loss(self, logits") and excerpt.text.endswith("/ len(labels)")
    lines = (PROJECT / excerpt.file).read_text(encoding="utf-8").splitlines()
    assert lines[excerpt.first - 1].strip().startswith("def data_loss(")
    assert lines[excerpt.last - 1].strip() == excerpt.text.splitlines()[-1].strip()
    assert find_excerpt("modules.captioning.decoding.sample").text.startswith("@torch.no_grad()")
    assert find_excerpt("modules.gan.gan_losses.LOSSES").text.startswith("LOSSES: dict")
    assert find_excerpt("sweeps/svm.yaml").text.startswith("# Multiclass linear SVM")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("modules.linear.svm_linear.LinearSVM", "there is no module modules.linear.svm_linear.LinearSVM"),
        ("modules.linear.linear_svm.LinearSVM.los", "modules/linear/linear_svm.py has no LinearSVM.los"),
        ("sweeps/svn.yaml", "there is no file sweeps/svn.yaml"),
    ],
)
def test_code_that_is_not_there(name: str, message: str) -> None:
    with pytest.raises(NotFound, match=message):
        find_excerpt(name)


def test_a_part_of_a_docstring_ends_before_the_next() -> None:
    file, text = find_docstring("modules.linear.loss_gradients", "Hinge loss")
    assert file == "modules/linear/loss_gradients.py"
    assert text.startswith("**Hinge loss** of one image") and text.endswith("so each row of ds sums to 0.")
    with pytest.raises(NotFound, match=r"loss_gradients.py has no part \*\*Squared"):
        find_docstring("modules.linear.loss_gradients", "Squared")


def test_figures_are_the_rows_of_results() -> None:
    rows = find_rows("RESULTS.md", "caption_transformer", "Captions").splitlines()
    assert any("**99.60 %**" in row for row in rows) and not any("caption_lstm" in row for row in rows)
    assert not any("trained on" in row for row in rows)  # a table without the column `row`
    assert "[docs/fast_recipe.md](/docs/fast_recipe.md)" in find_rows("RESULTS.md", "fast_convnet")
    assert "| row | `softmax_features` |" in find_rows("RESULTS.md", "softmax_features")
    assert "| Wasserstein, gradient penalty |" in find_table("docs/gan.md", "| loss | command |")
    with pytest.raises(NotFound, match=r"RESULTS.md has no row of `svn`"):
        find_rows("RESULTS.md", "svn")
    with pytest.raises(NotFound, match=r"RESULTS.md has no section Figures"):
        find_rows("RESULTS.md", "svm", "Figures")
    with pytest.raises(NotFound, match=r"docs/gan.md has no table that begins with \| gain"):
        find_table("docs/gan.md", "| gain")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")  # of the generator
def test_each_mistake_of_a_page_is_a_sentence_with_its_line(tmp_path: Path) -> None:
    pages = tmp_path / "docs" / "notes"
    pages.mkdir(parents=True)
    (pages / "index.md").write_text("# Start\n\n```{toctree}\nwrong\n```\n")
    (pages / "wrong.md").write_text(
        "# Wrong\n\nA formula $\\fraction{1}{2}$.\n\n$$\n\\frac{1}{\n$$\n\n"
        "```{source} modules.linear.linear_svm.LinearSVM.los\n```\n\n```{results} svn\n```\n\n"
        "![A picture](missing.png)\n\n[a page](missing.md) and [a heading](index.md#missing)\n"
    )
    out = tmp_path / "build" / "notes"
    with pytest.raises(UserError) as error:
        build(out, tmp_path)
    sentences = str(error.value).splitlines()
    assert len(sentences) == 7, sentences
    for line, words in [
        (3, 'the formula \\fraction{1}{2} can\'t be rendered: Unknown command "\\fraction"'),
        (5, "the formula \\frac{1}{ can't be rendered"),
        (9, "modules/linear/linear_svm.py has no LinearSVM.los"),
        (12, "RESULTS.md has no row of `svn`"),
        (15, "missing.png"),
        (17, "missing"),
    ]:
        found = [text for text in sentences if text.startswith(f"docs/notes/wrong.md:{line}: ") and words in text]
        assert found, (line, words, sentences)
    assert not out.exists() and list((tmp_path / "build").iterdir()) == []


def test_a_missing_generator_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("docs.site.build.find_spec", lambda name: None if name in ("furo", "ziamath") else name)
    assert main(["--out", str(tmp_path / "site")]) == 2
    assert capsys.readouterr().err == (
        "error: The notes need furo and ziamath, which pip has not installed here; run make notes, or pip install -r "
        "requirements-notes.txt.\n"
    )
    assert not (tmp_path / "site").exists()


def test_a_folder_with_other_files_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "thesis.tex").write_text("words")
    assert main(["--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err == (
        f"error: {tmp_path} exists and is not a site of notes; choose another folder with --out.\n"
    )
    assert (tmp_path / "thesis.tex").read_text() == "words"
