// The table: sorting, filtering, showing and highlighting runs. The plots follow it through `page.listeners`.
"use strict";

const data = JSON.parse(document.getElementById("data").textContent);
const rows = [...document.querySelectorAll(".runs tbody tr")];
const heads = [...document.querySelectorAll(".runs th[data-name]")];
const rowOf = new Map(rows.map((row) => [Number(row.dataset.run), row]));

const page = {
  listeners: [],      // called when other runs are shown
  highlighters: [],   // called with a run's number, or null
  brushed: null,      // the set of runs that the axes' brushes let through; null without brushes
  pinned: null,
  colors: [],

  /** Numbers of the runs that are ticked and pass the filter and the brushes. */
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
const FEW = 8; // so many runs get a hue each; more are colored from worst to best
const HUES = {
  light: ["#2d5fb8", "#d9601a", "#1f8a5b", "#a6338f", "#8c6d12", "#0e8ea3", "#c0342b", "#5d6570"],
  dark: ["#86b4f5", "#ffa562", "#65d19c", "#ee8fd8", "#e0c04c", "#5ecbdc", "#ff8178", "#a8b1bc"],
};

/** A color between worst (0) and best (1). */
function blend(share) {
  const stops = ["--worst", "--poor", "--middle", "--good", "--best"].map(css);
  const place = Math.min(Math.max(share, 0), 1) * (stops.length - 1);
  const low = Math.min(Math.floor(place), stops.length - 2);
  const part = (color, i) => parseInt(color.slice(1 + 2 * i, 3 + 2 * i), 16);
  const mixed = [0, 1, 2].map((i) =>
    Math.round(part(stops[low], i) + (part(stops[low + 1], i) - part(stops[low], i)) * (place - low)));
  return `rgb(${mixed.join(",")})`;
}

/** One color a run, by its rank: `ranked` for the plots of settings, `colors` for the table and the curves. */
function colorRuns() {
  const figures = data.runs.filter((run) => run.best !== null).length;
  page.ranked = data.runs.map((run, i) => run.best === null ? css("--gray") : blend(1 - i / Math.max(1, figures - 1)));
  const hues = HUES[dark.matches ? "dark" : "light"];
  page.colors = data.runs.length <= FEW ? data.runs.map((_, i) => hues[i]) : page.ranked;
  rowOf.forEach((row, run) => row.style.setProperty("--run", page.colors[run]));
  document.querySelector(".scale").hidden = data.runs.length <= FEW;
}

// ------------------------------------------------------------------------------------------------------------ sorting

const valueOf = (row, column) => row.cells[column].dataset.value;

function compareValues(a, b) {
  const numbers = [Number(a), Number(b)];
  if (!numbers.some(Number.isNaN)) return numbers[0] - numbers[1];
  return a.localeCompare(b, undefined, { numeric: true });
}

function sortBy(head) {
  const down = head.getAttribute("aria-sort") === "ascending";
  const column = head.cellIndex;
  for (const other of heads) other.setAttribute("aria-sort", "none");
  head.setAttribute("aria-sort", down ? "descending" : "ascending");
  rows.sort((one, other) => {
    const [a, b] = [valueOf(one, column), valueOf(other, column)];
    if (a === "" || b === "") return (a === "") - (b === "");  // nothing is last, whichever way
    return (down ? -1 : 1) * compareValues(a, b) || one.dataset.run - other.dataset.run;
  });
  document.querySelector(".runs tbody").append(...rows);
}

for (const head of heads) head.querySelector("button").addEventListener("click", () => sortBy(head));

// ---------------------------------------------------------------------------------------------------------- filtering

const TERM = /^([^<>=!:]+)(>=|<=|!=|>|<|=|:)(.+)$/;
const texts = new Map(rows.map((row) => [row, row.textContent.toLowerCase()]));

/** The column that a person means by a name: whole, or its end after a dot, slash or space. */
function columnCalled(name) {
  const named = (test) => heads.find((head) => [head.dataset.short, head.dataset.name].some((n) => test(n.toLowerCase())));
  const head = named((n) => n === name)
    ?? named((n) => [".", "/", " "].some((mark) => n.endsWith(mark + name))) ?? named((n) => n.startsWith(name));
  return head ? head.cellIndex : null;
}

/** Whether a row has what one word of the filter asks for. */
function tester(word) {
  const [, name, sign, wanted] = TERM.exec(word) ?? [];
  const column = name ? columnCalled(name) : null;
  if (column === null) return (row) => texts.get(row).includes(word);
  const number = Number(wanted);
  return (row) => {
    const value = valueOf(row, column).toLowerCase();
    const order = value === "" ? NaN : Number.isNaN(number) ? value.localeCompare(wanted) : Number(value) - number;
    switch (sign) {
      case ">": return order > 0;
      case "<": return order < 0;
      case ">=": return order >= 0;
      case "<=": return order <= 0;
      case "!=": return value !== wanted && order !== 0;
      case "=": return value === wanted || order === 0;
      default: return value.includes(wanted);
    }
  };
}

function filterRows() {
  const testers = document.getElementById("filter").value.toLowerCase().split(/\s+/).filter(Boolean).map(tester);
  let left = 0;
  for (const row of rows) {
    const brushed = page.brushed === null || page.brushed.has(Number(row.dataset.run));
    row.hidden = !(brushed && testers.every((test) => test(row)));
    left += !row.hidden;
  }
  document.getElementById("count").textContent = left < rows.length ? `${left} of ${rows.length}` : "";
  page.changed();
}

let waiting = 0;
document.getElementById("filter").addEventListener("input", () => {
  clearTimeout(waiting);
  waiting = setTimeout(filterRows, 120);
});

// ------------------------------------------------------------------------------------------- showing and highlighting

const all = document.querySelector(".runs thead input");

function tick(row, on) {
  row.querySelector("input").checked = on;
  row.classList.toggle("off", !on);
}

all.addEventListener("change", () => {
  for (const row of rows) if (!row.hidden) tick(row, all.checked);
  page.changed();
});
for (const row of rows) {
  const run = Number(row.dataset.run);
  row.querySelector("input").addEventListener("change", (event) => {
    tick(row, event.target.checked);
    const ticked = rows.filter((other) => !other.classList.contains("off")).length;
    all.checked = ticked === rows.length;
    all.indeterminate = ticked > 0 && ticked < rows.length;
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

colorRuns();
