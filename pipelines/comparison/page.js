// The table: sorting, filtering, hiding and highlighting runs. The plots update through `page.listeners`.
"use strict";

const data = JSON.parse(document.getElementById("data").textContent);
const rows = [...document.querySelectorAll(".runs tbody tr")];
const heads = [...document.querySelectorAll(".runs th[data-name]")];
const rowOf = new Map(rows.map((row) => [Number(row.dataset.run), row]));

const page = {
  listeners: [],      // called when the set of shown runs changes
  highlighters: [],   // called with the index of the highlighted run, or null
  brushed: null,      // set of the runs within the ranges selected in the parallel coordinates; null without any
  pinned: null,
  colors: [],
  keepers: {},        // by name: `save` returns what a reload keeps as JSON, `restore` takes it; reload.js calls them

  /** Indices of the runs that are checked and pass the filter and the selected ranges. */
  shown() {
    return rows.filter((row) => !row.hidden && !row.classList.contains("off"))
      .map((row) => Number(row.dataset.run)).sort((a, b) => a - b);
  },
  changed() {
    for (const listener of page.listeners) listener();
  },
  highlight(run) {
    const lit = run ?? page.pinned;
    for (const row of rows) row.classList.toggle("lit", row === rowOf.get(lit));
    for (const highlighter of page.highlighters) highlighter(lit);
  },
  pin(run) {
    page.pinned = page.pinned === run ? null : run;
    for (const row of rows) row.classList.toggle("pinned", row === rowOf.get(page.pinned));
    page.highlight(null);
  },
};

// ------------------------------------------------------------------------------------------------------------ colors

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const dark = matchMedia("(prefers-color-scheme: dark)");
const MAX_HUES = 8; // up to this many runs have a hue each; more are colored from worst to best
const HUES = {
  light: ["#2d5fb8", "#d9601a", "#1f8a5b", "#a6338f", "#8c6d12", "#0e8ea3", "#c0342b", "#5d6570"],
  dark: ["#86b4f5", "#ffa562", "#65d19c", "#ee8fd8", "#e0c04c", "#5ecbdc", "#ff8178", "#a8b1bc"],
};

/** A color between that of the worst (0) and of the best run (1). */
function blend(share) {
  const stops = ["--worst", "--poor", "--middle", "--good", "--best"].map(css);
  const position = Math.min(Math.max(share, 0), 1) * (stops.length - 1);
  const low = Math.min(Math.floor(position), stops.length - 2);
  const part = (color, i) => parseInt(color.slice(1 + 2 * i, 3 + 2 * i), 16);
  const mixed = [0, 1, 2].map((i) =>
    Math.round(part(stops[low], i) + (part(stops[low + 1], i) - part(stops[low], i)) * (position - low)));
  return `rgb(${mixed.join(",")})`;
}

/** Colors of the runs: `ranked`, by rank, for plots of settings; `colors`, distinct if few, for table and curves. */
function colorRuns() {
  const rankedCount = data.runs.filter((run) => run.best !== null).length;
  page.ranked = data.runs.map((run, i) => run.best === null ? css("--gray") : blend(1 - i / Math.max(1, rankedCount - 1)));
  const hues = HUES[dark.matches ? "dark" : "light"];
  page.colors = data.runs.length <= MAX_HUES ? data.runs.map((_, i) => hues[i]) : page.ranked;
  rowOf.forEach((row, run) => row.style.setProperty("--run", page.colors[run]));
  document.querySelector(".scale").hidden = data.runs.length <= MAX_HUES;
}

// ------------------------------------------------------------------------------------------------------------ sorting

const valueOf = (row, column) => row.cells[column].dataset.value;

function compareValues(a, b) {
  const numbers = [Number(a), Number(b)];
  if (!numbers.some(Number.isNaN)) return numbers[0] - numbers[1];
  return a.localeCompare(b, undefined, { numeric: true });
}

function sortBy(head, descending = head.getAttribute("aria-sort") === "ascending") {
  const column = head.cellIndex;
  for (const other of heads) other.setAttribute("aria-sort", "none");
  head.setAttribute("aria-sort", descending ? "descending" : "ascending");
  rows.sort((one, other) => {
    const [a, b] = [valueOf(one, column), valueOf(other, column)];
    if (a === "" || b === "") return (a === "") - (b === "");  // empty cells last, in both directions
    return (descending ? -1 : 1) * compareValues(a, b) || one.dataset.run - other.dataset.run;
  });
  document.querySelector(".runs tbody").append(...rows);
}

