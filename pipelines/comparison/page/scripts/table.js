// The table of a group's runs: sorting, hiding and highlighting.
"use strict";

const headsOf = (view) => [...view.article.querySelectorAll(".runs th[data-name]")];
const valueOf = (row, column) => row.cells[column].dataset.value;
const idOf = (view, row) => view.runs[row.dataset.run].id; // the order of the runs changes as they train

function compareValues(a, b) {
  const numbers = [Number(a), Number(b)];
  if (!numbers.some(Number.isNaN)) return numbers[0] - numbers[1];
  return a.localeCompare(b, undefined, { numeric: true });
}

function sortBy(view, head, descending = head.getAttribute("aria-sort") === "ascending") {
  const column = head.cellIndex;
  for (const other of headsOf(view)) other.setAttribute("aria-sort", "none");
  head.setAttribute("aria-sort", descending ? "descending" : "ascending");
  view.rows.sort((one, other) => {
    const [a, b] = [valueOf(one, column), valueOf(other, column)];
    if (a === "" || b === "") return (a === "") - (b === "");  // empty cells last, in both directions
    return (descending ? -1 : 1) * compareValues(a, b) || one.dataset.run - other.dataset.run;
  });
  view.find(".runs tbody").append(...view.rows);
}

function setChecked(row, checked) {
  row.querySelector("input").checked = checked;
  row.classList.toggle("off", !checked);
}

function setUpTable(view) {
  const { rows } = view;
  for (const head of headsOf(view)) {
    head.querySelector("button").addEventListener("click", () => {
      sortBy(view, head);
      view.sorted = head; // by the user; the page's own order follows the metric
    });
  }

  const all = view.find(".runs thead input");
  const updateAll = () => {
    const numChecked = rows.filter((row) => !row.classList.contains("off")).length;
    all.checked = numChecked === rows.length;
    all.indeterminate = numChecked > 0 && numChecked < rows.length;
  };
  all.addEventListener("change", () => {
    for (const row of rows) if (!row.hidden) setChecked(row, all.checked);
    view.changed();
  });
  for (const row of rows) {
    const run = Number(row.dataset.run);
    row.querySelector("input").addEventListener("change", (event) => {
      setChecked(row, event.target.checked);
      updateAll();
      view.changed();
    });
    row.addEventListener("focusin", () => view.highlight(run));
    row.addEventListener("focusout", () => view.highlight(null));
    row.addEventListener("pointerenter", () => view.highlight(run));
    row.addEventListener("pointerleave", () => view.highlight(null));
    row.addEventListener("click", (event) => {
      if (!event.target.closest("label, a")) view.pin(run);
    });
  }

  view.keepers.table = {
    save: () => ({
      sorted: view.sorted && [view.sorted.dataset.name, view.sorted.getAttribute("aria-sort")],
      off: rows.filter((row) => row.classList.contains("off")).map((row) => idOf(view, row)),
      pinned: view.pinned === null ? null : view.runs[view.pinned].id,
    }),
    restore({ sorted, off, pinned }) {
      const head = sorted && headsOf(view).find((each) => each.dataset.name === sorted[0]);
      if (head) {
        sortBy(view, head, sorted[1] === "descending");
        view.sorted = head;
      }
      for (const row of rows) setChecked(row, !off.includes(idOf(view, row)));
      updateAll();
      const row = rows.find((each) => idOf(view, each) === pinned);
      if (row) view.pin(Number(row.dataset.run));
    },
  };
}
