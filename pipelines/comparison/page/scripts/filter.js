// The filter of a group's table: words, and terms such as state:finished or lr>0.01.
"use strict";

const TERM = /^([^<>=!:]+)(>=|<=|!=|>|<|=|:)(.+)$/;

/** The column with a name, or whose name ends with it after a dot, slash or space, or begins with it. */
function findColumn(view, name) {
  const heads = headsOf(view);
  const find = (test) => heads.find((head) => [head.dataset.short, head.dataset.name].some((n) => test(n.toLowerCase())));
  const head = find((n) => n === name)
    ?? find((n) => [".", "/", " "].some((separator) => n.endsWith(separator + name))) ?? find((n) => n.startsWith(name));
  return head ? head.cellIndex : null;
}

/** Returns a predicate: whether a row matches one term of the filter. */
function tester(view, word) {
  const [, name, operator, operand] = TERM.exec(word) ?? [];
  const column = name ? findColumn(view, name) : null;
  if (column === null) return (row) => row.textContent.toLowerCase().includes(word);
  const number = Number(operand);
  return (row) => {
    const value = valueOf(row, column).toLowerCase();
    const order = value === "" ? NaN : Number.isNaN(number) ? value.localeCompare(operand) : Number(value) - number;
    switch (operator) {
      case ">": return order > 0;
      case "<": return order < 0;
      case ">=": return order >= 0;
      case "<=": return order <= 0;
      case "!=": return value !== operand && order !== 0;
      case "=": return value === operand || order === 0;
      default: return value.includes(operand);
    }
  };
}

function filterRows(view) {
  const words = view.find(".filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  const testers = words.map((word) => tester(view, word));
  let shown = 0;
  for (const row of view.rows) {
    const brushed = view.brushed === null || view.brushed.has(Number(row.dataset.run));
    row.hidden = !(brushed && testers.every((test) => test(row)));
    shown += !row.hidden;
  }
  view.find(".count").textContent = shown < view.rows.length ? `${shown} of ${view.rows.length}` : "";
  view.changed();
}

function setUpFilter(view) {
  const filter = view.find(".filter");
  filter.hidden = view.rows.length < 3;
  let timer = 0;
  filter.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(() => filterRows(view), 120);
  });
  view.keepers.filter = {
    save: () => filter.value,
    restore(text) {
      filter.value = text;
      filterRows(view);
    },
  };
}
