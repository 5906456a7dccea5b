// A view: what the table, plots and pictures of one group share. Each part registers what it redraws.
"use strict";

const data = JSON.parse(document.getElementById("data").textContent);

function makeView(article, group) {
  const rows = [...article.querySelectorAll(".runs tbody tr")];
  const rowOf = new Map(rows.map((row) => [Number(row.dataset.run), row]));
  const view = {
    article, group, rows, rowOf,
    runs: group.runs,
    listeners: [],      // called when the set of shown runs changes, or how they are grouped
    highlighters: [],   // called with the index of the highlighted run, or null
    pinners: [],        // called with the index of the pinned run, or null
    brushed: null,      // set of the runs within the ranges selected in the parallel coordinates; null without any
    pinned: null,
    groupBy: null,      // keys of the settings over whose equal values is averaged; null to show each run
    colors: [],
    ranked: [],
    keepers: {},        // by name: `save` returns what a reload keeps as JSON, `restore` takes it; reload.js calls them
    find: (selector) => article.querySelector(selector),

    /** Indices of the runs that are checked and pass the filter and the selected ranges. */
    shown: () => rows.filter((row) => !row.hidden && !row.classList.contains("off"))
      .map((row) => Number(row.dataset.run)).sort((a, b) => a - b),
    changed() {
      for (const listener of view.listeners) listener();
    },
    highlight(run) {
      const lit = run ?? view.pinned;
      for (const row of rows) row.classList.toggle("lit", row === rowOf.get(lit));
      for (const highlighter of view.highlighters) highlighter(lit);
    },
    pin(run) {
      view.pinned = view.pinned === run ? null : run;
      for (const row of rows) row.classList.toggle("pinned", row === rowOf.get(view.pinned));
      for (const pinner of view.pinners) pinner(view.pinned);
      view.highlight(null);
    },
  };
  view.descriptions = view.runs.map((run) => describe(view, run));
  return view;
}

/** The settings that tell a run from the others of its group, such as ["lr 0.1", "reg 0.01"]. */
const settingsOf = (view, run) => view.group.settings.filter(({ key }) => run.settings[key] != null)
  .map(({ key, name }) => `${name} ${shortNumber(run.settings[key])}`);

/** Id and settings of a run, as text of its tooltip. */
const describe = (view, run) =>
  [`<b>${escapeText(run.id)}</b>`, ...settingsOf(view, run).slice(0, 12).map(escapeText)].join("<br>");