for (const head of heads) {
  head.querySelector("button").addEventListener("click", () => {
    sortBy(head);
    page.sorted = head; // by the user; the page's own order follows the metric
  });
}

// ---------------------------------------------------------------------------------------------------------- filtering

const TERM = /^([^<>=!:]+)(>=|<=|!=|>|<|=|:)(.+)$/;
const texts = new Map(rows.map((row) => [row, row.textContent.toLowerCase()]));

/** The column with a name, or whose name ends with it after a dot, slash or space, or begins with it. */
function findColumn(name) {
  const find = (test) => heads.find((head) => [head.dataset.short, head.dataset.name].some((n) => test(n.toLowerCase())));
  const head = find((n) => n === name)
    ?? find((n) => [".", "/", " "].some((separator) => n.endsWith(separator + name))) ?? find((n) => n.startsWith(name));
  return head ? head.cellIndex : null;
}

/** Returns a predicate: whether a row matches one term of the filter. */
function tester(word) {
  const [, name, operator, operand] = TERM.exec(word) ?? [];
  const column = name ? findColumn(name) : null;
  if (column === null) return (row) => texts.get(row).includes(word);
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

function filterRows() {
  const testers = document.getElementById("filter").value.toLowerCase().split(/\s+/).filter(Boolean).map(tester);
  let shown = 0;
  for (const row of rows) {
    const brushed = page.brushed === null || page.brushed.has(Number(row.dataset.run));
    row.hidden = !(brushed && testers.every((test) => test(row)));
    shown += !row.hidden;
  }
  document.getElementById("count").textContent = shown < rows.length ? `${shown} of ${rows.length}` : "";
  page.changed();
}

let timer = 0;
document.getElementById("filter").addEventListener("input", () => {
  clearTimeout(timer);
  timer = setTimeout(filterRows, 120);
});

// ------------------------------------------------------------------------------------------- hiding and highlighting

const all = document.querySelector(".runs thead input");

function setChecked(row, checked) {
  row.querySelector("input").checked = checked;
  row.classList.toggle("off", !checked);
}

function updateAll() {
  const numChecked = rows.filter((row) => !row.classList.contains("off")).length;
  all.checked = numChecked === rows.length;
  all.indeterminate = numChecked > 0 && numChecked < rows.length;
}

all.addEventListener("change", () => {
  for (const row of rows) if (!row.hidden) setChecked(row, all.checked);
  page.changed();
});
for (const row of rows) {
  const run = Number(row.dataset.run);
  row.querySelector("input").addEventListener("change", (event) => {
    setChecked(row, event.target.checked);
    updateAll();
    page.changed();
  });
  row.addEventListener("focusin", () => page.highlight(run));
  row.addEventListener("focusout", () => page.highlight(null));
  row.addEventListener("pointerenter", () => page.highlight(run));
  row.addEventListener("pointerleave", () => page.highlight(null));
  row.addEventListener("click", (event) => {
    if (!event.target.closest("label")) page.pin(run);
  });
}

// ----------------------------------------------------------------------------------------------------------- pictures

const enlarged = document.getElementById("enlarged");
for (const button of document.querySelectorAll(".picture")) {
  button.addEventListener("click", () => {
    const image = button.querySelector("img");
    enlarged.querySelector("img").src = image.src;
    enlarged.querySelector("p").textContent = image.alt;
    enlarged.showModal();
  });
}
enlarged.addEventListener("click", (event) => {
  if (event.target === enlarged) enlarged.close();
});

// ------------------------------------------------------------------------------------------------------------ reloads

const idOf = (row) => data.runs[row.dataset.run].id; // the order of the runs changes as they train

page.keepers.table = {
  save: () => ({
    sorted: page.sorted && [page.sorted.dataset.name, page.sorted.getAttribute("aria-sort")],
    filter: document.getElementById("filter").value,
    off: rows.filter((row) => row.classList.contains("off")).map(idOf),
    pinned: page.pinned === null ? null : data.runs[page.pinned].id,
  }),
  restore({ sorted, filter, off, pinned }) {
    const head = sorted && heads.find((each) => each.dataset.name === sorted[0]);
    if (head) {
      sortBy(head, sorted[1] === "descending");
      page.sorted = head;
    }
    for (const row of rows) setChecked(row, !off.includes(idOf(row)));
    updateAll();
    const row = rows.find((each) => idOf(each) === pinned);
    if (row) page.pin(Number(row.dataset.run));
    document.getElementById("filter").value = filter;
    filterRows();
  },
};

colorRuns();
